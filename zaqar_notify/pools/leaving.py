"""A pool gets no queue while it is removed, or given another store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from msgspec.structs import replace

from zaqar_notify.pools.registering import change_registered
from zaqar_notify.pools.usage import refuse_in_use
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.pools import Registered


@asynccontextmanager
async def leaving(storage: Storage, name: str) -> AsyncIterator[None]:
    """Let no process place a queue on the pool meanwhile: see `Places.confirm`. If it is still registered at the end,
    it takes queues again.

    Raises:
        PoolInUse: It has queues, or jobs that are not done.
        StorageUnavailable: A store gave no answer, so it is not known whether it has any.
    """
    await refuse_in_use(storage, name)
    await change_registered(storage, _marked(name, is_leaving=True))
    try:
        await refuse_in_use(storage, name)
        yield
    finally:
        await change_registered(storage, _marked(name, is_leaving=False))


def _marked(name: str, *, is_leaving: bool) -> Callable[[Registered], Registered]:
    def marked(before: Registered) -> Registered:
        if name not in before.pools:
            return before
        pool = replace(before.pools[name], is_leaving=is_leaving)
        return replace(before, pools={**before.pools, name: pool})

    return marked
