"""Hosts whose clocks are an hour off: order, leases, delays and ages keep to the store's clock."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.processes import Api, Hook, post, subscribe

HOUR_SECONDS = 3600.0
AHEAD_SECONDS = {"fast": HOUR_SECONDS, "slow": -HOUR_SECONDS, "right": 0.0}
"""The three API processes, and by how much their hosts' clocks are ahead."""

POSTS = 12
LEASE_SECONDS = 60
DELAY_SECONDS = 2
POLL_SECONDS = 15
AGING_SECONDS = 1.5
"""Until the messages show an age."""
NEAR_SECONDS = 0.5
"""Processes agree to within half a round trip to the store."""

Apis = dict[str, Api]


@pytest.fixture(scope="module")
def apis(cluster: Cluster) -> Apis:
    return {name: cluster.api(ahead_seconds=seconds) for name, seconds in AHEAD_SECONDS.items()}


@pytest.fixture(autouse=True)
def _workers_end_with_their_test(cluster: Cluster) -> Iterator[None]:
    yield
    cluster.end_workers()


def since(began: float) -> float:
    """Seconds, and as many as clocks may differ by."""
    return time.monotonic() - began + NEAR_SECONDS


async def make_delayed(session: aiohttp.ClientSession, api: Api, queue: str) -> None:
    """Make a queue whose messages are visible after a while."""
    url, metadata = f"{api.url}/v2/queues/{queue}", {"_default_message_delay": DELAY_SECONDS}
    async with session.put(url, json=metadata) as answered:
        assert answered.status == 201, await answered.text()


async def listing(
    session: aiohttp.ClientSession, api: Api, queue: str, *, wait: int = 0
) -> list[dict[str, Any]]:
    url = f"{api.url}/v2/queues/{queue}/messages?limit=20&echo=true&wait={wait}"
    async with session.get(url) as answered:
        found: list[dict[str, Any]] = (await answered.json())["messages"]
        return found


async def claim(session: aiohttp.ClientSession, api: Api, queue: str) -> tuple[str, list[object]]:
    """The address of a claim of one message, and its body; both empty when there is none."""
    url = f"{api.url}/v2/queues/{queue}/claims?limit=1"
    async with session.post(url, json={"ttl": LEASE_SECONDS}) as answered:
        if answered.status == 204:
            return "", []
        assert answered.status == 201, await answered.text()
        claimed = (await answered.json())["messages"]
        return answered.headers["Location"], [message["body"] for message in claimed]


async def test_what_is_posted_in_turns_is_listed_in_that_order_and_of_the_right_age(
    apis: Apis, session: aiohttp.ClientSession
) -> None:
    began = time.monotonic()
    for number, api in zip(range(POSTS), itertools.cycle(apis.values()), strict=False):
        await post(session, api, "listed", number)
    await asyncio.sleep(AGING_SECONDS)

    for api in apis.values():
        found = await listing(session, api, "listed")

        assert [message["body"] for message in found] == list(range(POSTS))
        assert all(1 <= message["age"] <= since(began) for message in found)


async def test_what_is_posted_and_claimed_in_turns_comes_out_once_and_in_that_order(
    apis: Apis, session: aiohttp.ClientSession
) -> None:
    for number, api in zip(range(POSTS), itertools.cycle(apis.values()), strict=False):
        await post(session, api, "claimed", number)

    # Not in the order of the posts: each claims messages that another has posted.
    turns = itertools.islice(itertools.cycle(reversed(apis.values())), POSTS)
    claimed = [body for api in turns for body in (await claim(session, api, "claimed"))[1]]

    assert claimed == list(range(POSTS))


@pytest.mark.parametrize("claimant", AHEAD_SECONDS)
async def test_a_lease_is_as_long_for_every_process(
    apis: Apis, session: aiohttp.ClientSession, claimant: str
) -> None:
    queue = f"leased-by-{claimant}"
    await post(session, apis["right"], queue, "leased")
    began = time.monotonic()
    location, claimed = await claim(session, apis[claimant], queue)
    await asyncio.sleep(AGING_SECONDS)

    assert claimed == ["leased"]
    for api in apis.values():
        assert await claim(session, api, queue) == ("", [])
        async with session.get(f"{api.url}{location}") as answered:
            shown = await answered.json()
        assert shown["ttl"] == LEASE_SECONDS
        assert 1 <= shown["age"] <= since(began)
        assert [message["body"] for message in shown["messages"]] == ["leased"]


@pytest.mark.parametrize("poster", AHEAD_SECONDS)
async def test_a_delay_ends_at_the_same_time_for_every_process(
    apis: Apis, session: aiohttp.ClientSession, poster: str
) -> None:
    queue = f"delayed-by-{poster}"

    async def poll(api: Api) -> tuple[list[object], float]:
        found = await listing(session, api, queue, wait=POLL_SECONDS)
        return [message["body"] for message in found], since(began)

    await make_delayed(session, apis["right"], queue)
    began = time.monotonic()
    await post(session, apis[poster], queue, "later")

    for bodies, seconds in await asyncio.gather(*map(poll, apis.values())):
        assert bodies == ["later"]
        assert seconds >= DELAY_SECONDS


@pytest.mark.parametrize("ahead_seconds", [HOUR_SECONDS, -HOUR_SECONDS])
async def test_a_worker_notifies_when_the_delay_has_passed_and_not_before(
    cluster: Cluster,
    apis: Apis,
    session: aiohttp.ClientSession,
    hook: Hook,
    ahead_seconds: float,
) -> None:
    await asyncio.to_thread(cluster.worker, ahead_seconds=ahead_seconds)
    await make_delayed(session, apis["right"], hook.queue)
    await subscribe(session, apis["right"], hook)
    began = time.monotonic()

    await post(session, apis["right"], hook.queue, "later")

    await hook.received("later")
    assert since(began) >= DELAY_SECONDS
