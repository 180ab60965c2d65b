"""The bodies of this version as types, from which the documentation makes schemas and examples.

Their docstrings are descriptions in the OpenAPI document. Hot routes read and write bytes, and the
tests check every answer against these types. `api.v2.bodies` and its neighbours read the bodies of
requests, and refuse them with sentences of their own.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType

Seconds = Annotated[int, Meta(ge=0)]
Limit = Annotated[int, Meta(ge=1)]
Count = Annotated[int, Meta(ge=0)]


class Exact(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """An object with no other fields."""


# Messages.


class NewMessage(Struct, omit_defaults=True):
    """A message to be posted. `ttl` and `delay` are seconds; an absent one takes the queue's default."""

    body: Any
    ttl: int | UnsetType = UNSET
    delay: int | UnsetType = UNSET


class Post(Struct):
    """Messages to be posted, all or none."""

    messages: Annotated[list[NewMessage], Meta(min_length=1)]


class Posted(Exact):
    """Links to the posted messages, in their order."""

    resources: list[str]


class Message(Exact):
    """A message of a queue; of a claimed one, `href` ends in its claim's id."""

    id: str
    href: str
    ttl: Seconds
    age: Seconds
    body: Any
    checksum: str | UnsetType = UNSET


class PoppedMessage(Exact):
    """A message that was removed, with the number of claims that it had been under."""

    id: str
    ttl: Seconds
    age: Seconds
    body: Any
    claim_id: None
    claim_count: Count
    checksum: str | UnsetType = UNSET


class Link(Exact):
    """Where a listing goes on."""

    rel: Literal["next"]
    href: str


class MessagePage(Exact):
    """Messages, and where the page after them is. Messages that were asked for by id have no links."""

    messages: list[Message]
    links: list[Link] | UnsetType = UNSET


class PoppedMessages(Exact):
    """Messages that were removed and returned."""

    messages: list[PoppedMessage]


# Claims.


class ClaimedMessages(Exact):
    """The messages of a new claim, oldest first."""

    messages: list[Message]


class Claim(Exact):
    """A claim, with the messages that it still holds."""

    age: Seconds
    ttl: Seconds
    messages: list[Message]
    href: str


# Queues.


class Metadata(Struct, omit_defaults=True, rename="_{}".format):
    """A queue's metadata: any fields of its owner's, beside the reserved ones."""

    max_messages_post_size: int | UnsetType | None = UNSET
    default_message_ttl: int | UnsetType | None = UNSET
    default_message_delay: int | UnsetType | None = UNSET
    dead_letter_queue: str | UnsetType | None = UNSET
    dead_letter_queue_messages_ttl: int | UnsetType | None = UNSET
    max_claim_count: int | UnsetType | None = UNSET
    enable_encrypt_messages: bool | UnsetType | None = UNSET
    retry_policy: dict[str, Any] | UnsetType | None = UNSET
    flavor: Any | UnsetType = UNSET


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


class End(Exact):
    """The oldest or the newest message."""

    age: Seconds
    created: str
    href: str


class Counts(Exact):
    """How many messages there are; without any, there is neither an oldest nor a newest one."""

    claimed: Count
    free: Count
    total: Count
    oldest: End | UnsetType = UNSET
    newest: End | UnsetType = UNSET


class Stats(Exact):
    """The statistics of a queue."""

    messages: Counts


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


class Subscription(Exact):
    """A subscription of a queue."""

    id: str
    source: str
    subscriber: str
    ttl: Seconds
    age: Seconds
    options: dict[str, Any]
    confirmed: bool
    expires_at: str


class SubscriptionPage(Exact):
    """Subscriptions in order of creation, and where the page after them is."""

    subscriptions: list[Subscription]
    links: list[Link]


class Confirmation(Struct):
    """Whether the subscriber wants to be notified."""

    confirmed: bool


class SigningSecrets(Exact):
    """Standard Webhooks secrets; the former ones still sign, too."""

    secret: str
    former_secrets: list[str]


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


class UndeliveredPage(Exact):
    """Deliveries that were given up, oldest first, and where the page after them is."""

    undelivered: list[Undelivered]
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


class OperationStatus(Exact):
    """How one operation on the store went; of a failed one, `ref` is in the log."""

    succeeded: bool
    seconds: Annotated[float, Meta(ge=0)]
    ref: str | None


class HealthReport(Exact):
    """The results of the last trial of the store."""

    storage_reachable: bool
    operation_status: dict[str, OperationStatus]


class Hints(Struct, omit_defaults=True, rename={"accept_post": "accept-post"}):
    """The methods and formats that a resource takes."""

    allow: list[str]
    formats: dict[str, Any]
    accept_post: list[str] | UnsetType = UNSET


class HomeEntry(
    Struct,
    omit_defaults=True,
    rename={"href_template": "href-template", "href_vars": "href-vars"},
):
    """Where a resource is, as a URI template."""

    href_template: str
    hints: Hints
    href_vars: dict[str, str] | UnsetType = UNSET


class Home(Struct):
    """The resources of this version."""

    resources: dict[str, HomeEntry]
