"""Ordered and paced deliveries of a cluster: two workers share them, and one is killed again and again."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterator

import aiohttp
import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.processes import Api, Hook, Worker, post, subscribe

SOON_SECONDS = 2
SEED = 20
RETRY_AT_ONCE = {"retries_with_no_delay": 20, "minimum_delay_retries": 0, "minimum_delay": 1}


@pytest.fixture(scope="module")
def apis(cluster: Cluster) -> list[Api]:
    return [cluster.api(), cluster.api()]


@pytest.fixture(autouse=True)
def _workers_end_with_their_test(cluster: Cluster) -> Iterator[None]:
    yield
    cluster.end_workers()


async def two_workers(cluster: Cluster) -> list[Worker]:
    return list(await asyncio.gather(*(asyncio.to_thread(cluster.worker) for _ in range(2))))


async def kill_in_turns(workers: list[Worker]) -> None:
    """Kill one worker, start it again, then the next one, and so on."""
    for worker in itertools.cycle(workers):
        await asyncio.sleep(0.7)
        worker.kill()
        await asyncio.to_thread(worker.start)


async def test_deliveries_keep_the_order_of_posts_while_workers_are_killed(
    cluster: Cluster, apis: list[Api], session: aiohttp.ClientSession, hook: Hook
) -> None:
    """A client posts by two API processes in turns; the receiver is slow, and fails now and then."""
    workers, chance = await two_workers(cluster), random.Random(SEED)
    options = {"_ordered": True, "_retry_policy": RETRY_AT_ONCE}
    await subscribe(session, apis[0], hook, options=options)
    hook.statuses = [chance.choice((204, 204, 204, 204, 500)) for _ in range(500)]
    hook.seconds = 0.01

    killing = asyncio.create_task(kill_in_turns(workers))
    for number in range(80):
        await post(session, apis[number % 2], hook.queue, number)
    await hook.tried(50)
    killing.cancel()
    await asyncio.wait([killing])
    await hook.received(79)

    assert [*dict.fromkeys(hook.bodies)] == [*range(80)]


async def test_an_ordered_delivery_comes_at_once(
    cluster: Cluster, apis: list[Api], session: aiohttp.ClientSession, hook: Hook
) -> None:
    """Not at a worker's next look."""
    await two_workers(cluster)
    await subscribe(session, apis[0], hook, options={"_ordered": True})

    for number in range(4):
        await post(session, apis[0], hook.queue, number)
        assert await hook.received(number) < SOON_SECONDS


async def test_the_rate_and_the_bound_hold_over_all_workers(
    cluster: Cluster, apis: list[Api], session: aiohttp.ClientSession, hook: Hook
) -> None:
    await two_workers(cluster)
    options = {"_max_receives_per_second": 10, "_max_in_flight": 2}
    await subscribe(session, apis[0], hook, options=options)
    hook.seconds = 0.25

    for number in range(8):
        await post(session, apis[number % 2], hook.queue, number)
    await hook.tried(8)

    between = [later - earlier for earlier, later in itertools.pairwise(hook.came_at)]
    assert hook.most_under_way <= 2
    assert sum(between) > 7 * 0.1 - 0.05
    assert {*hook.bodies} == {*range(8)}
