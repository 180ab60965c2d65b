"""The answers and deliveries that clients and receivers saw, in the order of one clock.

Instants are seconds of the test process's monotonic clock. A *key* names a message, and is its body.
Except for posts, only answered requests are recorded: one without an answer may or may not have
had an effect.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias, TypeVar

import msgspec


class Posted(msgspec.Struct, frozen=True, tag=True):
    """A post was acknowledged; it was first sent at `began_at`, perhaps several times."""

    queue: str
    keys: list[str]
    began_at: float
    acknowledged_at: float
    tries: int


class Unanswered(msgspec.Struct, frozen=True, tag=True):
    """A post was sent once and got no answer, or 503: it may have been stored, whole or not."""

    queue: str
    keys: list[str]


class Observed(msgspec.Struct, frozen=True, tag=True):
    """An observer read one page, following `next` links from the queue's beginning."""

    observer: str
    queue: str
    keys: list[str]
    at: float


class Listed(msgspec.Struct, frozen=True, tag=True):
    """All that was on a queue when everything was over."""

    queue: str
    keys: list[str]


class Claimed(msgspec.Struct, frozen=True, tag=True):
    """A claim was granted between `asked_at` and `answered_at`. `ttl` is seconds."""

    consumer: str
    claim_id: str
    queue: str
    keys: list[str]
    asked_at: float
    answered_at: float
    ttl: int


class Renewed(msgspec.Struct, frozen=True, tag=True):
    """A renewal was confirmed; the lease lasts at least until `asked_at + ttl`."""

    claim_id: str
    asked_at: float
    ttl: int


class Released(msgspec.Struct, frozen=True, tag=True):
    """A release was asked for: from then on the claim may be over."""

    claim_id: str
    asked_at: float


class Deleted(msgspec.Struct, frozen=True, tag=True):
    """A message was deleted under its claim, at some instant between the two."""

    claim_id: str
    key: str
    asked_at: float
    answered_at: float


class LeaseLost(msgspec.Struct, frozen=True, tag=True):
    """The service said that a claim no longer holds, in answer to a request at `asked_at`."""

    claim_id: str
    asked_at: float


class Delivered(msgspec.Struct, frozen=True, tag=True):
    """A receiver was sent a message, and answered that it took it."""

    subscriber: str
    key: str
    delivery_id: str
    at: float


class Refused(msgspec.Struct, frozen=True, tag=True):
    """A receiver was sent a message and failed: it answered with an error, or hung up."""

    subscriber: str
    key: str
    at: float


class Fault(msgspec.Struct, frozen=True, tag=True):
    """A fault of a process: `kind` names it, as in "worker killed"."""

    kind: str
    at: float
    pause_seconds: float
    """For how long it stood still; 0 when it was killed."""


Event: TypeAlias = (
    Posted
    | Unanswered
    | Observed
    | Listed
    | Claimed
    | Renewed
    | Released
    | Deleted
    | LeaseLost
    | Delivered
    | Refused
    | Fault
)
Kind = TypeVar("Kind")

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Event).decode


class History:
    """Events as they were recorded."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.events = list(events)

    def record(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[Kind]) -> list[Kind]:
        return [event for event in self.events if isinstance(event, kind)]

    def write(self, path: Path) -> None:
        """As JSON lines."""
        path.write_bytes(b"".join(_encode(event) + b"\n" for event in self.events))

    @classmethod
    def read(cls, path: Path) -> History:
        return cls(_decode(line) for line in path.read_bytes().splitlines())
