"""A sink delivers to one kind of subscriber URI."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from zaqar_notify.models import Delivery, Outcome


class Sink(ABC):
    schemes: ClassVar[tuple[str, ...]]
    """The subscriber URI schemes it serves, lower case, e.g. `("http", "https")`."""

    @property
    def troubles(self) -> Sequence[str]:
        """What an operator has to mend before its deliveries go on, in our own words."""
        return ()

    @abstractmethod
    async def deliver(self, delivery: Delivery) -> Outcome:
        """Try once.

        Never sleeps, never retries, never raises for what the receiver or the network does: that is
        an `Outcome`. Bounded in time and memory whatever the receiver sends. Does not alter the
        delivery. What our own host lacks (files, memory) may be raised: it spends no try. Cancelling it abandons the try; whether the receiver got it is then unknown.
        """

    async def close(self) -> None:
        """Let go of connections. Idempotent."""
        return
