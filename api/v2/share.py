"""The body of a share: the paths, methods and lifetime of a pre-signed URL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from zaqar_notify.errors import BodyInvalid, ValidationFailed
from zaqar_notify.models import JsonObject
from zaqar_notify.rules.jsontext import read_json
from zaqar_notify.rules.signing import read_instant

_PATHS = ("messages", "claims", "subscriptions")
_PATHS_OF_TOPICS = ("messages", "subscriptions")
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_FIELDS = ("paths", "methods", "expires")
_LIFE = timedelta(days=1)


class Share(msgspec.Struct, frozen=True):
    """The full paths and the methods of a pre-signed URL, both sorted, until `expires_at`."""

    paths: list[str]
    methods: list[str]
    expires_at: datetime


def read_share(
    body: bytes, *, queue_href: str, of_topic: bool = False, now: datetime, max_seconds: int = 0
) -> Share:
    """Read `{"paths"?, "methods"?, "expires"?}`.

    Null and empty take the default: the path of messages, GET, and a day from now, or `max_seconds` if that is
    less. `max_seconds` is the longest life; 0: there is no limit.

    Raises:
        BodyInvalid: The body is no object.
        ValidationFailed: A field is wrong or unknown.
    """
    if not body:
        raise BodyInvalid("A JSON body is required; {} will do")
    document = read_json(body)
    if not isinstance(document, dict):
        raise BodyInvalid("The body must be a JSON object; {} takes every default")
    unknown = [field for field in document if field not in _FIELDS]
    if unknown:
        raise ValidationFailed(
            f"Unknown field {unknown[0][:80]!r}: a share has only paths, methods and expires"
        )
    paths = _PATHS_OF_TOPICS if of_topic else _PATHS
    names = _chosen(document, "paths", among=paths, default="messages")
    return Share(
        [f"{queue_href}/{name}" for name in names],
        _chosen(document, "methods", among=_METHODS, default="GET"),
        _expiry(document.get("expires"), now, max_seconds),
    )


def _chosen(document: JsonObject, field: str, *, among: Sequence[str], default: str) -> list[str]:
    words = document.get(field)
    if words is None or words == []:
        return [default]
    if not isinstance(words, list):
        raise ValidationFailed(f"{field} must be an array of strings from {', '.join(among)}")
    for word in words:
        if word not in among:
            raise ValidationFailed(
                f"{field} has {str(word)[:80]!r}; it takes only {', '.join(among)}"
            )
    return sorted(set(words))


def _expiry(value: object, now: datetime, max_seconds: int) -> datetime:
    longest = timedelta(seconds=max_seconds) if max_seconds else None
    if value is None:
        return (now + min(_LIFE, longest or _LIFE)).replace(microsecond=0)
    if not isinstance(value, str):
        raise ValidationFailed("expires must be a string, an ISO 8601 instant")
    try:
        expires = read_instant(value)
    except ValueError as error:
        raise ValidationFailed(
            f"expires {value[:80]!r} is not an ISO 8601 instant such as 2030-01-31T12:00:00"
        ) from error
    if expires <= now:
        raise ValidationFailed(f"expires {value[:80]!r} is not in the future")
    if longest is not None and expires > now + longest:
        raise ValidationFailed(
            f"expires {value[:80]!r} is too far away: a pre-signed URL lives at most {max_seconds} seconds here"
        )
    return expires
