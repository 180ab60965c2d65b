"""The checks of quotas. A refusal is counted by the name of the quota, never by project."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NoReturn

from zaqar_notify.errors import RateExceeded
from zaqar_notify.quotas.known import KnownLimits, defaults_of
from zaqar_notify.quotas.rates import Buckets
from zaqar_notify.settings import Settings
from zaqar_notify.storage.planes import Storage

HELD_SECONDS = 0.25
"""For so long a refusal is held back: clients that repeat at once then load the process little."""
POLL_AGAIN_SECONDS = 1.0
"""When a project with too many long polls may try again."""


class Quotas:
    """The quotas of all projects, in one process."""

    def __init__(self, storage: Storage, settings: Settings, refusals: Counter[str]) -> None:
        """`refusals` counts what is refused, by quota."""
        self.limits = KnownLimits(storage.control.quotas, defaults_of(settings))
        self._refusals = refusals
        self._requests = Buckets(burst_seconds=settings.quota_burst_seconds)
        self._messages = Buckets(burst_seconds=settings.quota_burst_seconds)
        self._polling: Counter[str] = Counter()

    async def admit_request(self, project: str) -> None:
        """Count a request.

        Raises:
            RateExceeded: The project makes too many.
        """
        rate = (await self.limits.of(project)).requests_per_second
        if rate and (wait := self._requests.take(project, 1, per_second=rate)):
            await self._refuse("requests_per_second", rate, wait)

    async def admit_messages(self, project: str, count: int) -> None:
        """Count messages that are about to be posted.

        Raises:
            RateExceeded: The project posts too many.
        """
        # Its request was admitted by these limits a moment ago.
        rate = self.limits.last_known_of(project).messages_per_second
        if rate and (wait := self._messages.take(project, count, per_second=rate)):
            await self._refuse("messages_per_second", rate, wait)

    @asynccontextmanager
    async def poll(self, project: str) -> AsyncIterator[None]:
        """A long poll of the project waits.

        Raises:
            RateExceeded: As many wait as may.
        """
        most = self.limits.last_known_of(project).long_polls
        if most and self._polling[project] >= most:
            await self._refuse("long_polls", most, POLL_AGAIN_SECONDS)
        self._polling[project] += 1
        try:
            yield
        finally:
            self._polling[project] -= 1
            if not self._polling[project]:
                del self._polling[project]

    def polls(self, project: str) -> int:
        """Long polls of the project that wait."""
        return self._polling[project]

    async def _refuse(self, name: str, limit: int, wait_seconds: float) -> NoReturn:
        self._refusals[name] += 1
        await asyncio.sleep(HELD_SECONDS)
        raise RateExceeded(name, limit, wait_seconds)
