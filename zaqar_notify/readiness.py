"""Whether the store acknowledges writes, learnt from a small one.

All callers share the result of the last write; a call makes another when that is old.
"""

from __future__ import annotations

import asyncio
import math
import time

from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.storage.planes import Storage

READY_SECONDS = 2.0
"""For so long the last write tells how it is."""

ANSWER_SECONDS = 2.0
"""Within which a store acknowledges that is in order."""


class Readiness:
    """Of one process and its store."""

    def __init__(self) -> None:
        self._failure: StorageUnavailable | None = None
        self._known_at = -math.inf
        self._began_at = -math.inf
        self._proving: asyncio.Task[None] | None = None

    async def is_able(self, storage: Storage) -> bool:
        """Whether the store acknowledges writes."""
        try:
            await self.check(storage)
        except StorageUnavailable:
            return False
        return True

    async def check(self, storage: Storage) -> None:
        """Return when the store acknowledges writes; waits at most `ANSWER_SECONDS`.

        Raises:
            StorageUnavailable: It does not; of the kind, and with the sentence, of its failure.
        """
        now = time.monotonic()
        if self._proving is None and now - self._known_at >= READY_SECONDS:
            self._began_at = now
            self._proving = asyncio.create_task(self._prove(storage))
        if self._proving is not None:
            try:
                async with asyncio.timeout(self._began_at + ANSWER_SECONDS - now):
                    await asyncio.shield(self._proving)
            except TimeoutError:
                raise StorageUnavailable(
                    f"The store has not acknowledged a small write within {ANSWER_SECONDS:g} s"
                ) from None
        if self._failure is not None:
            raise type(self._failure)(str(self._failure))

    async def _prove(self, storage: Storage) -> None:
        try:
            await storage.prove()
        except StorageUnavailable as failure:
            self._failure = failure
        else:
            self._failure = None
        finally:
            self._known_at = time.monotonic()
            self._proving = None
