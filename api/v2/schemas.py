"""The bodies of version 2 alone, as types; `api.zaqar.schemas` has those that it shares with former versions."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType

from api.zaqar.schemas import Attribute, Attributes, Count, Exact, Item, Link, Metadata, Seconds
from zaqar_notify.models import undisclosed
from zaqar_notify.rules.webhook_signing import MAX_OVERLAP_SECONDS

# Messages.


class NewMessage(Struct, omit_defaults=True):
    """A message to be posted. `ttl` and `delay` are seconds; an absent one takes the queue's default. `not_before` is an
    ISO 8601 instant with its zone, in the place of `delay`. An attribute is a type with a value, or the value alone: a
    string, a number, or an array of both."""

    body: Any
    ttl: int | UnsetType = UNSET
    delay: int | UnsetType = UNSET
    not_before: str | UnsetType = UNSET
    attributes: dict[str, Attribute | str | float | list[Item]] | UnsetType | None = UNSET


class Post(Struct):
    """Messages to be posted, all or none."""

    messages: Annotated[list[NewMessage], Meta(min_length=1)]


# Queues.


class PatchOperation(Struct, omit_defaults=True):
    """One change of a queue's metadata; `remove` needs no value."""

    op: Literal["add", "replace", "remove"]
    path: str
    value: Any | UnsetType = UNSET


class Queue(Exact):
    """A queue in a listing."""

    name: str
    href: str
    metadata: Metadata | UnsetType = UNSET


class QueuePage(Exact):
    """Queues by name, and where the page after them is."""

    queues: list[Queue]
    links: list[Link]
    count: Count | UnsetType = UNSET


class TopicPage(Exact):
    """Topics by name, and where the page after them is."""

    topics: list[Queue]
    links: list[Link]


class Purge(Struct):
    """The contents of a queue that are to be removed."""

    resource_types: list[Literal["messages", "subscriptions"]]


class Share(Exact):
    """The paths, methods and end of a pre-signed URL; null takes the default."""

    paths: list[Literal["messages", "claims", "subscriptions"]] | None = None
    methods: list[Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]] | None = None
    expires: str | None = None


class Shared(Exact):
    """A pre-signed URL."""

    project: str
    methods: list[str]
    expires: str
    paths: list[str]
    signature: str


# Subscriptions.


Nothing = Annotated[list[Any], Meta(max_length=0)]
"""An empty array: some clients send it for an empty object."""

Options: TypeAlias = dict[str, Any] | Nothing


class NewSubscription(Struct, omit_defaults=True):
    """The subscriber's URI, the life of the subscription in seconds, and the options of deliveries."""

    subscriber: str
    ttl: int | None = None
    options: Options | None = None


class SubscriptionChange(Struct, omit_defaults=True):
    """The new values of a subscription; an absent field keeps its value."""

    subscriber: str | None = None
    ttl: int | None = None
    options: Options | None = None


class Subscribed(Exact):
    """The id of the subscription."""

    subscription_id: str


class Disabled(Exact):
    """Why deliveries to a subscription are held, and since when. `waiting` counts them, where one subscription is
    shown."""

    reason: Literal["paused", "gone", "failing"]
    since: str
    detail: str
    waiting: Count | UnsetType = UNSET


class Test(Struct, omit_defaults=True):
    """The body of a test message, any JSON value; `{"test": true}` by default."""

    body: Any | UnsetType = UNSET


class Tested(Exact):
    """The ids under which logs have the test."""

    message_id: str
    delivery_id: str


class Pause(Struct, omit_defaults=True):
    """Why the subscription is paused: one line, shown with it."""

    why: Annotated[str, Meta(max_length=256)] = ""


Ids = Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(max_length=1000)]
Instant = Annotated[datetime, Meta(tz=True)]


class NewReplay(Struct, omit_defaults=True):
    """The deliveries to replay: those with one of the ids, if any are given, within the time. `since` and `until` are
    about when a message was posted or, of a delivery that was given up, when that was."""

    outcome: Literal["undelivered", "delivered", "any"] = "undelivered"
    delivery_ids: Ids = []
    message_ids: Ids = []
    since: Instant | None = None
    until: Instant | None = None
    per_second: int | None = None


