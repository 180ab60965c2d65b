"""Rates of projects: token buckets in memory."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from zaqar_notify.clock import running_seconds

MOST_PROJECTS = 10_000
"""Projects whose buckets are kept. Clients can make up projects, so their number is bounded."""
ROUNDING_SECONDS = 1e-6
"""The sum of many small times is off by less."""


class Buckets:
    """A token bucket for each project. A full one holds the tokens of `burst_seconds`.

    A bucket is the instant at which it will be full again. So a project that is not known has a full
    bucket. A request may take more tokens than there are, if there are any; the next one waits until the debt is
    paid. So a post with many messages is never refused for ever.
    """

    def __init__(self, *, burst_seconds: float, now: Callable[[], float] = running_seconds) -> None:
        self._burst_seconds = burst_seconds
        self._now = now
        self._full_at: dict[str, float] = {}

    def take(self, project: str, tokens: int, *, per_second: int) -> float:
        """Take tokens from the project's bucket.

        Returns:
            0, or if the bucket is empty and nothing was taken: the seconds until it has a token.
        """
        now = self._now()
        full_at = self._full_at.get(project, now)
        if full_at < now:
            full_at = now
        elif (wait := full_at - now - self._burst_seconds + 1 / per_second) > ROUNDING_SECONDS:
            return wait
        if project not in self._full_at:
            self._make_room(now)
        self._full_at[project] = full_at + tokens / per_second
        return 0.0

    def _make_room(self, now: float) -> None:
        """Forget full buckets if there are too many; if that is not enough, a tenth of the others."""
        if len(self._full_at) < MOST_PROJECTS:
            return
        busy = {project: full_at for project, full_at in self._full_at.items() if full_at > now}
        too_many = max(0, len(busy) - MOST_PROJECTS * 9 // 10)
        self._full_at = dict(islice(busy.items(), too_many, None))
