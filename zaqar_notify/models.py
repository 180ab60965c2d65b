"""The values that cross layers. All are immutable; instants are aware UTC datetimes.

They are `msgspec` structs: hot paths build ten of them per request, and a struct costs a fifth of a
frozen dataclass.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import msgspec

JsonObject: TypeAlias = dict[str, Any]
"""A JSON object as a reader of JSON gives it: a queue's metadata, a subscription's options."""

INTERNAL_PROJECT = ""
"""The project of internal queues. No request can name it: an empty X-Project-ID is refused."""


def undisclosed(value: object) -> str:
    """The `__repr__` of values with secrets: logs and tracebacks show no more than the type."""
    return f"<{type(value).__name__}>"


TOPIC_MARK = "~"
"""Begins the stored name of a topic. No queue's name has it, and it sorts behind all characters that these have."""


class QueueRef(msgspec.Struct, frozen=True, order=True):
    """Which queue: names are unique within a project. A topic is a queue whose name begins with `TOPIC_MARK`."""

    project: str
    name: str

    @property
    def is_topic(self) -> bool:
        return self.name.startswith(TOPIC_MARK)

    @property
    def public_name(self) -> str:
        """The name that clients and subscribers know."""
        return self.name.removeprefix(TOPIC_MARK)


class Queue(msgspec.Struct, frozen=True):
    """A queue that was created; `metadata` is as stored, without the reserved defaults."""

    ref: QueueRef
    metadata: JsonObject
    created_at: datetime


class OldestNewest(msgspec.Struct, frozen=True):
    """One end of a queue, for its statistics."""

    id: str
    posted_at: datetime


class QueueStats(msgspec.Struct, frozen=True):
    """Messages that have not expired. `free` counts delayed ones too."""

    claimed: int
    free: int
    oldest: OldestNewest | None = None
    newest: OldestNewest | None = None

    @property
    def total(self) -> int:
        return self.claimed + self.free


class Origin(msgspec.Struct, frozen=True):
    """The id and the posting instant of a message that comes from another message store."""

    id: str
    posted_at: datetime


class NewMessage(msgspec.Struct, frozen=True):
    """A message about to be stored, with the defaults of its queue applied.

    `body` is the JSON text exactly as the client sent it; `ttl` and `delay` are seconds. A message with an
    `origin` keeps its id and posting instant; the store assigns those of all others. `key_id` names the key that
    has encrypted the body, if one has. A message with a `not_before` is stored as if it were posted at that instant,
    unless that has passed: until then it is delayed. `attributes` is their canonical text (`rules.attributes`); None:
    it has none.
    """

    body: bytes
    ttl: int
    delay: int = 0
    checksum: str | None = None
    origin: Origin | None = None
    key_id: str | None = None
    not_before: datetime | None = None
    attributes: bytes | None = None


class Message(msgspec.Struct, frozen=True):
    """A stored message.

    `claim_id` is the claim it is under at the instant of the read, live ones only; `claim_count`
    how often it has been claimed since it came to this queue. `attributes` are as in `NewMessage`.
    """

    id: str
    body: bytes
    ttl: int
    posted_at: datetime
    expires_at: datetime
    claim_id: str | None = None
    claim_count: int = 0
    checksum: str | None = None
    attributes: bytes | None = None


class Page(msgspec.Struct, frozen=True):
    """Messages in order; `marker` is the position of the last one, None when there is none."""

    messages: list[Message]
    marker: str | None


class Posted(msgspec.Struct, frozen=True):
    """The ids of a post's messages, in the order posted; whether it left deliveries to be made."""

    ids: list[str]
    owes_deliveries: bool


class Claim(msgspec.Struct, frozen=True):
    """A lease, with the messages it still holds, oldest first. `ttl` is seconds."""

    id: str
    ttl: int
    expires_at: datetime
    messages: list[Message]


class Leaving(msgspec.Struct, frozen=True):
    """A message that leaves its queue for one of another message store.

    `place` is where it was in the queue: another one each time that a message comes to a queue. The body is
    clear; `is_encrypted` says whether the store kept it encrypted.
    """

    message: NewMessage
    origin: Origin
    client_id: str
    place: str
    is_encrypted: bool = False


class DeadLetter(msgspec.Struct, frozen=True):
    """Where a message goes that was claimed `max_claim_count` times, and its ttl there.

    `ttl` None keeps the message's own ttl; it is counted anew from the move either way.
    """

    queue: QueueRef
    max_claim_count: int
    ttl: int | None


class KeptSecret(NamedTuple):
    """A secret of a subscription, the one after so many rotations, and until when it signs.

    Former ones are kept, and the present one if a client gave it. `given` is such a secret, encrypted; empty: it is
    derived.
    """

    generation: int
    until: datetime
    given: str = ""


class DisabledReason(StrEnum):
    """Why the deliveries of a subscription are held."""

    GONE = "gone"
    """The receiver answered 410."""
    FAILING = "failing"
    """Nothing but failures for as long as the operator permits."""
    PAUSED = "paused"
    """A client paused it."""


