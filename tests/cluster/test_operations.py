"""An operator's view of a cluster: its health, its owed deliveries, and servers that are away."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

import aiohttp
import pytest

from tests.cluster.cluster import Cluster, empty_cluster
from tests.cluster.processes import PATIENCE_SECONDS, Api, Hook, Process, post, subscribe
from tests.mongod import ReplicaSet, require_mongod
from tests.samples import Samples
from tests.service import free_port

OUTBOX = {"queue": "outbox", "partition": "0"}
RETRY = {"queue": "retry", "partition": "0"}


@pytest.fixture(scope="module")
def store() -> Iterator[ReplicaSet]:
    """One that a test may kill; it starts it again."""
    require_mongod()
    store = ReplicaSet()
    store.start()
    yield store
    store.stop()


@pytest.fixture(scope="module")
def cluster(store: ReplicaSet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    directory, environ = tmp_path_factory.mktemp("cluster"), {"ZAQAR_ADMIN_MODE": "true"}
    with empty_cluster(directory, store.uri("operations"), environ=environ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Api:
    return cluster.api()


async def status(session: aiohttp.ClientSession, url: str) -> int:
    async with session.get(url) as answered:
        return answered.status


async def until_status(session: aiohttp.ClientSession, url: str, wanted: int) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await status(session, url) != wanted:
            pass


async def scrape(session: aiohttp.ClientSession, url: str) -> Samples:
    async with session.get(f"{url}/metrics") as answered:
        return Samples(await answered.text())


async def until_shown(
    session: aiohttp.ClientSession, url: str, name: str, value: float, **labels: str
) -> Samples:
    """Wait until the metrics have the sample with this value; all that they have then."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (samples := await scrape(session, url))(name, **labels) != value:
            pass
    return samples


def metrics_urls(process: Process) -> list[str]:
    """Where its processes show their metrics, as they have logged."""
    ports = re.findall(r"action=metrics_served .*port=(\d+)", process.printed())
    return [f"http://127.0.0.1:{port}" for port in ports]


async def test_a_cluster_that_is_well_is_ready_and_every_operation_of_its_store_works(
    api: Api, session: aiohttp.ClientSession
) -> None:
    async with session.get(f"{api.url}/readyz") as answered:
        assert await answered.json() == {"ready": True}
    async with session.get(f"{api.url}/v2/health") as answered:
        shown = await answered.json()

    operations = shown["operation_status"]
    assert shown["storage_reachable"] is True
    assert [name for name, found in operations.items() if not found["succeeded"]] == []
    assert list(operations)[-1] == "delete_queue"


async def test_an_owed_delivery_and_its_age_are_shown_until_a_worker_has_delivered_it(
    cluster: Cluster, api: Api, session: aiohttp.ClientSession, hook: Hook
) -> None:
    await subscribe(session, api, hook)
    await post(session, api, hook.queue, "older")
    one = await until_shown(session, api.url, "owed", 1, **OUTBOX)
    await post(session, api, hook.queue, "newer")
    two = await until_shown(session, api.url, "owed", 2, **OUTBOX)

    port = free_port()
    await asyncio.to_thread(cluster.worker, environ={"ZAQAR_METRICS_PORT": str(port)})
    none = await until_shown(session, api.url, "owed", 0, **OUTBOX)

    overdue = [samples("owed_overdue_seconds", **OUTBOX) or 0 for samples in (one, two, none)]
    assert overdue[1] > overdue[0]
    assert overdue[2] == 0
    assert (none("owed", **RETRY), none("poison"), none("posts_total")) == (0, 0, 2)
    assert set(hook.bodies) == {"older", "newer"}
    of_worker = await scrape(session, f"http://127.0.0.1:{port}")
    assert (of_worker("tries_total", scheme="http", verdict="delivered") or 0) >= 2


async def test_a_broker_that_is_away_is_shown_until_it_is_back(
    cluster: Cluster, api: Api, session: aiohttp.ClientSession, hook: Hook
) -> None:
    await subscribe(session, api, hook)
    cluster.redis.kill()

    await post(session, api, hook.queue, "hello")

    await until_shown(session, api.url, "broker_up", 0)
    await asyncio.to_thread(cluster.redis.start)
    await until_shown(session, api.url, "broker_up", 1)
    assert await status(session, f"{api.url}/readyz") == 200


@pytest.mark.parametrize(("kind", "engines"), [("threads", 1), ("prefork", 2)])
async def test_a_worker_shows_whether_it_hears_the_broker_and_is_ready_without(
    cluster: Cluster, session: aiohttp.ClientSession, kind: str, engines: int
) -> None:
    told = {"ZAQAR_METRICS_PORT": str(free_port())}
    worker = await asyncio.to_thread(cluster.worker, kind, environ=told)
    urls = metrics_urls(worker)
    assert len(urls) == engines
    for url in urls:
        await until_shown(session, url, "broker_up", 1)

    cluster.redis.kill()

    for url in urls:
        await until_shown(session, url, "broker_up", 0)
        assert await status(session, f"{url}/readyz") == 200
    await asyncio.to_thread(cluster.redis.start)
    for url in urls:
        await until_shown(session, url, "broker_up", 1)


async def test_without_its_store_a_process_is_alive_and_not_ready_until_it_is_back(
    store: ReplicaSet, api: Api, session: aiohttp.ClientSession
) -> None:
    store.members[0].kill()

    await until_status(session, f"{api.url}/readyz", 503)
    assert await status(session, f"{api.url}/healthz") == 204
    away = await until_shown(session, api.url, "store_up", 0)
    assert away("owed", **OUTBOX) is None
    async with session.get(f"{api.url}/v2/health") as answered:
        assert (await answered.json())["storage_reachable"] is False

    await asyncio.to_thread(store.members[0].start)
    await until_status(session, f"{api.url}/readyz", 200)
    await until_shown(session, api.url, "store_up", 1)
