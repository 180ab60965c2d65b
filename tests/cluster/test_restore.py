"""A cluster whose store was put back from a backup, by the steps that the operator's page names."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.cluster.cluster import Cluster, empty_cluster
from tests.cluster.processes import API_HEADERS, Api, Hook, subscribe
from tests.docs.pages import read
from tests.mongod import mongo_uri
from tests.mongodb.backup import dump, restore

NUMBER = 20


@pytest.fixture
def store_uri() -> str:
    return mongo_uri()


@pytest.fixture
def cluster(tmp_path: Path, store_uri: str) -> Iterator[Cluster]:
    with empty_cluster(tmp_path, store_uri) as cluster:
        yield cluster


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """One that outlives the API's restart."""
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(headers=API_HEADERS, connector=connector) as session:
        yield session


async def post_many(session: aiohttp.ClientSession, api: Api, queue: str, text: str) -> list[str]:
    """Post so many messages; their ids."""
    document = {"messages": [{"body": f"{text} {number}"} for number in range(NUMBER)]}
    async with session.post(f"{api.url}/v2/queues/{queue}/messages", json=document) as answered:
        assert answered.status == 201
        return [href.rpartition("/")[2] for href in (await answered.json())["resources"]]


async def page(session: aiohttp.ClientSession, api: Api, queue: str, marker: str) -> list[str]:
    url = f"{api.url}/v2/queues/{queue}/messages?echo=true&limit=20&marker={marker}"
    async with session.get(url) as answered:
        return [message["body"] for message in (await answered.json())["messages"]]


async def test_new_messages_are_new_to_receivers_and_observers(
    cluster: Cluster, session: aiohttp.ClientSession, hook: Hook, store_uri: str
) -> None:
    api, worker = cluster.api(), cluster.worker()
    await subscribe(session, api, hook)
    await post_many(session, api, hook.queue, "before")
    await hook.received(f"before {NUMBER - 1}")
    backup = dump(store_uri)
    lost = await post_many(session, api, hook.queue, "lost")
    await hook.received(f"lost {NUMBER - 1}")
    assert (api.stop(), worker.stop()) == (0, 0)
    restore(store_uri, backup)

    told = cluster.run("restored")
    api.start()
    worker.start()
    seen = set(hook.delivery_ids)
    new = await post_many(session, api, hook.queue, "new")
    await hook.received(f"new {NUMBER - 1}")

    assert told.returncode == 0, told.stderr
    assert re.search(r"\d+ queues go on behind all ids", told.stdout)
    assert set(new).isdisjoint(lost)
    assert await page(session, api, hook.queue, lost[-1]) == [f"new {n}" for n in range(NUMBER)]
    of_new = [
        delivery_id
        for body, delivery_id in zip(hook.bodies, hook.delivery_ids, strict=True)
        if str(body).startswith("new")
    ]
    assert len(of_new) == NUMBER
    assert seen.isdisjoint(of_new)


async def test_records_and_subscriptions_alone_can_be_put_back(
    cluster: Cluster, session: aiohttp.ClientSession, hook: Hook, store_uri: str
) -> None:
    api, worker = cluster.api(), cluster.worker()
    subscription = await subscribe(session, api, hook)
    control = {name: dump(store_uri)[name] for name in ("records", "subscriptions")}
    one = f"{api.url}/v2/queues/{hook.queue}/subscriptions/{subscription}"
    async with session.delete(one) as deleted:
        assert deleted.status == 204
    await post_many(session, api, "unlisted", "kept")
    restore(store_uri, control)

    found = cluster.run("doctor")
    told = cluster.run("restored")
    mended = cluster.run("doctor")

    assert "of the first 2 queues 1 without a record, 1 with subscriptions" in found.stdout
    assert "mended: 1 without a record, 1 with subscriptions" in told.stdout
    assert "of the first" not in mended.stdout
    await post_many(session, api, hook.queue, "new")
    await hook.received(f"new {NUMBER - 1}")
    async with session.get(f"{api.url}/v2/queues") as listed:
        names = [queue["name"] for queue in (await listed.json())["queues"]]
    assert names == sorted([hook.queue, "unlisted"])
    assert (worker.stop(), api.stop()) == (0, 0)


def test_both_recipes_end_with_it() -> None:
    recipes = re.findall(
        r"mongorestore.*?(?:api worker\n|is delivered again)", read("cluster.md"), re.S
    )

    assert len(recipes) == 2
    assert all(re.search(r"restored\b", recipe) for recipe in recipes)
