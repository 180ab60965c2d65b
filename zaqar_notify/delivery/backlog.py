"""The backlog: how many deliveries are owed, and for how long. Stuck deliveries show here when nothing fails.

Counting costs the store a walk over an index. So one count serves all callers for some seconds, and counts
take at most a tenth of the time, however many callers ask.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime

import msgspec

from zaqar_notify.clock import Clock
from zaqar_notify.delivery.partitions import partitions_in_use
from zaqar_notify.delivery.records import OWED_TTL_SECONDS
from zaqar_notify.errors import CannotDecrypt, StorageUnavailable
from zaqar_notify.models import QueueRef
from zaqar_notify.settings import Settings
from zaqar_notify.storage.base import MessageStore
from zaqar_notify.storage.internal import (
    HELD_PREFIX,
    PARKED_PREFIX,
    POISON_REF,
    Partition,
    outbox_ref,
    retry_ref,
)
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.rekeying import key_ids, missing

KEEP_SECONDS = 5.0
"""How long a look serves, at least."""

KEEP_FACTOR = 10
"""A look serves so many times as long as it took; one that the store did not answer cost it nothing."""

LOOK_SECONDS = 10.0
"""How long a look may take."""

logger = logging.getLogger(__name__)


class QueueBacklog(msgspec.Struct, frozen=True):
    """The jobs or deliveries in the internal queues of one name, claimed ones included.

    `overdue_seconds` says for how long the oldest that is due has been due; 0 when none is.
    """

    queue: str
    partition: int
    count: int
    overdue_seconds: float


class Backlog(msgspec.Struct, frozen=True):
    """`poison` counts the jobs that no worker could finish. `parked` deliveries wait for their receiver,
    `held` ones for their subscription to be enabled. `missing_keys` counts the encryption keys under which
    something is stored, and which the settings lack."""

    owed: list[QueueBacklog]
    parked: int
    held: int
    poison: int
    missing_keys: int = 0


class BacklogView:
    """The last count of the backlog, renewed when it is old."""

    def __init__(self) -> None:
        self._last: Backlog | None = None
        self._fresh_until = 0.0
        self._looking = asyncio.Lock()

    async def look(self, storage: Storage, settings: Settings, clock: Clock) -> Backlog | None:
        """The backlog; None when it could not be counted."""
        async with self._looking:
            began = time.monotonic()
            if began < self._fresh_until:
                return self._last
            self._last, cost = None, 0.0
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    self._last = await count_owed(storage, settings, clock.now())
            except StorageUnavailable as error:
                _log_failure(str(error))
            except TimeoutError:
                _log_failure("time is over")
                cost = LOOK_SECONDS
            else:
                cost = time.monotonic() - began
            self._fresh_until = time.monotonic() + max(KEEP_SECONDS, KEEP_FACTOR * cost)
            return self._last


def _log_failure(error: str) -> None:
    logger.warning(
        "The jobs and deliveries in the store could not be counted",
        extra={"action": "storage_unavailable", "error": error},
    )


async def count_owed(storage: Storage, settings: Settings, now: datetime) -> Backlog:
    """Count jobs and deliveries of each partition, and those that subscriptions keep for themselves, in all pools
    that answer.

    Raises:
        StorageUnavailable: No answer came.
    """
    owed = [
        await _backlog_of(storage.pools[partition.pool], ref, queue, partition, now)
        for partition in await partitions_in_use(storage, settings)
        if not storage.pools.is_away(partition.pool)
        for queue, ref in (("outbox", outbox_ref(partition)), ("retry", retry_ref(partition)))
    ]
    stores = storage.pools.values()
    parked, held = [
        sum([await store.heads.count_internal(prefix=prefix) for store in stores])
        for prefix in (PARKED_PREFIX, HELD_PREFIX)
    ]
    poison = sum([(await store.messages.stats(POISON_REF, now=now)).total for store in stores])
    missing_keys = missing(await key_ids(storage.encrypted), storage.keys)
    return Backlog(_of_all_pools(owed), parked, held, poison, len(missing_keys))


def _of_all_pools(parts: Iterable[QueueBacklog]) -> list[QueueBacklog]:
    """Partitions of one number are counted as one, whatever their pools."""
    together: dict[tuple[str, int], QueueBacklog] = {}
    for part in parts:
        key = (part.queue, part.partition)
        other = together.get(key, msgspec.structs.replace(part, count=0))
        together[key] = QueueBacklog(
            *key, part.count + other.count, max(part.overdue_seconds, other.overdue_seconds)
        )
    return list(together.values())


async def _backlog_of(
    store: MessageStore, ref: QueueRef, queue: str, partition: Partition, now: datetime
) -> QueueBacklog:
    stats = await store.messages.stats(ref, now=now)
    overdue = 0.0
    if stats.oldest is not None:
        overdue = (now - stats.oldest.posted_at).total_seconds()
        # One that can't be decrypted counts as due since it was posted.
        with suppress(CannotDecrypt):
            for message in await store.messages.get(ref, [stats.oldest.id], now=now):
                # Records live so long from when they are due: see `delivery`.
                overdue -= message.ttl - OWED_TTL_SECONDS
    return QueueBacklog(queue, partition.number, stats.total, max(0.0, overdue))