class Subscription(msgspec.Struct, frozen=True):
    """Interest in a queue. `ttl` is seconds.

    While `disabled_at` is set, all deliveries are held; `disabled_reason` and `disabled_detail` say why. Of one
    that an earlier release disabled, the reason is None: its receiver is gone. `failing_since` is the instant
    from which on attempts have only failed, once an attempt was repeated and failed again.
    `replay_id` names the replay that delivers its parked deliveries, while there are any.
    `secret_generation` counts the rotations of the signing secret; `kept_secrets` are the former ones that
    sign, too, and those that a client gave. `secret_rotations` are the instants of the last rotations, in order, if
    earlier releases made them.
    """

    id: str
    queue: QueueRef
    subscriber: str
    ttl: int
    options: JsonObject
    created_at: datetime
    expires_at: datetime
    confirmed: bool = False
    disabled_at: datetime | None = None
    secret_generation: int = 0
    secret_rotations: tuple[datetime, ...] = ()
    replay_id: str | None = None
    disabled_reason: DisabledReason | None = None
    disabled_detail: str = ""
    failing_since: datetime | None = None
    kept_secrets: tuple[KeptSecret, ...] = ()

    @property
    def is_paused(self) -> bool:
        return self.disabled_at is not None and self.disabled_reason is DisabledReason.PAUSED


class MessageType(StrEnum):
    """The `Message_Type` of a delivery."""

    NOTIFICATION = "Notification"
    SUBSCRIPTION_CONFIRMATION = "SubscriptionConfirmation"
    UNSUBSCRIBE_CONFIRMATION = "UnsubscribeConfirmation"


class Delivery(msgspec.Struct, frozen=True):
    """One message for one subscription, and the number of the try about to be made (from 1).

    `payload` is the JSON text the subscriber is to read, complete. `secrets` sign it, the current
    one first; `sent_at` is the instant of this try. `hops` counts the queues that the message
    crossed by queue subscriptions on its way here, `visited` are their names, with the one it comes
    from. A `batch` has the ids of its messages, and is their payloads as a JSON array; its other facts are those of the
    first one. All copies of a message have the same `origin`. `request_id` is that of the post, for logs. `posted_at` is
    None if the delivery is of a release that did not note it.
    """

    id: str
    kind: MessageType
    subscription: Subscription
    message_id: str
    payload: bytes
    message: NewMessage
    attempt: int
    sent_at: datetime
    secrets: list[str]
    hops: int = 0
    request_id: str = ""
    visited: tuple[str, ...] = ()
    origin: str = ""
    posted_at: datetime | None = None
    batch: tuple[str, ...] = ()

    __repr__ = undisclosed


class Verdict(StrEnum):
    """The result of one attempt, as a kind."""

    DELIVERED = "delivered"
    TRY_LATER = "try_later"
    REFUSED = "refused"
    GONE = "gone"
    """Refused for good, and the receiver wants no more: the subscription is disabled."""
    POSTPONED = "postponed"
    """Not tried, or failed on our own side: no try is spent, and the receiver is not blamed."""


class Outcome(msgspec.Struct, frozen=True):
    """The result of one try: `status` as the receiver gave it (HTTP or SMTP), if it gave one.

    `detail` is a short text for the operator, in our own words: it is logged. `excerpt` is the beginning
    of the receiver's answer: it is kept with a delivery given up, for its project, and never logged.
    `retry_after_seconds` is the pause that the receiver asked for (of a postponed one, the pause before the
    next attempt); all
    other deliveries to it wait as long.
    """

    verdict: Verdict
    status: int | None = None
    detail: str = ""
    retry_after_seconds: int | None = None
    excerpt: str = ""


Scope: TypeAlias = Literal["reader", "member", "admin", "operator"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""Each includes those before it."""


class Token(msgspec.Struct, frozen=True):
    """A tenant token. Its secret is not stored: `digest` is the secret's SHA-256.

    `project` is None only with the scope `operator`, which reaches every project. `queues` is a pattern of
    `rules.tokens.covers`; None: every queue. `expires_at` is None: the token does not expire.
    """

    id: str
    digest: bytes
    project: str | None
    scope: Scope
    queues: str | None
    name: str
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None


class FlavorRef(NamedTuple):
    """A flavor: names are unique within a project."""

    project: str
    name: str


class Pool(msgspec.Struct, frozen=True):
    """A registered message store, which takes new queues in proportion to its `weight`; 0: none.

    `uri` and `options` may have passwords. They are None while they can't be decrypted.
    A pool may be of a flavor that was never made, or is no more. `identity` is that of its store. One that
    `is_leaving` is about to be removed, and takes no new queues.
    """

    name: str
    uri: str | None
    weight: int
    options: JsonObject | None
    flavor: FlavorRef | None
    registered_at: datetime
    identity: str = ""
    is_leaving: bool = False

    __repr__ = undisclosed
