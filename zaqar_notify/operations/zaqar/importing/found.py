"""Queues, subscriptions and others, as they are in a Zaqar's stores."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias

import msgspec

from zaqar_notify.models import FlavorRef, JsonObject, QueueRef, Subscription, undisclosed

What: TypeAlias = Literal["queue", "subscription", "pool", "flavor", "topic", "message"]


class Odd(msgspec.Struct, frozen=True):
    """Something that is not imported, or not as it was; the reason is a sentence without a secret."""

    what: What
    project: str
    name: str
    reason: str


class FoundQueue(msgspec.Struct, frozen=True):
    ref: QueueRef
    metadata: JsonObject


class FoundPool(msgspec.Struct, frozen=True):
    name: str
    uri: str
    weight: int
    flavor: str | None
    options: JsonObject

    __repr__ = undisclosed


class FoundMessage(msgspec.Struct, frozen=True):
    """The place of a message in its queue; its body is read through Zaqar's API. `delay` is in seconds from its post."""

    id: str
    client_id: str
    delay: int
    is_claimed: bool


FoundSubscription: TypeAlias = Subscription
FoundFlavor: TypeAlias = FlavorRef

_ID = re.compile(r"[0-9A-Za-z-]{1,64}")
_EPOCH = datetime.fromtimestamp(0, UTC)
_LAST_INSTANT = datetime.max.replace(microsecond=0, tzinfo=UTC)


def subscription_of(
    ref: QueueRef,
    subscription_id: str,
    *,
    subscriber: Any,
    ttl: Any,
    created_at: datetime,
    expires_at: datetime,
    options: Any,
    confirmed: Any,
) -> Subscription:
    """A subscription as Zaqar keeps it; it is not checked yet against our rules.

    Raises:
        ValueError: A value has another type than Zaqar's.
    """
    if not _ID.fullmatch(subscription_id):
        raise ValueError("its id has another form than Zaqar's")
    return Subscription(
        id=subscription_id,
        queue=ref,
        subscriber=text_of(subscriber, "subscriber"),
        ttl=int(ttl),
        options=plain_object(options, "options"),
        created_at=created_at,
        expires_at=expires_at,
        confirmed=bool(confirmed),
    )


def instant(seconds: float) -> datetime:
    """So many seconds after 1970 began, or the last instant that there is."""
    try:
        return min(_EPOCH + timedelta(seconds=seconds), _LAST_INSTANT)
    except OverflowError:
        return _LAST_INSTANT


def text_of(value: Any, what: str) -> str:
    """The value, if it is a text.

    Raises:
        ValueError: It is something else.
    """
    if not isinstance(value, str):
        raise ValueError(f"its {what} is no text")
    return value


def plain(value: Any) -> Any:
    """The value of types that JSON has; drivers of databases have integers of their own, for example.

    Raises:
        ValueError: JSON has no such value.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise ValueError("it has a key that is no string")
        return {key: plain(each) for key, each in value.items()}
    raise ValueError(f"it has a value of the type {type(value).__name__}, which JSON lacks")


def plain_object(value: Any, what: str) -> JsonObject:
    """As `plain`; null stands for an empty object.

    Raises:
        ValueError: It is something else than an object.
    """
    value = {} if not value else plain(value)
    if not isinstance(value, dict):
        raise ValueError(f"its {what} is no object")
    return value
