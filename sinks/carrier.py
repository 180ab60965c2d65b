"""What hands mails on: a relay, or a command."""

from __future__ import annotations

from abc import ABC, abstractmethod

from sinks.letter import Letter
from zaqar_notify.models import Outcome


class Trouble(Exception):
    """No mail can be handed on now, or none of one kind, and the operator can mend that: it is no
    fault of the mail at hand.

    Args:
        detail: Why, in our own words.
        status: The relay's reply code, if it gave one.
        excerpt: What the relay said.
        kind: The mails that can't be handed on, such as those of one sender; "" for all.
        working: Connections that go on working, while no more are to be had.
    """

    def __init__(
        self,
        detail: str,
        *,
        status: int | None = None,
        excerpt: str = "",
        kind: str = "",
        working: int = 0,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.excerpt = excerpt
        self.kind = kind
        self.working = working


class Carrier(ABC):
    @abstractmethod
    async def hand_over(self, letter: Letter) -> Outcome:
        """Try once to hand the mail on. Bounded in time. Cancelling it abandons the try.

        Raises:
            Trouble: Nothing can be handed on now.
        """

    async def close(self) -> None:
        """Let go of connections. Idempotent."""
        return


class NoCarrier(Carrier):
    """Mail is off."""

    def __init__(self, detail: str) -> None:
        self._detail = detail

    async def hand_over(self, letter: Letter) -> Outcome:
        raise Trouble(self._detail)
