"""Bodies that several versions have, as types, from which the documentation makes schemas and examples.

Their docstrings are descriptions in the OpenAPI document. Hot routes read and write bytes, and the
tests check every answer against these types. `api.zaqar.bodies` and its neighbours read the bodies of
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


class Posted(Exact):
    """Links to the posted messages, in their order."""

    resources: list[str]


Item: TypeAlias = str | float | bool | None


class Attribute(Exact):
    """A typed value beside a message's body; a binary one is base64 text."""

    type: Literal["String", "String.Array", "Number", "Binary"]
    value: str | float | list[Item]


Attributes: TypeAlias = dict[str, Attribute]


class Message(Exact):
    """A message of a queue; of a claimed one, `href` ends in its claim's id. `not_before` is there only for clients
    that ask for it, of a message that is not due yet."""

    id: str
    href: str
    ttl: Seconds
    age: Seconds
    body: Any
    checksum: str | UnsetType = UNSET
    not_before: str | UnsetType = UNSET
    attributes: Attributes | UnsetType = UNSET


class PoppedMessage(Exact):
    """A message that was removed, with the number of claims that it had been under."""

    id: str
    ttl: Seconds
    age: Seconds
    body: Any
    claim_id: None
    claim_count: Count
    checksum: str | UnsetType = UNSET
    attributes: Attributes | UnsetType = UNSET


class Link(Exact):
    """The address at which a listing goes on."""

    rel: Literal["next"]
    href: str


class MessagePage(Exact):
    """Messages, and where the page after them is. Messages that were asked for by id have no links."""

    messages: list[Message]
    links: list[Link] | UnsetType = UNSET


class PoppedMessages(Exact):
    """Messages that were removed and returned."""

    messages: list[PoppedMessage]


class ClaimedMessages(Exact):
    """The messages of a new claim, oldest first."""

    messages: list[Message]


class Claim(Exact):
    """A claim, with the messages that it still holds."""

    age: Seconds
    ttl: Seconds
    messages: list[Message]
    href: str


class Metadata(Struct, omit_defaults=True, rename="_{}".format):
    """A queue's metadata: any fields of its owner's, beside the reserved ones."""

    max_messages_post_size: int | UnsetType | None = UNSET
    default_message_ttl: int | UnsetType | None = UNSET
    default_message_delay: int | UnsetType | None = UNSET
    dead_letter_queue: str | UnsetType | None = UNSET
    dead_letter_queue_messages_ttl: int | UnsetType | None = UNSET
    max_claim_count: int | UnsetType | None = UNSET
    notify_of_disabling: str | UnsetType | None = UNSET
    enable_encrypt_messages: bool | UnsetType | None = UNSET
    retry_policy: dict[str, Any] | UnsetType | None = UNSET
    message_schema: dict[str, Any] | UnsetType | None = UNSET
    flavor: Any | UnsetType = UNSET


class StoredQueue(Exact):
    """A queue in a listing of a version before 2."""

    name: str
    href: str
    metadata: Metadata | UnsetType = UNSET


class StoredQueuePage(Exact):
    """Queues by name, and where the page after them is, in a version before 2."""

    queues: list[StoredQueue]
    links: list[Link]


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


class OperationStatus(Exact):
    """How one operation on the store went; of a failed one, `ref` is in the log."""

    succeeded: bool
    seconds: Annotated[float, Meta(ge=0)]
    ref: str | None


class MessageVolume(Exact):
    """How many messages are on all queues of a store."""

    free: Count
    claimed: Count
    total: Count


class HealthReport(Struct, omit_defaults=True):
    """The results of the last trial of the store. Where pools are registered, these are fields of each pool's object."""

    storage_reachable: bool | UnsetType = UNSET
    operation_status: dict[str, OperationStatus] | UnsetType = UNSET
    message_volume: MessageVolume | UnsetType = UNSET
    catalog_reachable: bool | UnsetType = UNSET


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
    """The place of a resource, as a URI template, or as a URI."""

    hints: Hints
    href: str | UnsetType = UNSET
    href_template: str | UnsetType = UNSET
    href_vars: dict[str, str] | UnsetType = UNSET


class Home(Struct):
    """The resources of this version."""

    resources: dict[str, HomeEntry]
