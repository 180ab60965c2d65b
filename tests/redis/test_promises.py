"""A Redis keeps what was acknowledged, or the service does not start on it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.clock import START
from tests.contract.steps import OUTBOX, bodies, claim, hold, page, post, post_one, subscribe
from tests.redis.servers import opened, own_server
from tests.redis_server import RedisServer
from zaqar_notify.errors import (
    StartRefused,
    StorageFull,
    StorageLeaderless,
    StorageUnavailable,
)
from zaqar_notify.findings import Level
from zaqar_notify.models import NewMessage, QueueRef
from zaqar_notify.storage.base import ReadyPost
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.redis import connection
from zaqar_notify.storage.redis.founding import VERSION

WEAK = {
    "appendonly": "no",
    "appendfsync": "everysec",
    "no-appendfsync-on-rewrite": "yes",
    "maxmemory-policy": "allkeys-lru",
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with own_server(tmp_path) as server:
        yield server


@pytest.fixture
def queue() -> QueueRef:
    return QueueRef("project", "orders")


async def test_a_redis_that_may_lose_messages_is_refused_with_the_setting(
    server: RedisServer,
) -> None:
    for name, value in WEAK.items():
        good = str(server.client.config_get(name)[name])
        server.client.config_set(name, value)
        with pytest.raises(StartRefused, match=rf"{name} is {value}.*set {name} {good}"):
            async with opened(server):
                pass
        server.client.config_set(name, good)


async def test_an_unreliable_service_takes_it_and_the_doctor_warns(server: RedisServer) -> None:
    server.client.config_set("appendfsync", "everysec")

    async with opened(server, unreliable=True) as storage:
        findings = await storage.store.diagnose()

    [warning] = [one for one in findings if one.level is Level.WARNING]
    assert "appendfsync is everysec" in warning.sentence


async def test_nothing_that_was_acknowledged_is_lost_when_the_server_is_killed(
    server: RedisServer, queue: QueueRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PATIENCE_SECONDS", 0.1)
    acknowledged: list[str] = []

    async def produce(storage: Storage) -> None:
        for number in itertools.count():
            acknowledged.append(await post_one(storage, queue, f"{number}"))

    async with opened(server) as storage:
        producing = [asyncio.create_task(produce(storage)) for _ in range(4)]
        while len(acknowledged) < 200:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.01)
        server.kill()
        ends = await asyncio.gather(*producing, return_exceptions=True)
        assert all(isinstance(end, StorageUnavailable) for end in ends)
        server.start()
        whole = await page(storage, queue, limit=10_000)

    assert {*acknowledged} <= {message.id for message in whole.messages}
    assert len(acknowledged) >= 200


async def test_a_full_redis_refuses_posts_of_clients_and_nothing_else(
    server: RedisServer, queue: QueueRef
) -> None:
    async with opened(server) as storage:
        posted = await post(storage, queue, bodies=["a", "b"])
        server.client.config_set("maxmemory", "1mb")

        with pytest.raises(StorageFull):
            await post(storage, queue, bodies=["refused"])
        held = await hold(storage, queue, limit=1)
        await storage.claims.renew(queue, held.id, ttl=100, grace=60, now=START)
        await storage.messages.post(
            OUTBOX, ReadyPost([NewMessage(b"{}", 60)], client_id="engine"), now=START
        )
        await storage.messages.delete(queue, posted.ids[0], claim_id=held.id, now=START)
        server.client.config_set("maxmemory", "0")
        await post(storage, queue, bodies=["c"])

        assert bodies(await page(storage, queue)) == ["b", "c"]


async def test_a_full_redis_takes_no_new_subscription_and_ends_and_changes_those_that_are_there(
    server: RedisServer, queue: QueueRef
) -> None:
    async with opened(server) as storage:
        first, second = [await subscribe(storage, queue, f"http://{number}") for number in (1, 2)]
        server.client.config_set("maxmemory", "1mb")

        with pytest.raises(StorageFull):
            await subscribe(storage, queue, "http://3")
        disabled = await storage.subscriptions.update(
            queue, first.id, lambda one: msgspec.structs.replace(one, disabled_at=START), now=START
        )
        await storage.subscriptions.delete(queue, second.id)

        assert await storage.subscriptions.list(queue, marker=None, limit=9, now=START) == [
            disabled
        ]


async def test_a_post_waits_for_the_next_primary_a_moment(
    server: RedisServer, queue: QueueRef
) -> None:
    async with opened(server) as storage:
        await post(storage, queue, bodies=["before"])
        server.client.replicaof("127.0.0.1", "1")
        before = server.calls("evalsha")
        posting = asyncio.create_task(post(storage, queue, bodies=["after"]))
        while server.calls("evalsha") < before + 2:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.01)
        server.client.replicaof("NO", "ONE")
        await posting

        assert bodies(await page(storage, queue)) == ["before", "after"]


async def test_a_replica_is_not_asked_in_a_primarys_place(
    server: RedisServer, queue: QueueRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its messages may be older than those that were acknowledged."""
    monkeypatch.setattr(connection, "PATIENCE_SECONDS", 0.1)
    async with opened(server) as storage:
        await post(storage, queue, bodies=["a"])
        server.client.replicaof("127.0.0.1", "1")

        with pytest.raises(StorageLeaderless):
            await page(storage, queue)
        with pytest.raises(StorageLeaderless):
            await claim(storage, queue)
        with pytest.raises(StorageLeaderless):
            await storage.queues.get(queue)


async def test_scripts_that_the_server_forgot_are_sent_again(
    server: RedisServer, queue: QueueRef
) -> None:
    async with opened(server) as storage:
        await post(storage, queue, bodies=["a"])
        server.client.script_flush()

        assert bodies(await page(storage, queue)) == ["a"]


async def test_a_store_keeps_its_number_of_tags(server: RedisServer) -> None:
    async with opened(server):
        server.uri += "?tags=2"
        with pytest.raises(StartRefused, match=r"tags=2.*was made with 1"):
            async with opened(server):
                pass


async def test_a_store_of_an_earlier_version_is_raised_and_one_of_a_later_is_refused(
    server: RedisServer, queue: QueueRef
) -> None:
    async with opened(server) as storage:
        await post(storage, queue, bodies=["a"])
        [store] = server.client.keys("*:store")
        server.client.hset(store, "version", "1")

        async with opened(server) as raised:
            assert bodies(await page(raised, queue)) == ["a"]
        assert int(server.client.hget(store, "version") or 0) == VERSION

        server.client.hset(store, "version", str(VERSION + 1))
        with pytest.raises(StartRefused, match=f"this release knows version {VERSION}"):
            async with opened(server):
                pass
