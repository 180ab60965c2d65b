"""The dead letters of one claim: whether they stay on the store of the claim, or are carried to another one."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from zaqar_notify.models import DeadLetter, QueueRef
from zaqar_notify.storage.base import Carrier, Carry, HeadMissing
from zaqar_notify.storage.place import Place
from zaqar_notify.storage.places import Places


class Letters:
    """A dead-letter queue on the claim's store does not move until the claim is over."""

    def __init__(self, places: Places, source: QueueRef, carrier: Carry) -> None:
        """`carrier` gives those to queues of other stores."""
        self._places = places
        self._source = source
        self._carrier = carrier
        self._entered: list[Place] = []

    def carry(self, to: DeadLetter) -> Carrier | None:
        """As `base.Carry`.

        Raises:
            HeadMissing: It is not known where the dead-letter queue is, or it moves just now.
        """
        place = self._places.known(to.queue)
        if place is None:
            raise HeadMissing(to.queue)
        if place.pool != self._places.pool_of(self._source):
            return self._carrier(to)
        if not place.is_open:
            raise HeadMissing(to.queue)
        place.enter()
        self._entered.append(place)
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for place in self._entered:
            place.leave()
