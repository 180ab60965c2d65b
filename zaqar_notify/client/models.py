"""The results of calls, and the message of a post. Field names are the wire's; durations are seconds."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, NoReturn

import msgspec


class RawJson(msgspec.Struct, frozen=True):
    """A body that is JSON text already, and is to be stored byte for byte.

    Raises:
        ValueError: The text is not JSON.
    """

    text: str

    def __post_init__(self) -> None:
        json.loads(self.text, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


class Attribute(msgspec.Struct, frozen=True):
    """A typed value beside a message's body: `String`, `String.Array`, `Number`, or `Binary` with base64 text."""

    type: str
    value: Any


class Message(msgspec.Struct, frozen=True):
    """A message as it was read. `raw` is its body, the JSON text just as it was posted. `not_before` is when it is
    due, of one that was posted for later and is listed before."""

    id: str
    ttl: int
    age: int
    raw: msgspec.Raw = msgspec.field(name="body")
    href: str = ""
    checksum: str | None = None
    not_before: datetime | None = None
    attributes: dict[str, Attribute] = {}

    @property
    def body(self) -> Any:  # any JSON value
        return json.loads(bytes(self.raw))


class Page(msgspec.Struct, frozen=True):
    """Messages, oldest first. `marker` is where the next page begins, also after an empty page."""

    messages: list[Message]
    marker: str | None


class QueueEnd(msgspec.Struct, frozen=True):
    """The oldest or newest message of a queue."""

    age: int
    created: datetime
    href: str

    @property
    def id(self) -> str:
        return self.href.rpartition("/")[2]


class QueueStats(msgspec.Struct, frozen=True):
    """How many messages there are; `free` counts delayed ones too."""

    claimed: int
    free: int
    total: int
    oldest: QueueEnd | None = None
    newest: QueueEnd | None = None


class QueueSummary(msgspec.Struct, frozen=True):
    """A queue in a list; `metadata` only when the list was asked for in detail."""

    name: str
    href: str
    metadata: dict[str, Any] | None = None


NEVER_SECONDS = 1000 * 365 * 86400
"""The ttl of a subscription that is not to expire: a thousand years."""


class Disabled(msgspec.Struct, frozen=True):
    """Why deliveries are held (`paused`, `gone` or `failing`), and since when. `waiting` counts them where one
    subscription is read."""

    reason: str
    since: datetime
    detail: str = ""
    waiting: int | None = None


class Replay(msgspec.Struct, frozen=True):
    """A replay (`kind`) or redrive, and how far it is: `running`, `done`, `cancelled` or `failed`. Of `total` things (None:
    not counted yet), `seen` were looked at, `moved` were taken, and `left` stay where they are."""

    id: str
    kind: str
    queue: str
    state: str
    total: int | None
    seen: int
    moved: int
    left: int
    per_second: int
    asked_at: datetime
    reason: str = ""
    ended_at: datetime | None = None
    subscription_id: str = ""
    target: str = ""

    @property
    def is_over(self) -> bool:
        return self.state != "running"


class Subscription(msgspec.Struct, frozen=True):
    """`expires_at` is None where a service does not say it, `disabled` while deliveries are made."""

    id: str
    source: str
    subscriber: str
    ttl: int
    age: int
    options: dict[str, Any] = {}
    confirmed: bool = True
    expires_at: datetime | None = None
    disabled: Disabled | None = None


class Tested(msgspec.Struct, frozen=True):
    """The ids of a test message, by which logs find it."""

    message_id: str
    delivery_id: str


class Undelivered(msgspec.Struct, frozen=True):
    """A delivery that was given up. `payload` is the JSON text that the subscriber did not get."""

    id: str
    delivery_id: str
    message_id: str
    verdict: str
    status: int | None
    detail: str
    attempts: int
    given_up_at: datetime
    payload: msgspec.Raw


class Suppression(msgspec.Struct, frozen=True):
    """An address that gets nothing from the project. The service keeps its digest as `id`, and its domain in `subscriber`.

    Its owner unsubscribed by a mail of the subscription, which is of the queue `source`.
    """

    id: str
    subscriber: str
    source: str
    subscription_id: str
    suppressed_at: datetime


class SignedUrl(msgspec.Struct, frozen=True):
    """Access to some paths of one queue until `expires` (UTC), for every holder of these values."""

    project: str
    paths: list[str]
    methods: list[str]
    expires: str
    signature: str

    @property
    def headers(self) -> dict[str, str]:
        """The headers of a request that uses this access; a Client-ID is needed, too."""
        return {
            "URL-Signature": self.signature,
            "URL-Expires": self.expires,
            "URL-Methods": ",".join(self.methods),
            "URL-Paths": ",".join(self.paths),
            "X-Project-ID": self.project,
        }
