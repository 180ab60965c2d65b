"""The wait that a receiver asks for: `Retry-After`, its relatives, and the headers of rate limits.

`Retry-After` and its relatives count on any status. The headers of a rate limit come with every answer; they count
once nothing remains of the limit, or with 429 or 503. A doubtful value is read as the longer wait.

Source: RFC 9110, 10.2.3; draft-ietf-httpapi-ratelimit-headers; the headers of widely used services.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TypeAlias

Fields: TypeAlias = Sequence[tuple[str, str]]
"""Headers, by name in lower case, with their values; a name may come again."""

LONGEST_SECONDS = 86400
"""A longer wait would let a receiver keep deliveries back for ever."""

UNREADABLE_SECONDS = 60
"""The wait for a value that can't be read."""

_MILLISECONDS = frozenset({"retry-after-ms", "x-retry-after-ms", "x-ms-retry-after-ms"})
_AGAIN = frozenset({"retry-after", "x-retry-after"}) | _MILLISECONDS
_RESET = frozenset(
    {
        "ratelimit-reset",
        "x-ratelimit-reset",
        "x-rate-limit-reset",
        "x-ratelimit-reset-after",
    }
)
_REMAINING = frozenset({"ratelimit-remaining", "x-ratelimit-remaining", "x-rate-limit-remaining"})
_LIMIT = "ratelimit"
"""One header with all: `"default";r=0;t=30`, or `limit=100, remaining=0, reset=30` in earlier drafts."""

NAMES = frozenset(name.encode() for name in (*_AGAIN, *_RESET, *_REMAINING, _LIMIT))

_OVER_LIMIT = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
_NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?|\.[0-9]+")
_DURATION = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:ms|s|m|h))+")
_PART_OF_DURATION = re.compile(r"([0-9.]+)(ms|s|m|h)")
_UNIT_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
_REMAINS_IN_LIMIT = re.compile(r"\b(?:r|remaining)=([0-9]+)")
_RESETS_IN_LIMIT = re.compile(r"\b(?:t|reset)=([0-9]+)")


def asks_again(fields: Fields) -> bool:
    """Whether the receiver expects this very request again, whatever the status."""
    return any(name in _AGAIN for name, _ in fields)


def seconds_to_wait(fields: Fields, status: int, sent_at: datetime) -> int | None:
    """The longest wait that the headers ask for, whole seconds from `sent_at`; None: they ask for none.

    Rounded up, so that no try is early; a day at most. `Retry-After` is preferred to the headers of a rate limit.
    """
    waits = [_wait(name, value, sent_at) for name, value in fields if name in _AGAIN]
    waits = waits or list(_waits_of_limits(fields, status, sent_at))
    return min(math.ceil(max(waits)), LONGEST_SECONDS) if waits else None


def _waits_of_limits(fields: Fields, status: int, sent_at: datetime) -> Iterator[float]:
    is_over = status in _OVER_LIMIT or any(
        name in _REMAINING and value.strip() == "0" for name, value in fields
    )
    for name, value in fields:
        if is_over and name in _RESET:
            yield _wait(name, value, sent_at)
        elif name == _LIMIT:
            yield from _waits_of_limit(value)


def _waits_of_limit(value: str) -> Iterator[float]:
    for limit in value.split(",") if '"' in value else [value]:
        remains, resets = _REMAINS_IN_LIMIT.search(limit), _RESETS_IN_LIMIT.search(limit)
        if remains and resets and not int(remains[1][:9]):
            yield float(resets[1][:9])


def _wait(name: str, value: str, sent_at: datetime) -> float:
    value = value.strip()
    if name in _MILLISECONDS and _NUMBER.fullmatch(value):
        return min(float(value) / 1000, LONGEST_SECONDS)
    if _NUMBER.fullmatch(value):
        return _seconds(min(float(value), 1e15), sent_at)  # So many digits may be infinite.
    if _DURATION.fullmatch(value):
        return sum(
            float(number) * _UNIT_SECONDS[unit] for number, unit in _PART_OF_DURATION.findall(value)
        )
    instant = _instant(value)
    return UNREADABLE_SECONDS if instant is None else max((instant - sent_at).total_seconds(), 0)


def _seconds(number: float, sent_at: datetime) -> float:
    """Seconds; or an instant about now, in seconds or milliseconds since 1970."""
    for since_1970 in (number, number / 1000):
        wait = since_1970 - sent_at.timestamp()
        if abs(wait) <= LONGEST_SECONDS:
            return max(wait, 0)
    return min(number, LONGEST_SECONDS)


def _instant(value: str) -> datetime | None:
    """A date of HTTP, in any of its three forms, or of ISO 8601."""
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            instant = read(value)
        except (ValueError, OverflowError):
            continue
        return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
    return None
