"""The dead letters of one claim: whether they stay on the store of the claim, or a job carries them.

A job carries those that go to another store, and those to a queue with subscribers: it posts them there, so that the
subscribers are notified, once.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from zaqar_notify.models import DeadLetter, QueueRef
from zaqar_notify.storage.base import Carrier, Carry, HeadMissing
from zaqar_notify.storage.place import Place
from zaqar_notify.storage.places import Places


class Letters:
    """A dead-letter queue on the claim's store does not move until the claim is over."""

    def __init__(
        self,
        places: Places,
        source: QueueRef,
        carrier: Carry,
        subscribed: Mapping[QueueRef, bool],
    ) -> None:
        """
        Args:
            carrier: Gives the jobs.
            subscribed: Of dead-letter queues that were looked at for this claim, whether they have subscribers.
        """
        self._subscribed = subscribed
        self._places = places
        self._source = source
        self._carrier = carrier
        self._entered: list[Place] = []

    def carry(self, to: DeadLetter) -> Carrier | None:
        """As `base.Carry`.

        Raises:
            HeadMissing: It is not known where the dead-letter queue is, or whether it has subscribers, or it moves
                just now.
        """
        place = self._places.known(to.queue)
        if place is None:
            raise HeadMissing(to.queue)
        if place.pool != self._places.pool_of(self._source):
            return self._carrier(to)
        if not place.is_open or to.queue not in self._subscribed:
            raise HeadMissing(to.queue)
        if self._subscribed[to.queue]:
            return self._carrier(to)
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
