"""The instant, and random ids: what tests replace to make time and names their own."""

from __future__ import annotations

import secrets
import uuid
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    def now(self) -> datetime:
        """The present instant, aware, in UTC."""


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


def new_id() -> str:
    """A random id of 32 hex digits, safe in URLs and impossible to guess."""
    return uuid.uuid4().hex


def new_ordered_id(now: datetime) -> str:
    """As `new_id`, but ids made later sort later: 14 hex digits of microseconds, 18 random ones."""
    return f"{int(now.timestamp() * 1_000_000):014x}{secrets.token_hex(9)}"
