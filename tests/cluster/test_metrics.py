"""What the processes of a cluster show of themselves, each on a port of its own."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping

import aiohttp
import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.processes import PATIENCE_SECONDS, Hook, Process, post, subscribe
from tests.samples import Samples
from tests.service import free_port


@pytest.fixture
def shown() -> Mapping[str, str]:
    """What a process is told that is to show its metrics."""
    return {"ZAQAR_METRICS_PORT": str(free_port())}


@pytest.fixture(autouse=True)
def _processes_end_with_their_test(cluster: Cluster) -> Iterator[None]:
    yield
    cluster.end_processes()
    cluster.redis.kill()
    cluster.redis.start()


def ports_of(process: Process) -> list[int]:
    """Where its processes show their metrics, as they have logged."""
    return [
        int(port) for port in re.findall(r"action=metrics_served .*port=(\d+)", process.printed())
    ]


async def scrape(session: aiohttp.ClientSession, port: int) -> Samples:
    async with session.get(f"http://127.0.0.1:{port}/metrics") as answered:
        return Samples(await answered.text())


async def readiness(session: aiohttp.ClientSession, port: int) -> int:
    async with session.get(f"http://127.0.0.1:{port}/readyz") as answered:
        return answered.status


async def until_all_show(
    session: aiohttp.ClientSession, ports: list[int], is_so: Callable[[Samples], bool]
) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not all([is_so(await scrape(session, port)) for port in ports]):
            pass


@pytest.mark.parametrize(("kind", "engines"), [("threads", 1), ("prefork", 2)])
async def test_a_worker_shows_whether_it_hears_the_broker_and_is_ready_without(
    cluster: Cluster,
    session: aiohttp.ClientSession,
    shown: Mapping[str, str],
    kind: str,
    engines: int,
) -> None:
    worker = await asyncio.to_thread(cluster.worker, kind, environ=shown)
    ports = ports_of(worker)
    assert len(ports) == engines
    await until_all_show(session, ports, lambda samples: samples("broker_up") == 1)

    cluster.redis.kill()

    await until_all_show(session, ports, lambda samples: samples("broker_up") == 0)
    assert {await readiness(session, port) for port in ports} == {200}
    await asyncio.to_thread(cluster.redis.start)
    await until_all_show(session, ports, lambda samples: samples("broker_up") == 1)


async def test_a_worker_counts_its_tries_by_scheme_and_verdict(
    cluster: Cluster, session: aiohttp.ClientSession, hook: Hook, shown: Mapping[str, str]
) -> None:
    api = await asyncio.to_thread(cluster.api)
    worker = await asyncio.to_thread(cluster.worker, environ=shown)
    await subscribe(session, api, hook)

    await post(session, api, hook.queue, "hello")
    await hook.received("hello")

    await until_all_show(
        session,
        ports_of(worker),
        lambda samples: samples("tries_total", scheme="http", verdict="delivered") == 1,
    )


async def test_an_api_process_shows_whether_the_broker_takes_its_rings(
    cluster: Cluster, session: aiohttp.ClientSession, hook: Hook, shown: Mapping[str, str]
) -> None:
    api = await asyncio.to_thread(cluster.api, environ=shown)
    ports = ports_of(api)
    await subscribe(session, api, hook)
    await post(session, api, hook.queue, "heard")
    await until_all_show(session, ports, lambda samples: samples("rings_total", result="sent") == 1)
    assert (await scrape(session, ports[0]))("broker_up") == 1

    cluster.redis.kill()
    await post(session, api, hook.queue, "not heard")

    await until_all_show(session, ports, lambda samples: samples("broker_up") == 0)
