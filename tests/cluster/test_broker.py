"""The broker may be away, be flushed or come back empty: it carries wake-ups only."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.processes import PATIENCE_SECONDS, Api, Hook, claim, post, subscribe
from tests.redis_server import KEY_PREFIX, RINGS_KEY, RedisServer
from workers.engine import LOOK_SECONDS

SOON_SECONDS = 2
TRIES = 30

BLOCKED_SECONDS = 0.9
"""An answer that waited for the broker, or for the thread that does, took at least this long."""


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Api:
    """With a worker beside it."""
    cluster.worker()
    return cluster.api()


@pytest.fixture(autouse=True)
def _redis_is_new(cluster: Cluster) -> None:
    """To the processes of the test before it looks as if it had come back empty."""
    cluster.redis.kill()
    cluster.redis.start()


async def until_a_ring_was_taken(redis: RedisServer) -> None:
    """Wait until the API has rung and a worker waits for the next ring."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not await asyncio.to_thread(_ring_was_taken, redis):
        assert time.monotonic() < deadline, "Nobody rang, or nobody listens"


def _ring_was_taken(redis: RedisServer) -> bool:
    rung = redis.calls("lpush") > 0
    waiting = redis.client.llen(RINGS_KEY)
    listening = redis.client.info("clients")["blocked_clients"]
    return rung and waiting == 0 and listening > 0


async def slowest_of_posts_and_claims(
    session: aiohttp.ClientSession, api: Api, queue: str
) -> float:
    """Seconds that the slowest took. Each post rings the doorbell, and a claim takes its message."""
    seconds = 0.0
    for number in range(TRIES):
        seconds = max(seconds, await post(session, api, queue, number))
        seconds = max(seconds, await claim(session, api, queue, number))
    return seconds


async def test_without_a_broker_requests_are_as_quick_and_deliveries_go_on(
    cluster: Cluster, api: Api, session: aiohttp.ClientSession, hook: Hook
) -> None:
    await subscribe(session, api, hook)
    cluster.redis.kill()

    slowest = await slowest_of_posts_and_claims(session, api, hook.queue)

    assert slowest < BLOCKED_SECONDS
    assert await hook.received(TRIES - 1) < LOOK_SECONDS + SOON_SECONDS
    for number in range(TRIES):
        await hook.received(number)
    assert len(hook.bodies) == TRIES


async def test_a_broker_that_does_not_answer_holds_up_nothing(
    cluster: Cluster, api: Api, session: aiohttp.ClientSession, hook: Hook
) -> None:
    await subscribe(session, api, hook)
    await post(session, api, hook.queue, "before")
    await claim(session, api, hook.queue, "before")
    await until_a_ring_was_taken(cluster.redis)
    cluster.redis.pause()

    slowest = await slowest_of_posts_and_claims(session, api, hook.queue)

    assert slowest < BLOCKED_SECONDS
    assert await hook.received(TRIES - 1) < LOOK_SECONDS + SOON_SECONDS


async def test_api_and_worker_find_a_broker_that_is_flushed_or_comes_back(
    cluster: Cluster, api: Api, session: aiohttp.ClientSession, hook: Hook
) -> None:
    await subscribe(session, api, hook)
    await post(session, api, hook.queue, "before")
    await until_a_ring_was_taken(cluster.redis)

    cluster.redis.client.flushall()
    cluster.redis.client.config_resetstat()
    await post(session, api, hook.queue, "flushed")

    assert await hook.received("flushed") < SOON_SECONDS
    await until_a_ring_was_taken(cluster.redis)
    for number in range(3):
        cluster.redis.kill()
        await post(session, api, hook.queue, f"away {number}")
        await asyncio.to_thread(cluster.redis.start)
        await until_a_ring_was_taken(cluster.redis)
        await post(session, api, hook.queue, f"back {number}")
        assert await hook.received(f"back {number}") < SOON_SECONDS
        await hook.received(f"away {number}")


async def test_nothing_but_keys_of_our_own_is_in_redis(
    cluster: Cluster, api: Api, session: aiohttp.ClientSession, hook: Hook
) -> None:
    await asyncio.to_thread(cluster.worker, "celery")
    await subscribe(session, api, hook)
    await post(session, api, hook.queue, "hello")
    await until_a_ring_was_taken(cluster.redis)

    keys = [str(key) for key in cluster.redis.client.scan_iter()]

    assert [key for key in keys if not key.startswith(KEY_PREFIX)] == []


async def test_processes_start_and_stop_without_a_broker(
    cluster: Cluster, session: aiohttp.ClientSession, hook: Hook
) -> None:
    cluster.end_processes()
    cluster.redis.kill()
    api, worker = await asyncio.gather(
        asyncio.to_thread(cluster.api), asyncio.to_thread(cluster.worker)
    )
    await subscribe(session, api, hook)

    await post(session, api, hook.queue, "hello")

    await hook.received("hello")
    codes = await asyncio.gather(asyncio.to_thread(worker.stop), asyncio.to_thread(api.stop))
    assert list(codes) == [0, 0]
