"""One project's hanging receivers delay no other project's deliveries, on any worker."""

from __future__ import annotations

import asyncio

import aiohttp

from tests.cluster.cluster import Cluster
from tests.cluster.processes import API_HEADERS, Hook, post, subscribe

SLOTS = 8
SHARE = 6
"""Of the slots of one worker, for a project alone: three quarters."""

WORKER = {
    "ZAQAR_DELIVERY_CONCURRENCY": f"{SLOTS}",
    "ZAQAR_SHUTDOWN_SECONDS": "0.5",
    "ZAQAR_DELIVERY_CONCURRENCY_PER_ENDPOINT": "2",
    # No try ends while the test goes on.
    "ZAQAR_DELIVERY_TIMEOUT_SECONDS": "60",
}
ENDPOINTS = 16
"""With two attempts at each, they could fill the slots of both workers twice."""
POSTS = 20


async def test_a_project_with_many_hanging_receivers_has_its_share_of_each_worker_and_no_more(
    cluster: Cluster, session: aiohttp.ClientSession, hook: Hook
) -> None:
    starting = [asyncio.to_thread(cluster.worker, environ=WORKER) for _ in range(2)]
    api, _ = await asyncio.gather(asyncio.to_thread(cluster.api), asyncio.gather(*starting))
    hanging = Hook()
    hanging.may_answer.clear()
    bad = {**API_HEADERS, "X-Project-ID": "bad"}
    async with hanging.serving(), aiohttp.ClientSession(headers=bad) as bad_session:
        url = f"{api.url}/v2/queues/{hanging.queue}/subscriptions"
        for number in range(ENDPOINTS):
            subscriber = {"subscriber": f"{hanging.url}?{number}", "ttl": 3600}
            async with bad_session.post(url, json=subscriber) as answered:
                assert answered.status == 201
        for _ in range(POSTS):
            await post(bad_session, api, hanging.queue, "hangs")
        await hanging.received("hangs", times=2 * SHARE)

        await subscribe(session, api, hook)
        for number in range(POSTS):
            await post(session, api, hook.queue, number)
        for number in range(POSTS):
            await hook.received(number)

        assert len(hanging.bodies) == 2 * SHARE
        await asyncio.to_thread(cluster.end_workers)
