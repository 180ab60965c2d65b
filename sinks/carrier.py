"""A carrier hands mails on: a relay, or a command."""

from __future__ import annotations

from abc import ABC, abstractmethod

from sinks.letter import Letter
from zaqar_notify.models import Outcome


class Trouble(Exception):
    """No mail can be handed on now, or no mail of one kind, and the operator can mend that. The mail at hand
    is not at fault.

    Args:
        detail: The reason, in our own words.
        status: The relay's reply code, if it gave one.
        excerpt: The relay's own words.
        kind: The mails that can't be handed on, such as the mails of one sender; "" for all.
        working: The number of open connections that go on working, if only a further one was refused.
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
