"""The token bucket of a subscription that bounds its requests per second.

One consumer in the cluster asks it, so it is exact. It fills evenly: at most a twentieth of a second's
requests, or one, begin together.
"""

from __future__ import annotations

TOGETHER_SECONDS = 0.05


class Bucket:
    """Times are of one monotonic clock, seconds."""

    def __init__(self, per_second: float, *, now: float, ready_at: float | None) -> None:
        """`ready_at` is when the next request may begin, if that is known; None: the bucket is full."""
        self._per_second = per_second
        self._most = max(1.0, per_second * TOGETHER_SECONDS)
        self._at = now
        self._tokens = self._most
        if ready_at is not None:
            self._tokens = min(self._most, 1.0 - (ready_at - now) * per_second)

    def wait(self, now: float) -> float:
        """Seconds until a request may begin; 0: now."""
        self._fill(now)
        return max(0.0, (1.0 - self._tokens) / self._per_second)

    def until_full(self, now: float) -> float:
        """Seconds until nothing has to be remembered any more."""
        self._fill(now)
        return max(0.0, (self._most - self._tokens) / self._per_second)

    def spend(self, now: float) -> None:
        """A request begins."""
        self._fill(now)
        self._tokens -= 1.0

    def _fill(self, now: float) -> None:
        self._tokens = min(self._most, self._tokens + (now - self._at) * self._per_second)
        self._at = now
