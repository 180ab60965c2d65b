"""`zaqar-notify api`: several processes behind one address."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.processes import API_HEADERS, Api, post
from tests.service import command, free_port, outside_environ
from zaqar_notify.delivery.installation import installation_mark, is_own_listener
from zaqar_notify.settings import Settings

WOKEN_SECONDS = 5
WAITS_SECONDS = 1
"""Until a request that was sent is certain to wait."""
ANY_PORT = ("--port", "0")
FILE = {"ZAQAR_STORE_URI": "sqlite:////tmp/never-made.db"}
BROKER = {"ZAQAR_BROKER_URI": "redis://127.0.0.1:1/0"}


def refusal(arguments: tuple[str, ...], environ: Mapping[str, str]) -> str:
    """The output of a start that fails: one sentence, no traceback, and exit code 1."""
    ended = subprocess.run(
        command(*arguments),
        env=outside_environ() | dict(environ),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("what", [("api", *ANY_PORT), ("worker",)], ids=["api", "worker"])
def test_a_setting_that_is_missing_is_named(what: tuple[str, ...]) -> None:
    assert "ZAQAR_STORE_URI" in refusal(what, BROKER)


@pytest.mark.parametrize(
    "what",
    [("api", *ANY_PORT, "--processes", "2"), ("worker", "--concurrency", "2")],
    ids=["api", "worker"],
)
def test_a_file_is_refused_as_the_store_of_several_processes(what: tuple[str, ...]) -> None:
    assert "SQLite" in refusal(what, FILE | BROKER)
    control = {"ZAQAR_STORE_URI": "mongodb://127.0.0.1:1/", "ZAQAR_CONTROL_URI": "sqlite:///c.db"}
    assert "ZAQAR_CONTROL_URI names a SQLite file" in refusal(what, control | BROKER)


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Api:
    """In two processes."""
    api = cluster.api(processes=2)
    api.wait_until(lambda: len(processes_of(api)) == 2)
    return api


def processes_of(api: Api) -> list[int]:
    pid = api.running().pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def begin_post(
    api: Api, queue: str, body: bytes
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send the head of a post, and wait until a process has read it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    headers = "".join(f"{name}: {value}\r\n" for name, value in API_HEADERS.items())
    writer.write(
        f"POST /v2/queues/{queue}/messages HTTP/1.1\r\nHost: service\r\n{headers}"
        f"Expect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    )
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    return reader, writer


async def all_bodies(session: aiohttp.ClientSession, api: Api, queue: str) -> list[object]:
    url = f"{api.url}/v2/queues/{queue}/messages?limit=20&echo=true"
    async with session.get(url) as answered:
        return [message["body"] for message in (await answered.json())["messages"]]


async def test_requests_under_way_are_answered_when_all_processes_are_told_to_stop(
    cluster: Cluster, api: Api, session: aiohttp.ClientSession
) -> None:
    body = b'{"messages": [{"body": "in flight", "ttl": 3600}]}'
    begun = [await begin_post(api, "stopped", body) for _ in range(6)]

    api.send(signal.SIGTERM)
    for _, writer in begun:
        writer.write(body)
    answers = [await reader.read() for reader, _ in begun]

    assert all(answer.startswith(b"HTTP/1.1 201 ") for answer in answers)
    assert await asyncio.to_thread(api.exit_code) == 0
    for _, writer in begun:
        writer.close()
    await asyncio.to_thread(api.start)
    assert await all_bodies(session, api, "stopped") == ["in flight"] * 6


async def test_a_process_that_is_killed_is_replaced_and_nothing_acknowledged_is_lost(
    cluster: Cluster, api: Api, session: aiohttp.ClientSession
) -> None:
    await asyncio.to_thread(api.wait_until, lambda: len(processes_of(api)) == 2)
    killed = processes_of(api)[0]
    acknowledged: list[object] = []
    for number in range(15):
        if number == 5:
            os.kill(killed, signal.SIGKILL)
        try:
            await post(session, api, "killed", number)
        except aiohttp.ClientConnectionError:
            continue
        acknowledged.append(number)

    assert len(acknowledged) >= 14
    found = await all_bodies(session, api, "killed")
    assert [body for body in found if body in acknowledged] == acknowledged
    await asyncio.to_thread(
        api.wait_until, lambda: len(processes_of(api)) == 2 and killed not in processes_of(api)
    )


def test_this_host_knows_where_the_processes_listen_whichever_of_them_die(api: Api) -> None:
    """So that a worker beside them delivers nothing there."""
    mark = installation_mark(Settings(webhook_secret="secret"))
    destination = ("127.0.0.1", api.port)
    assert is_own_listener(destination, socket.AF_INET, mark)

    for process in processes_of(api):
        os.kill(process, signal.SIGKILL)

    assert is_own_listener(destination, socket.AF_INET, mark)
    api.wait_until(lambda: len(processes_of(api)) == 2)


async def test_a_webhook_to_the_processes_themselves_is_refused_when_it_is_asked_for(
    api: Api, session: aiohttp.ClientSession
) -> None:
    async def subscribed(port: int) -> tuple[int, str]:
        document = {"subscriber": f"http://127.0.0.1:{port}/v2/queues/victims/messages"}
        async with session.post(f"{api.url}/v2/queues/q/subscriptions", json=document) as answer:
            return answer.status, await answer.text()

    status, text = await subscribed(api.port)
    other, _ = await subscribed(free_port())

    assert (status, other) == (400, 201)
    assert "deliveries may not reach this service itself" in text


async def test_a_long_poll_at_one_process_wakes_when_another_takes_a_post(
    cluster: Cluster, api: Api, session: aiohttp.ClientSession
) -> None:
    other = await asyncio.to_thread(cluster.api)

    async def poll() -> list[object]:
        url = f"{other.url}/v2/queues/polled/messages?echo=true&wait=15"
        async with session.get(url) as answered:
            return [message["body"] for message in (await answered.json())["messages"]]

    polling = asyncio.create_task(poll())
    await asyncio.sleep(WAITS_SECONDS)
    assert not polling.done()
    await post(session, api, "polled", "wake up")

    assert await asyncio.wait_for(polling, WOKEN_SECONDS) == ["wake up"]
