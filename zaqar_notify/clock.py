"""The instant, and random ids: what tests replace to make time and names their own."""

from __future__ import annotations

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
