"""Wills: which subscriptions of WebSockets end, if the process that holds them does not come back.

A process leaves its will as a delayed message, and replaces it before it is due. A will that is due is carried
out by a worker. Each connection has an id of its own: if the client has come back meanwhile, its subscription
names another connection, and the will means it no more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from urllib.parse import quote

import msgspec

from zaqar_notify.delivery.records import OWED_TTL_SECONDS, PLAIN, encode
from zaqar_notify.models import NewMessage, QueueRef, Subscription

SCHEME = "websocket"
"""Of the subscribers that are clients of a WebSocket."""

CONNECTION = "connection_id"
"""The option that names the connection of a subscription."""

MOST_IN_WILL = 1000
"""Subscriptions in one will; a longer list makes several."""


def subscriber_of(client_id: str) -> str:
    """The subscriber's URI of the client of a WebSocket."""
    return f"{SCHEME}:{quote(client_id, safe='')}"


class Held(msgspec.Struct, frozen=True):
    """A subscription that a connection holds."""

    project: str
    queue: str
    subscriber: str
    connection_id: str

    @property
    def ref(self) -> QueueRef:
        return QueueRef(self.project, self.queue)

    def is_holder(self, subscription: Subscription) -> bool:
        """Whether the connection holds it still."""
        return (
            subscription.subscriber == self.subscriber
            and subscription.options.get(CONNECTION) == self.connection_id
        )


class Will(msgspec.Struct, frozen=True):
    """The record of a will."""

    version: int
    held: list[Held]


_decoder = msgspec.json.Decoder(Will)


def wills(held: Sequence[Held], *, delay_seconds: float) -> list[NewMessage]:
    """Wills for these subscriptions, due after the delay."""
    delay = math.ceil(delay_seconds)
    return [
        NewMessage(
            body=encode(Will(PLAIN, list(held[start : start + MOST_IN_WILL]))),
            ttl=OWED_TTL_SECONDS + delay,
            delay=delay,
        )
        for start in range(0, len(held), MOST_IN_WILL)
    ]


def read_will(body: bytes) -> Will:
    """Read a will.

    Raises:
        ValueError: It is malformed.
    """
    return _decoder.decode(body)


class Times(msgspec.Struct, frozen=True):
    """How long wills take, seconds, for a time of grace.

    A will is due when the process has missed the grace, counted from the last time at which it can have lived. A
    worker that finds it waits once more: a process that the store did not answer can replace it then.
    """

    grace: float

    @property
    def renewed_every(self) -> float:
        return self.grace / 3

    @property
    def due_after(self) -> float:
        return self.grace + 2 * self.renewed_every

    @property
    def doubted_for(self) -> int:
        return math.ceil(self.grace / 2)
