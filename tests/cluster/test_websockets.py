"""WebSockets in a cluster: a process that holds them is killed, and another takes over."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.processes import API_HEADERS, PATIENCE_SECONDS, Api, post
from tests.service import free_port
from zaqar_notify.client import Client

GRACE = {"ZAQAR_WEBSOCKET_GRACE_SECONDS": "2"}


WEBSOCKET_PORT = free_port()


@pytest.fixture(scope="module")
def other(cluster: Cluster) -> Api:
    """An API of two processes that lives on, with a port for WebSockets, and whose worker runs."""
    cluster.worker(environ=GRACE)
    return cluster.api(processes=2, environ={**GRACE, "ZAQAR_WEBSOCKET_PORT": str(WEBSOCKET_PORT)})


@pytest.fixture
def killed(cluster: Cluster) -> Api:
    """An API for the test to kill."""
    return cluster.api(environ=GRACE)


async def subscribed(session: aiohttp.ClientSession, url: str, queue: str) -> Any:
    """A WebSocket that is subscribed to the queue, and the subscription's id."""
    socket = await session.ws_connect(url, autoclose=False)
    await socket.send_json(
        {"action": "subscription_create", "headers": API_HEADERS, "body": {"queue_name": queue}}
    )
    answer = await socket.receive_json(timeout=10)
    assert answer["headers"]["status"] == 201, answer
    return socket, answer["body"]["subscription_id"]


async def test_a_client_of_a_killed_process_goes_on_at_another(
    killed: Api, other: Api, session: aiohttp.ClientSession
) -> None:
    socket, subscription_id = await subscribed(session, killed.url, "taken-over")
    await post(session, other, "taken-over", "before")
    assert (await socket.receive_json(timeout=10))["body"] == "before"

    killed.kill()
    for number in range(5):
        await post(session, other, "taken-over", number)
    again, resumed = await subscribed(session, f"ws://127.0.0.1:{WEBSOCKET_PORT}/any", "taken-over")

    assert resumed == subscription_id
    received = [(await again.receive_json(timeout=10))["body"] for _ in range(5)]
    # Perhaps no pong had proved that the first one had arrived.
    if received[0] == "before":
        received = [*received[1:], (await again.receive_json(timeout=10))["body"]]
    assert received == list(range(5))


async def test_subscriptions_of_a_killed_process_end(
    killed: Api, other: Api, session: aiohttp.ClientSession
) -> None:
    await subscribed(session, killed.url, "left-behind")

    killed.kill()

    with Client(other.url, project=API_HEADERS["X-Project-ID"]) as client:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while await asyncio.to_thread(lambda: list(client.subscriptions("left-behind"))):
            assert time.monotonic() < deadline
