"""Workers of a cluster share what they know of an endpoint that fails, and one of them probes it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

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
SLOW_SECONDS = 0.8
"""Attempts of workers that do not know of each other overlap."""


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Api:
    return cluster.api()


@pytest.fixture(autouse=True)
def _workers_end_with_their_test(cluster: Cluster) -> Iterator[None]:
    yield
    cluster.end_workers()


async def subscribe(
    session: aiohttp.ClientSession, api: Api, hook: Hook, queues: Sequence[str] = QUEUES
) -> None:
    """Subscriptions of one endpoint, each with deliveries of its own to replay."""
    for queue in queues:
        url = f"{api.url}/v2/queues/{queue}{hook.queue}/subscriptions"
        document = {"subscriber": hook.url, "options": {"_retry_policy": {"preset": "standard"}}}
        async with session.post(url, json=document) as answered:
            assert answered.status == 201, await answered.text()


async def post_to(
    session: aiohttp.ClientSession, api: Api, hook: Hook, queues: Sequence[str] = QUEUES
) -> None:
    for number in range(8):
        for queue in queues:
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


async def test_workers_that_start_know_what_fails_and_no_two_probe_at_once(
    cluster: Cluster, api: Api, session: aiohttp.ClientSession, hook: Hook
) -> None:
    hook.statuses = [503] * FAILING
    await subscribe(session, api, hook)
    worker = await asyncio.to_thread(cluster.worker, environ=QUICK)
    await post_to(session, api, hook)
    await until_state(cluster, hook, "open")
    worker.kill()
    await asyncio.to_thread(cluster.worker, environ=QUICK)
    await asyncio.to_thread(cluster.worker, environ=QUICK)

    tried = len(hook.bodies)
    hook.most_under_way, hook.seconds = 0, SLOW_SECONDS
    await subscribe(session, api, hook, ["new"])
    await post_to(session, api, hook, ["new"])
    await hook.tried(tried + 2)

    assert hook.most_under_way == 1


async def test_a_probe_whose_worker_is_killed_is_made_by_another_and_nothing_is_lost(
    cluster: Cluster, api: Api, session: aiohttp.ClientSession, hook: Hook
) -> None:
    hook.statuses = [503] * FAILING
    await subscribe(session, api, hook)
    worker = await asyncio.to_thread(cluster.worker, environ=QUICK)
    await post_to(session, api, hook)
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
