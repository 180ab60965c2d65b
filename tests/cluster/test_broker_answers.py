"""No answer of the broker ends a worker: it delivers on, and listens again when the broker is well."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import aiohttp
import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.processes import PATIENCE_SECONDS, Api, Hook, Worker, post, subscribe
from tests.redis_server import RINGS_KEY, RedisServer

Change = Callable[[RedisServer], object]


def become_a_replica(redis: RedisServer) -> None:
    redis.client.replicaof("127.0.0.1", "1")


def be_primary(redis: RedisServer) -> None:
    redis.client.replicaof("NO", "ONE")


def want_replicas(redis: RedisServer) -> None:
    redis.client.config_set("min-replicas-to-write", 1)


def want_none(redis: RedisServer) -> None:
    redis.client.config_set("min-replicas-to-write", 0)


def have_no_memory(redis: RedisServer) -> None:
    redis.client.config_set("maxmemory", 1)
    # Only a new connection takes memory, not one that listens already.
    redis.client.client_kill_filter(_type="normal", skipme=True)


def have_memory(redis: RedisServer) -> None:
    redis.client.config_set("maxmemory", 0)


def permit_less(redis: RedisServer) -> None:
    redis.client.execute_command("ACL", "SETUSER", "default", "-brpop")  # type: ignore[no-untyped-call]


def permit_all(redis: RedisServer) -> None:
    redis.client.execute_command("ACL", "SETUSER", "default", "+brpop")  # type: ignore[no-untyped-call]


def be_of_another_type(redis: RedisServer) -> None:
    redis.client.delete(RINGS_KEY)
    redis.client.set(RINGS_KEY, "someone else's")


def be_gone(redis: RedisServer) -> None:
    redis.client.delete(RINGS_KEY)


ANSWERS: dict[str, tuple[Change, Change]] = {
    "READONLY": (become_a_replica, be_primary),
    "NOREPLICAS": (want_replicas, want_none),
    "OOM": (have_no_memory, have_memory),
    "NOPERM": (permit_less, permit_all),
    "WRONGTYPE": (be_of_another_type, be_gone),
}
UNREADABLE = ["no JSON", "5", "{}", "[]", '{"body": 1}', '{"properties": {}, "body": "e30="}']


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Api:
    return cluster.api()


@pytest.fixture(scope="module", params=["threads", "prefork"])
def worker(cluster: Cluster, request: pytest.FixtureRequest) -> Worker:
    cluster.end_workers()
    worker = cluster.worker(request.param)
    worker.wait_until(lambda: is_listening(cluster.redis))
    return worker


def is_listening(redis: RedisServer) -> bool:
    return bool(redis.client.info("clients")["blocked_clients"] > 0)


async def eventually(is_so: Callable[[], bool], sentence: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not await asyncio.to_thread(is_so):
        assert time.monotonic() < deadline, sentence
        await asyncio.sleep(0.05)


async def test_no_answer_of_the_broker_ends_a_worker_or_its_deliveries(
    cluster: Cluster, api: Api, worker: Worker, session: aiohttp.ClientSession, hook: Hook
) -> None:
    redis, pid = cluster.redis, worker.running().pid
    engines = worker.children()
    await subscribe(session, api, hook)

    for name, (spoil, mend) in ANSWERS.items():
        spoil(redis)
        await eventually(lambda: not is_listening(redis), f"{name} is not heard")
        await post(session, api, hook.queue, name)
        await hook.received(name)
        mend(redis)
        await eventually(lambda: is_listening(redis), f"Nobody listens after {name}")

    assert (worker.running().poll(), worker.running().pid) == (None, pid)
    assert worker.children() == engines
    assert "action=broker_unavailable" in worker.printed()


async def test_an_item_that_is_no_ring_is_dropped(
    cluster: Cluster, api: Api, worker: Worker, session: aiohttp.ClientSession, hook: Hook
) -> None:
    redis = cluster.redis
    await subscribe(session, api, hook)

    redis.client.lpush(RINGS_KEY, *UNREADABLE)

    await eventually(lambda: redis.client.llen(RINGS_KEY) == 0, "An item stays")
    await eventually(lambda: is_listening(redis), "Nobody listens any more")
    await post(session, api, hook.queue, "hello")
    await hook.received("hello")
    assert worker.running().poll() is None
