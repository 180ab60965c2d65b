"""Several processes on one store: they hear of each other's changes, and posts keep their order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.clock import START
from tests.contract.steps import (
    OUTBOX,
    bodies,
    everything,
    hold,
    ids,
    page,
    post,
    subscribe,
    together,
)
from tests.redis_server import redis_uri
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.redis import watches
from zaqar_notify.storage.redis.storage import RedisStore
from zaqar_notify.storage.registry import open_storage

SOON = 10.0


@pytest.fixture
def store_uri() -> str:
    return redis_uri()


@pytest.fixture
async def other(store_uri: str) -> AsyncIterator[Storage]:
    """The store as another process has it."""
    storage = await open_storage(store_uri)
    yield storage
    await storage.close()


@pytest.fixture
def no_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watches, "LOOK_SECONDS", 3600.0)


@pytest.mark.usefixtures("no_looks")
async def test_posts_and_releases_of_another_process_are_published(
    storage: Storage, other: Storage, queue: QueueRef
) -> None:
    with storage.messages.watch(queue, exclusive=True) as watch:
        await _until_heard(storage, queue)
        waiting = asyncio.create_task(watch.changed(timeout_seconds=SOON))
        await post(other, queue, bodies=["a"])
        assert await waiting is True

        held = await hold(other, queue)
        waiting = asyncio.create_task(watch.changed(timeout_seconds=SOON))
        await other.claims.release(queue, held.id, now=START)
        assert await waiting is True


async def test_a_lost_publication_is_found_by_a_look(
    storage: Storage, other: Storage, queue: QueueRef
) -> None:
    store = other.store
    assert isinstance(store, RedisStore)
    await post(storage, queue, bodies=["before"])
    with storage.messages.watch(queue) as watch:
        await _until_heard(storage, queue)
        waiting = asyncio.create_task(watch.changed(timeout_seconds=SOON))
        await asyncio.sleep(0)
        channel = store.keys.queue(queue)[1]
        await store.connection.call("HSET", f"{channel}:head", "freed", 7)

        assert await waiting is True


@pytest.mark.usefixtures("no_looks")
async def test_a_broken_connection_for_publications_is_made_anew(
    storage: Storage, other: Storage, queue: QueueRef
) -> None:
    store = other.store
    assert isinstance(store, RedisStore)
    with storage.messages.watch(queue) as watch:
        await _until_heard(storage, queue)
        await store.connection.call("CLIENT KILL", "TYPE", "pubsub")
        # What was published meanwhile may be lost: the watch wakes when it hears again.
        assert await watch.changed(timeout_seconds=SOON) is True
        waiting = asyncio.create_task(watch.changed(timeout_seconds=SOON))
        await post(other, queue, bodies=["a"])
        assert await waiting is True


async def test_processes_that_post_to_one_subscribed_queue_keep_its_order(
    storage: Storage, other: Storage, queue: QueueRef
) -> None:
    """The ids are in the jobs, so they are proposed before the posts are stored."""
    await subscribe(storage, queue)
    posted: dict[Storage, list[str]] = {storage: [], other: []}
    seen: list[str] = []

    async def produce(by: Storage) -> None:
        for number in range(100):
            posted[by] += (await post(by, queue, bodies=[f"{number}"])).ids

    async def observe() -> None:
        marker = None
        while len(seen) < 200:
            read = await page(other, queue, marker=marker)
            marker = read.marker or marker
            seen.extend(ids(read))

    await together(produce(storage), produce(other), observe())

    assert seen == sorted({*posted[storage], *posted[other]})
    assert all(one == sorted(one) for one in posted.values())
    assert len(await everything(storage, OUTBOX)) == 200


async def test_a_head_that_another_process_changed_is_obeyed_by_the_next_post(
    storage: Storage, other: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["before"])
    await subscribe(other, queue)

    posted = await post(storage, queue, bodies=["after"])

    assert posted.owes_deliveries
    assert bodies(await page(other, queue)) == ["before", "after"]


async def _until_heard(storage: Storage, queue: QueueRef) -> None:
    """Until the process hears of the queue's changes."""
    store = storage.store
    assert isinstance(store, RedisStore)
    async with asyncio.timeout(SOON):
        while not store._watches._listening.is_heard(store.keys.queue(queue)[1]):  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.01)
