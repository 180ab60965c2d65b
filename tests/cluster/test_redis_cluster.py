"""A Redis in cluster mode is no broker for us: it refuses commands on keys of several slots, or sends
them elsewhere. Deliveries go on all the same, and the fault is named once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import pytest

from tests.cluster.cluster import Cluster, empty_cluster
from tests.cluster.processes import PATIENCE_SECONDS, Hook, post, subscribe
from tests.cluster.test_broker_answers import eventually
from tests.redis_server import RedisServer, require_redis
from tests.service import free_port

SLOTS = range(16384)
HALF = len(SLOTS) // 2
BUS_OFFSET = 10_000
"""The nodes of a cluster talk on a port so much above their own."""


def node(directory: Path, name: str) -> RedisServer:
    directory.mkdir()
    options = ["--cluster-enabled", "yes", "--cluster-config-file", name, "--dir", str(directory)]
    return RedisServer(options=options, port=free_port(and_also=BUS_OFFSET))


def give_slots(redis: RedisServer, slots: range) -> None:
    redis.client.execute_command("CLUSTER", "ADDSLOTS", *slots)  # type: ignore[no-untyped-call]


@pytest.fixture(params=["CrossSlot", "Moved"])
def fault(request: pytest.FixtureRequest) -> str:
    """Of one node with all slots; of two, each with half of them."""
    return str(request.param)


@pytest.fixture
def cluster(tmp_path: Path, fault: str) -> Iterator[Cluster]:
    require_redis()
    redis, other = node(tmp_path / "a", "a.conf"), node(tmp_path / "b", "b.conf")
    with ExitStack() as ends:
        cluster = ends.enter_context(empty_cluster(tmp_path, redis=redis))
        give_slots(redis, SLOTS if fault == "CrossSlot" else SLOTS[:HALF])
        if fault == "Moved":
            ends.callback(other.kill)
            other.start()
            give_slots(other, SLOTS[HALF:])
            redis.client.execute_command("CLUSTER", "MEET", "127.0.0.1", other.port)  # type: ignore[no-untyped-call]
        wait_until_ready(redis)
        yield cluster


def wait_until_ready(redis: RedisServer) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while "cluster_state:ok" not in str(redis.client.execute_command("CLUSTER", "INFO")):  # type: ignore[no-untyped-call]
        assert time.monotonic() < deadline, "The cluster does not form"
        time.sleep(0.05)


def connections(redis: RedisServer) -> int:
    """How many it took since its start: one at least for each try to listen."""
    return int(redis.client.info("stats")["total_connections_received"])


async def test_deliveries_go_on_beside_a_redis_cluster_and_the_fault_is_named_once(
    cluster: Cluster, fault: str, session: aiohttp.ClientSession, hook: Hook
) -> None:
    worker = await asyncio.to_thread(cluster.worker)
    api = await asyncio.to_thread(cluster.api)
    await subscribe(session, api, hook)

    tried = connections(cluster.redis)

    for number in range(3):
        await post(session, api, hook.queue, number)
        await hook.received(number)
    await eventually(lambda: connections(cluster.redis) > tried + 1, "Nobody tries to listen")

    told = [line for line in worker.log.read_text().splitlines() if fault in line]
    assert [line for line in told if "action=broker_unavailable" in line] == told
    assert len(told) == 1
    assert worker.running().poll() is None
