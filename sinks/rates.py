"""The rate of mails that a project's quota permits: a token bucket for each project, in this process."""

from __future__ import annotations

import random as system_random
import time
from collections import OrderedDict
from collections.abc import Callable

BURST_SECONDS = 60.0
"""A project that was idle may send the mails of a minute at once."""

LONGEST_WAIT_SECONDS = 900.0
"""The longest time until a mail without a turn comes back."""

ROUNDING_SECONDS = 1e-6
"""The sum of many intervals is off by less."""

MAX_PROJECTS = 10_000
"""Projects whose buckets are remembered; the one that mailed longest ago is forgotten first, and has a full one then."""


class _Bucket:
    """When it is full again, and until when its mails have turns."""

    __slots__ = ("booked_until", "full_at")

    def __init__(self) -> None:
        self.full_at = 0.0
        self.booked_until = 0.0


class Rates:
    def __init__(
        self,
        *,
        timer: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = system_random.random,
    ) -> None:
        self._timer = timer
        self._random = random
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, project: str, *, per_minute: int) -> float:
        """Take a mail from the project's bucket.

        Returns:
            0; or if the bucket is empty and nothing was taken, the seconds until the mail's turn. Each such mail gets a
            turn of its own, so that they do not come back together.
        """
        now, interval = self._timer(), 60.0 / per_minute
        bucket = self._of(project)
        full_at = max(bucket.full_at, now) + interval
        if full_at - now <= max(BURST_SECONDS, interval) + ROUNDING_SECONDS:
            bucket.full_at = full_at
            return 0.0
        turn = max(full_at - BURST_SECONDS, bucket.booked_until)
        if turn - now >= LONGEST_WAIT_SECONDS:
            return LONGEST_WAIT_SECONDS * (1 + self._random()) / 2
        bucket.booked_until = turn + interval
        return turn - now

    def _of(self, project: str) -> _Bucket:
        bucket = self._buckets.setdefault(project, _Bucket())
        self._buckets.move_to_end(project)
        if len(self._buckets) > MAX_PROJECTS:
            self._buckets.popitem(last=False)
        return bucket
