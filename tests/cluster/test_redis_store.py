"""Redis as the only store: of a cluster, with the broker in another of its databases, and of a single process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
import requests

from tests.cluster.cluster import Cluster, empty_cluster
from tests.cluster.processes import API_HEADERS, PATIENCE_SECONDS, Api, Hook, subscribe
from tests.redis_server import DURABLE, RedisServer, require_redis
from tests.service import Service, command, outside_environ

AFTER_EACH = 15
"""So many posts are acknowledged between two kills."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that keeps what it acknowledged."""
    require_redis()
    (tmp_path / "redis").mkdir()
    server = RedisServer(tmp_path / "redis", options=DURABLE)
    yield server
    server.kill()


@pytest.fixture
def cluster(tmp_path: Path, server: RedisServer) -> Iterator[Cluster]:
    with empty_cluster(tmp_path, store_of(server), redis=server) as cluster:
        yield cluster


def store_of(server: RedisServer) -> str:
    return f"redis://127.0.0.1:{server.port}/1"


class Posting:
    """Posts numbers, one after the other, whatever fails, until it is told to stop."""

    def __init__(self, session: aiohttp.ClientSession, api: Api, queue: str) -> None:
        self.acknowledged: list[int] = []
        self._came = asyncio.Condition()
        self._session = session
        self._url = f"{api.url}/v2/queues/{queue}/messages"
        self._task = asyncio.create_task(self._post())

    async def go_on(self) -> None:
        """Wait until some more are acknowledged."""
        wanted = len(self.acknowledged) + AFTER_EACH
        async with asyncio.timeout(PATIENCE_SECONDS), self._came:
            await self._came.wait_for(lambda: len(self.acknowledged) >= wanted)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _post(self) -> None:
        number = 0
        while True:
            number += 1
            document = {"messages": [{"body": number, "ttl": 3600}]}
            try:
                async with self._session.post(self._url, json=document) as answered:
                    if answered.status == 201:
                        self.acknowledged.append(number)
                        async with self._came:
                            self._came.notify_all()
            except aiohttp.ClientError:
                await asyncio.sleep(0.01)


async def test_nothing_acknowledged_is_lost_whichever_process_is_killed(
    cluster: Cluster, server: RedisServer, session: aiohttp.ClientSession, hook: Hook
) -> None:
    api = await asyncio.to_thread(cluster.api, processes=2)
    worker = await asyncio.to_thread(cluster.worker)
    await subscribe(session, api, hook)
    posting = Posting(session, api, hook.queue)

    await posting.go_on()
    os.kill(api.children()[-1], signal.SIGKILL)
    await posting.go_on()
    worker.kill()
    await posting.go_on()
    server.kill()
    await asyncio.to_thread(server.start)
    await posting.go_on()
    await posting.stop()
    await asyncio.to_thread(worker.start)

    found = await consumed(session, api, hook.queue)
    assert [number for number in found if number in posting.acknowledged] == posting.acknowledged
    assert len(found) == len(set(found))
    for number in posting.acknowledged:
        await hook.received(number)


async def consumed(session: aiohttp.ClientSession, api: Api, queue: str) -> list[int]:
    """The bodies of all messages, claimed and deleted."""
    queue_url = f"{api.url}/v2/queues/{queue}"
    bodies: list[int] = []
    while True:
        async with session.post(f"{queue_url}/claims?limit=20", json={"ttl": 60}) as answered:
            if answered.status == 204:
                return bodies
            messages = (await answered.json())["messages"]
        bodies += [message["body"] for message in messages]
        for message in messages:
            async with session.delete(api.url + message["href"]) as deleted:
                assert deleted.status == 204


def test_a_single_process_goes_on_with_its_redis_after_a_crash_and_is_looked_at(
    server: RedisServer, tmp_path: Path
) -> None:
    server.start()
    environ = {"ZAQAR_STORE_URI": store_of(server), "ZAQAR_DELIVERY_LEASE_SECONDS": "2"}
    service = Service(tmp_path / "data", environ=environ)
    service.start()
    queue = f"{service.url}/v2/queues/q"

    def call(method: str, url: str, document: object = None) -> requests.Response:
        return requests.request(method, url, json=document, headers=API_HEADERS, timeout=10)

    call("PUT", queue, {"owner": "shop"})
    call("POST", f"{queue}/subscriptions", {"subscriber": "queue:copies"})
    posted = call("POST", f"{queue}/messages", {"messages": [{"body": 1}]})

    service.kill()
    service.start()
    told = subprocess.run(
        command("doctor", "--data", str(tmp_path / "data"), "--json"),
        env=outside_environ() | environ,
        capture_output=True,
        check=False,
    )

    assert told.returncode == 0
    checks = [finding["check"] for finding in json.loads(told.stdout)]
    assert checks.count("clock") == 1
    assert posted.status_code == 201
    assert call("GET", queue).json()["owner"] == "shop"
    copies = call("GET", f"{service.url}/v2/queues/copies/messages?echo=true&wait=20").json()
    assert [message["body"] for message in copies["messages"]] == [1]
    pages = call("GET", f"{queue}/messages?echo=true").json()
    assert [message["body"] for message in pages["messages"]] == [1]
    assert not (tmp_path / "data" / "zaqar-notify.db").exists()
    assert service.stop() == 0
    assert "Traceback" not in service.log.read_text()
