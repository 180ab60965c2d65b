"""`Retry-After`: the wait that a receiver asks for. A doubtful value is read as the longer wait.

Source: RFC 9110, 10.2.3.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_SECONDS = 86400
"""A longer wait would let a receiver keep deliveries back for ever."""

UNREADABLE_SECONDS = 60
"""The wait for a value that can't be read."""

_NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?|\.[0-9]+")


def seconds_to_wait(values: Iterable[str], sent_at: datetime) -> int | None:
    """The longest wait that the headers ask for, whole seconds from `sent_at`; None without a header.

    Rounded up, so that no try is early; a day at most.
    """
    waits = [_wait(value.strip(), sent_at) for value in values]
    return min(math.ceil(max(waits)), LONGEST_SECONDS) if waits else None


def _wait(value: str, sent_at: datetime) -> float:
    if _NUMBER.fullmatch(value):
        return min(float(value), LONGEST_SECONDS)  # So many digits may be infinite.
    try:
        instant = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return UNREADABLE_SECONDS
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=UTC)
    return max((instant - sent_at).total_seconds(), 0)