class NewRedrive(Struct, omit_defaults=True):
    """The queue to which the messages go; without it, each goes to where it came from."""

    target: str | None = None
    per_second: int | None = None


class Replay(Exact):
    """A replay or redrive, and how far it is. Of `total` things (null: not counted yet), `seen` were looked at, `moved` were
    taken, and `left` stay where they are."""

    id: str
    kind: Literal["replay", "redrive"]
    queue: str
    state: Literal["running", "done", "cancelled", "failed"]
    total: Count | None
    seen: Count
    moved: Count
    left: Count
    per_second: Count
    reason: str
    asked_at: str
    ended_at: str | None
    href: str
    subscription_id: str | UnsetType = UNSET
    target: str | UnsetType = UNSET


class ReplayPage(Exact):
    """The project's replays and redrives, in the order in which they were asked for."""

    replays: list[Replay]


class Subscription(Exact):
    """A subscription of a queue. `disabled` is there only while deliveries are held."""

    id: str
    source: str
    subscriber: str
    ttl: Seconds
    age: Seconds
    options: dict[str, Any]
    confirmed: bool
    expires_at: str
    disabled: Disabled | UnsetType = UNSET


class SubscriptionPage(Exact):
    """Subscriptions in order of creation, and where the page after them is."""

    subscriptions: list[Subscription]
    links: list[Link]


class Confirmation(Struct):
    """Whether the subscriber wants to be notified."""

    confirmed: bool


class Rotation(Struct, omit_defaults=True):
    """How long the present secret and key sign beside the new ones, and the new secret, if the client has one."""

    overlap_seconds: Annotated[int, Meta(ge=0, le=MAX_OVERLAP_SECONDS)] | UnsetType = UNSET
    secret: Annotated[str, Meta(pattern="^whsec_[A-Za-z0-9+/=]+$")] | UnsetType = UNSET

    __repr__ = undisclosed


class PublicKeys(Exact):
    """Standard Webhooks public keys; the private keys of the former ones still sign, too."""

    public_key: str
    former_public_keys: list[str]


class SigningSecrets(Exact):
    """Standard Webhooks secrets; the former ones still sign, too."""

    secret: str
    former_secrets: list[str]

    __repr__ = undisclosed


class Undelivered(Exact):
    """A delivery that was given up, with the payload that the subscriber did not get."""

    id: str
    delivery_id: str
    message_id: str
    verdict: str
    status: int | None
    detail: str
    attempts: Count
    given_up_at: str
    payload: Any
    attributes: Attributes | UnsetType = UNSET


class UndeliveredPage(Exact):
    """Deliveries that were given up, oldest first, and where the page after them is."""

    undelivered: list[Undelivered]
    links: list[Link]


class Suppression(Exact):
    """An address that has unsubscribed. `subscriber` has its scheme and domain; its owner unsubscribed by a mail of the
    subscription."""

    id: str
    subscriber: str
    source: str
    subscription_id: str
    suppressed_at: str


class SuppressionPage(Exact):
    """Suppressions in order of id, and where the page after them is."""

    suppressions: list[Suppression]
    links: list[Link]


# The service.


class Quota(Exact):
    """A quota. `limit` 0: none. `is_default`: the project has no value of its own. `used` is null for rates, for what
    is under way, and while it is not known."""

    limit: Count
    is_default: bool
    used: Count | None


class Quotas(Exact):
    """The quotas of a project, by name."""

    project_id: str
    quotas: dict[str, Quota]


class NewQuotas(Struct, omit_defaults=True):
    """Values that a project is to have of its own; null gives a quota back its default. Others stay."""

    queues: Count | UnsetType | None = UNSET
    subscriptions: Count | UnsetType | None = UNSET
    subscriptions_per_queue: Count | UnsetType | None = UNSET
    stored_bytes: Count | UnsetType | None = UNSET
    messages_per_second: Count | UnsetType | None = UNSET
    requests_per_second: Count | UnsetType | None = UNSET
    long_polls: Count | UnsetType | None = UNSET
    deliveries: Count | UnsetType | None = UNSET
    mails_per_minute: Count | UnsetType | None = UNSET
