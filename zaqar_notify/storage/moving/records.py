"""A move, and how far it is, as they are stored."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec

from zaqar_notify.models import QueueRef

VERSION = 1


class State(StrEnum):
    """The step that a move is at."""

    WAITING = "waiting"
    """No process has begun with it, or a store gives no answer."""
    COPYING = "copying"
    SWITCHING = "switching"
    """It is copied, and stands still for a moment to be elsewhere; time and again, if that takes too long."""
    REMOVING = "removing"
    """It is on the other pool, and is removed from the former one."""
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"

    @property
    def is_over(self) -> bool:
        return self in {State.DONE, State.CANCELLED, State.FAILED}


class GivenUp(Exception):
    """The move can't be made, or is to be cancelled; the sentence says why."""

    def __init__(self, state: State, reason: str) -> None:
        super().__init__(reason)
        self.state = state


class Move(msgspec.Struct, frozen=True):
    """A queue is to be on the pool `target`."""

    id: str
    project: str
    queue: str
    target: str
    asked_at: datetime
    version: int = VERSION

    @property
    def ref(self) -> QueueRef:
        return QueueRef(self.project, self.queue)


class Copied(msgspec.Struct):
    """How far one queue is copied: the client's, or one of its subscriptions. `after` is the place behind the last
    page, None once all pages were read. `life` is the stay at the source that is copied, with this salt."""

    project: str
    name: str
    cursor: str
    life: str
    salt: bytes
    after: str | None = ""

    @property
    def ref(self) -> QueueRef:
        return QueueRef(self.project, self.name)


class Progress(msgspec.Struct):
    """How far a move is.

    `round` counts the copies that were begun anew; `total` the messages at their begin. `held_up_ms` are the times for which writes waited, one for each
    attempt to switch.
    """

    state: State = State.WAITING
    source: str = ""
    round: int = 0
    parts: list[Copied] = []
    copied: int = 0
    total: int = 0
    held_up_ms: list[int] = []
    reason: str = ""
    """Why it waits, has failed or was cancelled."""

    def name(self, move: Move) -> str:
        """Of this round, for the store that the queue comes to."""
        return f"{move.id}.{self.round}"


class Wish(msgspec.Struct, frozen=True):
    """In place of a progress: the move is to be cancelled."""

    cancel: bool


Entry = Progress | Wish
