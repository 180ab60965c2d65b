"""The partitions in use: those of the settings, and those that still have owed deliveries.

Processes may be told different numbers of partitions: while a new number is rolled out, by mistake, or
because it was lowered and an old partition still has deliveries. So the store decides: the internal
queue of a partition exists from its first job on.
"""

from __future__ import annotations

from functools import lru_cache
from zlib import crc32

from zaqar_notify.models import QueueRef
from zaqar_notify.settings import Settings
from zaqar_notify.storage.base import MessageStore
from zaqar_notify.storage.internal import DEFAULT_POOL, OUTBOX_PREFIX, RETRY_PREFIX, Partition
from zaqar_notify.storage.planes import Storage

LISTED_AT_ONCE = 100


@lru_cache(maxsize=65536)
def partition_of(queue: QueueRef, partitions: int, pool: str = DEFAULT_POOL) -> Partition:
    """In which the deliveries of this queue's messages are owed, given the queue's pool.

    The same in every process and release: workers share the partitions out.
    """
    number = crc32(f"{queue.project}\n{queue.name}".encode()) % partitions
    return Partition(pool, number)


def partitions_of(storage: Storage, settings: Settings) -> set[Partition]:
    """Those of the settings, of each pool."""
    numbers = range(settings.delivery_partitions)
    return {Partition(pool, number) for pool in storage.pools for number in numbers}


async def partitions_in_use(storage: Storage, settings: Settings) -> list[Partition]:
    """The partitions of the settings, and all others that something was ever owed in; in order.

    Two short reads of an index for each pool.

    Raises:
        StorageUnavailable: The default pool gave no answer; those of others are left out then.
    """
    found = partitions_of(storage, settings)
    for pool, store in storage.pools.items():
        with storage.pools.tolerated(pool):
            for prefix in (OUTBOX_PREFIX, RETRY_PREFIX):
                found |= {Partition(pool, number) for number in await _of_queues(store, prefix)}
    return sorted(found)


async def _of_queues(store: MessageStore, prefix: str) -> set[int]:
    """The numbers that the names of internal queues end with."""
    numbers: set[int] = set()
    marker = prefix
    while True:
        following = await store.heads.internal(after=marker, limit=LISTED_AT_ONCE)
        names = [name for name in following if name.startswith(prefix)]
        numbers.update(int(name.removeprefix(prefix)) for name in names)
        if len(names) < LISTED_AT_ONCE:
            return numbers
        marker = names[-1]
