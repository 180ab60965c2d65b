"""The limits of every project, as this process knows them: defaults, and what projects have of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec

from zaqar_notify.auth.remembered import Remembered
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.rules.quotas import NAMES, Limits
from zaqar_notify.settings import Settings
from zaqar_notify.storage.quotas import QuotaRecords, Values

BELIEVED_SECONDS = 3.0
"""For so long a process believes that no quota has changed."""
PATIENCE_SECONDS = 1.0
"""For so long the first request waits for a store that gives no answer."""
_ALL = ""
"""The one key: the limits of all projects are remembered together."""


def defaults_of(settings: Settings) -> Limits:
    """The limits of a project without values of its own."""
    return Limits(**{name: getattr(settings, f"quota_{name}") for name in NAMES})


def limits_from(defaults: Limits, own: Values) -> Limits:
    """The limits of a project with these values of its own; names of later releases are passed over."""
    known = {name: value for name, value in own.items() if name in NAMES}
    return msgspec.structs.replace(defaults, **known)


class KnownLimits:
    """The limits of all projects. One small read every few seconds asks whether any has changed.

    While the store is away, the limits that are known go on; if none are known yet, the defaults do.
    """

    def __init__(self, records: QuotaRecords, defaults: Limits) -> None:
        self.defaults = defaults
        self._records = records
        self._own: Mapping[str, Limits] = {}
        self._revision = 0
        self._remembered = Remembered(
            self._load, seconds=BELIEVED_SECONDS, unknown_seconds=BELIEVED_SECONDS, most=1
        )

    async def of(self, project: str) -> Limits:
        if self._remembered.fresh(_ALL) is None:
            await self.look()
        return self._own.get(project, self.defaults)

    async def look(self) -> None:
        """Learn of changes, if the last look was long ago."""
        await self._remembered.get(_ALL)

    def last_known_of(self, project: str) -> Limits:
        """As of the last look, for callers that can't wait."""
        return self._own.get(project, self.defaults)

    async def _load(self, _: str) -> Mapping[str, Limits]:
        is_known = bool(self._revision)
        try:
            async with asyncio.timeout(None if is_known else PATIENCE_SECONDS):
                # Read before the values: a change that comes between is read twice, not missed.
                revision = await self._records.revision()
                if revision != self._revision:
                    every = await self._records.all()
                    self._own = {
                        project: limits_from(self.defaults, own) for project, own in every.items()
                    }
                    self._revision = revision
        except (StorageUnavailable, TimeoutError):
            if is_known:
                raise
        return self._own
