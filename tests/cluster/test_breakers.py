"""Workers of a cluster share what they know of an endpoint that fails, and one of them probes it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import aiohttp
import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.processes import PATIENCE_SECONDS, Api, Hook, post
from zaqar_notify.clock import SystemClock
from zaqar_notify.delivery.endpoint_states import EndpointStates, State
from zaqar_notify.storage.registry import open_storage

QUEUES = ("left", "right")
QUICK = {"ZAQAR_DELIVERY_TIMEOUT_SECONDS": "1", "ZAQAR_DELIVERY_BREAKER_FAILURES": "3"}
FAILING = 10_000


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Api:
    return cluster.api()


@pytest.fixture(autouse=True)
def _workers_end_with_their_test(cluster: Cluster) -> Iterator[None]:
    yield
    cluster.end_workers()


async def subscribe(session: aiohttp.ClientSession, api: Api, hook: Hook) -> None:
    """Two subscriptions of one endpoint, each with deliveries of its own to replay."""
    for queue in QUEUES:
        url = f"{api.url}/v2/queues/{queue}{hook.queue}/subscriptions"
        document = {"subscriber": hook.url, "options": {"_retry_policy": {"preset": "standard"}}}
        async with session.post(url, json=document) as answered:
            assert answered.status == 201, await answered.text()


async def post_to_both(
    session: aiohttp.ClientSession, api: Api, hook: Hook, numbers: range
) -> None:
    for number in numbers:
        for queue in QUEUES:
            await post(session, api, f"{queue}{hook.queue}", f"{queue} {number}")


async def until_state(cluster: Cluster, hook: Hook, state: State) -> None:
    """Wait until the log says so to whoever reads it from its beginning."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await state_of(cluster, hook) != state:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.05)


async def state_of(cluster: Cluster, hook: Hook) -> State:
    storage = await open_storage(cluster.store_uri)
    try:
        states = EndpointStates()
        await states.look(storage.pools["default"], now=SystemClock().now())
        found = states.of("demo", hook.url)
        return "closed" if found is None else found.state(SystemClock().now())
    finally:
        await storage.close()


async def test_a_worker_that_starts_knows_what_fails_and_no_two_probe_at_once(
    cluster: Cluster, api: Api, session: aiohttp.ClientSession, hook: Hook
) -> None:
    hook.statuses = [503] * FAILING
    await subscribe(session, api, hook)
    await asyncio.to_thread(cluster.worker, environ=QUICK)
    await post_to_both(session, api, hook, range(8))
    await until_state(cluster, hook, "open")
    await asyncio.to_thread(cluster.worker, environ=QUICK)

    tried = len(hook.bodies)
    hook.most_under_way = 0
    await post_to_both(session, api, hook, range(8, 16))
    await hook.tried(tried + 2)

    assert hook.most_under_way == 1
    hook.statuses = []
    for queue in QUEUES:
        await hook.received(f"{queue} 15")
    await until_state(cluster, hook, "closed")


async def test_a_probe_whose_worker_is_killed_is_made_by_another_and_nothing_is_lost(
    cluster: Cluster, api: Api, session: aiohttp.ClientSession, hook: Hook
) -> None:
    hook.statuses = [503] * FAILING
    await subscribe(session, api, hook)
    worker = await asyncio.to_thread(cluster.worker, environ=QUICK)
    await post_to_both(session, api, hook, range(8))
    await until_state(cluster, hook, "open")

    hook.may_answer.clear()
    await hook.tried(len(hook.bodies) + 1)
    worker.kill()
    hook.statuses = []
    hook.may_answer.set()
    await asyncio.to_thread(cluster.worker, environ=QUICK)

    for queue in QUEUES:
        for number in range(8):
            await hook.received(f"{queue} {number}", times=1)
    await until_state(cluster, hook, "closed")
