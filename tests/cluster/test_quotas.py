"""Quotas in a cluster: every process learns of a change, and all together keep to what is stored."""

from __future__ import annotations

import asyncio
import json
import time

import aiohttp

from tests.cluster.cluster import Cluster
from tests.cluster.processes import API_HEADERS, Api
from zaqar_notify.quotas import BELIEVED_SECONDS

PROJECT = API_HEADERS["X-Project-ID"]
BODY_BYTES = 1_000
LIMIT = 800_000


async def statuses(session: aiohttp.ClientSession, api: Api, count: int) -> set[int]:
    async def status() -> int:
        async with session.get(f"{api.url}/v2/queues") as answered:
            return answered.status

    return {await status() for _ in range(count)}


async def fill(session: aiohttp.ClientSession, api: Api) -> int:
    """Post until the service takes no more; the status of the last answer."""
    document = {"messages": [{"body": "x" * (BODY_BYTES - 2), "ttl": 3600}]}
    while True:
        async with session.post(f"{api.url}/v2/queues/full/messages", json=document) as answered:
            if answered.status != 201:
                return answered.status


async def test_processes_keep_to_a_quota_that_a_command_sets_and_to_what_others_stored(
    cluster: Cluster, session: aiohttp.ClientSession
) -> None:
    apis = await asyncio.gather(*(asyncio.to_thread(cluster.api) for _ in range(2)))
    assert [await statuses(session, api, 10) for api in apis] == [{200}, {200}]

    values = ("requests_per_second=1", f"stored_bytes={LIMIT}")
    done = await asyncio.to_thread(cluster.run, "quota", "set", PROJECT, *values)
    assert done.returncode == 0, done.stderr
    await asyncio.sleep(BELIEVED_SECONDS)
    assert [await statuses(session, api, 10) for api in apis] == [{200, 503}, {200, 503}]

    done = await asyncio.to_thread(cluster.run, "quota", "set", PROJECT, "requests_per_second=0")
    assert done.returncode == 0, done.stderr
    await asyncio.sleep(BELIEVED_SECONDS)
    ends = await asyncio.gather(*(fill(session, apis[number % 2]) for number in range(8)))
    shown = await asyncio.to_thread(cluster.run, "quota", "show", PROJECT, "--json")

    used = {each["name"]: each["used"] for each in json.loads(shown.stdout)}
    assert set(ends) == {403}
    # The rest is for counts that are slow here; each process by itself would stop at twice the limit.
    assert 0.9 * LIMIT < used["stored_bytes"] <= 1.5 * LIMIT


async def test_the_processes_of_one_api_share_a_rate(cluster: Cluster) -> None:
    rate, burst_seconds, processes = 10, 6, 2
    environ = {
        "ZAQAR_QUOTA_REQUESTS_PER_SECOND": str(rate),
        "ZAQAR_QUOTA_BURST_SECONDS": str(burst_seconds),
    }
    api = await asyncio.to_thread(cluster.api, processes=processes, environ=environ)
    headers = API_HEADERS | {"X-Project-ID": "shared", "Connection": "close"}
    began = time.monotonic()

    async with aiohttp.ClientSession(headers=headers) as session:
        asking = [statuses(session, api, 1) for _ in range(rate * burst_seconds * processes * 2)]
        answers = [status for each in await asyncio.gather(*asking) for status in each]

    most = rate * (burst_seconds + time.monotonic() - began)
    assert rate * burst_seconds <= answers.count(200) <= most + 1
    assert set(answers) == {200, 503}
