"""The instant, and random ids. Tests replace both."""

from __future__ import annotations

import math
import secrets
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol


class Clock(Protocol):
    def now(self) -> datetime:
        """The present instant, aware, in UTC. Leases, delays and ttls are measured by it."""

    def on_host(self, instant: datetime) -> datetime:
        """An instant of this clock, as the host's clock shows it."""

    def of_host(self, instant: datetime) -> datetime:
        """An instant of the host's clock, such as a client's, as this one shows it."""

    def host_now(self) -> datetime:
        """The present instant by the host's clock: for signatures, and for the instants that receivers read."""


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def on_host(self, instant: datetime) -> datetime:
        return instant

    def of_host(self, instant: datetime) -> datetime:
        return instant

    def host_now(self) -> datetime:
        return self.now()


running_seconds: Callable[[], float] = partial(time.clock_gettime, time.CLOCK_BOOTTIME)
"""Seconds since some instant; changes of the host's clock do not matter, and suspended time counts."""


STEP_SECONDS = 0.1
"""A host's clock that differs by so much more than before was set."""


class SteadyClock:
    """Begins at an instant, and goes on by itself; changes of the host's clock do not matter.

    So nothing lasts longer or shorter than was promised. For a process that has its store alone. Slewing of
    the host's clock slows or hurries this clock by as much; the time of a sleeping host counts.
    """

    def __init__(
        self,
        *,
        begin: datetime | None = None,
        host: Clock | None = None,
        seconds: Callable[[], float] = running_seconds,
    ) -> None:
        """Start at `begin`; by default at the instant of the host's clock."""
        self._host = SystemClock() if host is None else host
        self._seconds = seconds
        self._begin = self._host.now() if begin is None else begin
        self._began_at = seconds()
        self._ahead = timedelta()

    def now(self) -> datetime:
        return self._begin + timedelta(seconds=self._seconds() - self._began_at)

    def host_ahead(self) -> timedelta:
        """By how much the host's clock is ahead; the same until that is set."""
        ahead = self._host.now() - self.now()
        if abs((ahead - self._ahead).total_seconds()) > STEP_SECONDS:
            self._ahead = ahead
        return self._ahead

    def on_host(self, instant: datetime) -> datetime:
        return _moved(instant, self.host_ahead())

    def of_host(self, instant: datetime) -> datetime:
        return _moved(instant, -self.host_ahead())

    def host_now(self) -> datetime:
        return self._host.now()


class StoreClock:
    """The store's clock, carried on between readings by `seconds`. It never goes back.

    After the first reading the clocks of hosts play no part: processes agree to within half a round
    trip to the store. Until then, and with a store that has no clock of
    its own, it is the clock of this host.
    """

    def __init__(
        self, *, host: Clock | None = None, seconds: Callable[[], float] = running_seconds
    ) -> None:
        self._host = SystemClock() if host is None else host
        self.seconds = seconds
        self._instant: datetime | None = None
        """The store's instant when `seconds` said `_at`."""
        self._at = 0.0
        self._latest: datetime | None = None

    def now(self) -> datetime:
        now = self._estimate(self.seconds())
        if self._latest is None or now > self._latest:
            self._latest = now
        return self._latest

    def on_host(self, instant: datetime) -> datetime:
        """Hosts of a cluster show the store's time, so that all show the same."""
        return instant

    def of_host(self, instant: datetime) -> datetime:
        return instant

    def host_now(self) -> datetime:
        return self.now()

    def adjust(self, instant: datetime, *, asked_at: float, answered_at: float) -> timedelta:
        """Learn that the store's clock said `instant` at some time between two of our `seconds`.

        It moves by no more than that proves: where in a slow answer the store read its clock is not
        known, and half the time of an answer that was held up would be a step of seconds.

        Returns:
            By how much this clock was put forward, or held back until the store's has caught up.
        """
        middle = (asked_at + answered_at) / 2
        if self._instant is None:
            self._instant, self._at = instant, middle
            return timedelta()
        drift = (instant - self._estimate(middle)).total_seconds()
        excess = max(0.0, abs(drift) - (answered_at - asked_at) / 2)
        step = timedelta(seconds=math.copysign(excess, drift))
        self._instant += step
        return step

    def _estimate(self, seconds: float) -> datetime:
        if self._instant is None:
            return self._host.now()
        return self._instant + timedelta(seconds=seconds - self._at)


def _moved(instant: datetime, by: timedelta) -> datetime:
    try:
        return instant + by
    except OverflowError:  # At an end of the calendar, as of a subscription for ever.
        return instant


def new_id() -> str:
    """A random id of 32 hex digits, safe in URLs and impossible to guess."""
    return uuid.uuid4().hex


def new_ordered_id(now: datetime) -> str:
    """As `new_id`, but ids made later sort later: 14 hex digits of microseconds, 18 random ones."""
    return f"{int(now.timestamp() * 1_000_000):014x}{secrets.token_hex(9)}"
