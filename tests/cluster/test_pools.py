"""Processes of a cluster find each queue on its pool, and workers deliver from all pools, whichever process ends when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest

from tests.cluster.cluster import Cluster, empty_cluster
from tests.cluster.processes import Api, Hook, post, subscribe
from tests.mongod import beside, mongo_uri
from tests.pools import open_pooled, register
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.planes import Storage

POOL = "second"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def store_uri() -> str:
    return mongo_uri()


@pytest.fixture
async def storage(store_uri: str) -> AsyncIterator[Storage]:
    """The stores, with a pool that takes all new queues."""
    storage = await open_pooled(store_uri, {})
    await register(storage, POOL, beside(store_uri), at=LONG_AGO)
    yield storage
    await storage.close()


@pytest.fixture
def cluster(tmp_path: Path, store_uri: str, storage: Storage) -> Iterator[Cluster]:
    with empty_cluster(tmp_path, store_uri) as cluster:
        yield cluster


@pytest.fixture
def apis(cluster: Cluster) -> list[Api]:
    return [cluster.api(), cluster.api()]


async def test_what_one_process_took_on_a_pool_others_show_and_deliver_after_both_were_killed(
    cluster: Cluster,
    apis: list[Api],
    storage: Storage,
    session: aiohttp.ClientSession,
    hook: Hook,
) -> None:
    [first, second] = apis
    await subscribe(session, first, hook)
    hook.may_answer.clear()
    worker = await asyncio.to_thread(cluster.worker)
    await post(session, first, hook.queue, "hello")
    await hook.received("hello")

    worker.kill()
    first.kill()
    hook.may_answer.set()
    await post(session, second, hook.queue, "again")
    await asyncio.to_thread(cluster.worker)

    await hook.received("hello", times=2)
    await hook.received("again")
    url = f"{second.url}/v2/queues/{hook.queue}/messages?echo=true"
    async with session.get(url) as answered:
        shown = [message["body"] for message in (await answered.json())["messages"]]
    assert shown == ["hello", "again"]
    ref = QueueRef(session.headers["X-Project-ID"], hook.queue)
    assert await storage.control.catalogue.get(ref) == POOL
    totals = {
        pool: (await store.messages.stats(ref, now=storage.clock.now())).total
        for pool, store in storage.pools.items()
    }
    assert totals == {"default": 0, POOL: 2}
