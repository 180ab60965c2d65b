"""A clock that stands still until a test moves it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

START = datetime(2100, 1, 1, 12, 0, 0, 250_000, tzinfo=UTC)
"""Far ahead of any server's clock, so that reclaiming by a server's clock (TTL
indexes) touches nothing; not on a whole second, so that rounding shows; whole in milliseconds,
the finest that every store keeps."""


class ManualClock:
    def __init__(self, start: datetime = START) -> None:
        self._now = start
        self.host_ahead = timedelta()
        """By how much the host's clock was put forward, which this one does not follow."""

    def now(self) -> datetime:
        return self._now

    def on_host(self, instant: datetime) -> datetime:
        return instant + self.host_ahead

    def of_host(self, instant: datetime) -> datetime:
        return instant - self.host_ahead

    def host_now(self) -> datetime:
        return self._now + self.host_ahead

    def advance(self, *, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
