"""The cost of an operation for the server does not depend on how many messages wait, are claimed, or expired (G7)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.clock import START
from tests.contract.steps import after, claim, hold, ids, new_message, page, post
from tests.redis_server import redis_uri
from zaqar_notify.clock import new_id
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.base import ReadyPost
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.redis.storage import RedisStore

WAITING, CLAIMED, EXPIRED = 90_000, 5_000, 5_000
AT_ONCE = 5_000
Use = Callable[[Storage, QueueRef], Awaitable[object]]


@pytest.fixture
def store_uri() -> str:
    return redis_uri()


async def calls_of(storage: Storage, use: Use, queue: QueueRef) -> int:
    """How many commands the server runs for it, those of scripts included."""
    store = storage.store
    assert isinstance(store, RedisStore)
    await use(storage, queue)  # The process learns the head; expired messages go at the first look.
    before = await _calls(store)
    await use(storage, queue)
    return await _calls(store) - before


async def _calls(store: RedisStore) -> int:
    stats: dict[str, Any] = await store.connection.listener.info("commandstats")
    return sum(each["calls"] for name, each in stats.items() if "info" not in name)


async def fill(storage: Storage, queue: QueueRef) -> None:
    await _post_many(storage, queue, EXPIRED, ttl=1)
    await _post_many(storage, queue, CLAIMED)
    await claim(storage, queue, limit=CLAIMED, ttl=600, now=after(2))
    await _post_many(storage, queue, WAITING)


async def _post_many(storage: Storage, queue: QueueRef, count: int, *, ttl: int = 3600) -> None:
    messages = [new_message("x", ttl=ttl)] * AT_ONCE
    for _ in range(count // AT_ONCE):
        await storage.post(queue, ReadyPost(messages, client_id="other"), now=START)


async def _post_one(storage: Storage, queue: QueueRef) -> None:
    await post(storage, queue, bodies=["a"], now=after(2))


async def _claim_renew_delete_release(storage: Storage, queue: QueueRef) -> None:
    held = await hold(storage, queue, limit=2, now=after(2))
    await storage.claims.renew(queue, held.id, ttl=60, grace=60, now=after(2))
    await storage.messages.delete(queue, ids(held)[0], claim_id=held.id, now=after(2))
    await storage.claims.release(queue, held.id, now=after(2))


async def _page(storage: Storage, queue: QueueRef) -> None:
    first = await page(storage, queue, limit=2, now=after(2))
    await page(
        storage,
        queue,
        marker=first.marker,
        limit=2,
        now=after(2),
        include_claimed=True,
        include_delayed=True,
    )


async def _pop(storage: Storage, queue: QueueRef) -> None:
    await storage.messages.pop(queue, limit=2, now=after(2))


async def _count(storage: Storage, queue: QueueRef) -> None:
    await storage.messages.stats(queue, now=after(2))


USES: tuple[Use, ...] = (_post_one, _claim_renew_delete_release, _page, _pop, _count)


async def test_an_operation_is_as_many_commands_with_100_000_messages_as_with_ten(
    storage: Storage, queue: QueueRef
) -> None:
    long = QueueRef(queue.project, f"long-{new_id()}")
    await post(storage, queue, bodies=[f"{number}" for number in range(10)], now=START)
    await claim(storage, queue, limit=1, ttl=600, now=after(2))
    await fill(storage, long)

    for use in USES:
        assert await calls_of(storage, use, long) <= await calls_of(storage, use, queue), (
            use.__name__
        )


async def test_a_queue_is_emptied_by_as_many_commands_however_long_it_is(
    storage: Storage, queue: QueueRef
) -> None:
    async def purge(storage: Storage, queue: QueueRef) -> None:
        await storage.messages.purge(queue, now=START)

    long = QueueRef(queue.project, f"long-{new_id()}")
    await post(storage, queue, bodies=["a"])
    await _post_many(storage, long, 2 * AT_ONCE)

    assert await calls_of(storage, purge, long) <= await calls_of(storage, purge, queue)


async def test_callers_that_come_together_share_scripts(storage: Storage, queue: QueueRef) -> None:
    async def post_50(storage: Storage, queue: QueueRef) -> None:
        await asyncio.gather(*(_post_one(storage, queue) for _ in range(50)))

    store = storage.store
    assert isinstance(store, RedisStore)
    await post_50(storage, queue)
    before = await store.connection.listener.info("commandstats")
    await post_50(storage, queue)
    following = await store.connection.listener.info("commandstats")

    assert following["cmdstat_evalsha"]["calls"] - before["cmdstat_evalsha"]["calls"] <= 3
