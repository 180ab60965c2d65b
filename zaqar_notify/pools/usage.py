"""Uses of a pool, for which it can't be removed."""

from __future__ import annotations

from collections.abc import AsyncIterator

from zaqar_notify.errors import PoolInUse
from zaqar_notify.models import QueueRef
from zaqar_notify.pools.moves import moves
from zaqar_notify.storage.internal import OUTBOX_PREFIX, PREFIXES_OF_DELIVERIES, RETRY_PREFIX
from zaqar_notify.storage.planes import Storage

COUNTED = 100
"""Queues are counted up to so many."""
READ_TOGETHER = 100


async def refuse_in_use(storage: Storage, pool: str) -> None:
    """Refuse to give up a pool that has queues, or is to have one, or has jobs and deliveries that are owed.

    Raises:
        PoolInUse: It has; the sentence says what.
        StorageUnavailable: A store gave no answer, so it is not known.
    """
    found = [ref async for ref in queues_on(storage, pool)]
    if found:
        more = " or more" if len(found) == COUNTED else ""
        number = "1 queue" if len(found) == 1 else f"{len(found)} queues{more}"
        raise PoolInUse(
            f"The pool has {number}, such as {found[0].name!r} of the project {found[0].project!r}: move them to "
            "another pool, or delete them."
        )
    for move in await moves(storage, now=storage.clock.now()):
        if not move.state.is_over and pool in (move.pool, move.source):
            raise PoolInUse(
                f"The queue {move.queue!r} of the project {move.project!r} is being moved to or from the pool: repeat "
                "the request when it is there, or cancel the move."
            )
    heads = storage.pools[pool].heads
    prefixes = (OUTBOX_PREFIX, RETRY_PREFIX, *PREFIXES_OF_DELIVERIES)
    owed = sum([await heads.count_internal(prefix=prefix) for prefix in prefixes])
    if owed:
        raise PoolInUse(
            f"The pool has {owed} jobs and deliveries that are not done: repeat the request when the workers have done "
            "them."
        )


async def queues_on(storage: Storage, pool: str) -> AsyncIterator[QueueRef]:
    """Up to `COUNTED` queues that there are on the pool; the catalogue also has those that were deleted."""
    after, count = None, 0
    while True:
        refs = await storage.control.catalogue.of_pool(pool, after=after, limit=READ_TOGETHER)
        for ref in refs:
            if count < COUNTED and await _exists(storage, ref):
                count += 1
                yield ref
        if len(refs) < READ_TOGETHER or count == COUNTED:
            return
        after = refs[-1]


async def _exists(storage: Storage, ref: QueueRef) -> bool:
    control = storage.control
    return (
        await control.records.get(ref) is not None
        or await control.subscriptions.longest(ref) is not None
    )
