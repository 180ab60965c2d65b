"""Probes and metrics answer alike on the API's address and on a process's own port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.api.conftest import Api, Reply, StartApi
from tests.service import free_port
from zaqar_notify.operations import probes
from zaqar_notify.operations.metrics_port import serving_metrics
from zaqar_notify.service import Service

NOBODY = {"Client-ID": None, "X-Project-ID": None}


class Port:
    """The metrics port of the process that serves the API."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session

    async def call(self, method: str, path: str) -> Reply:
        async with self._session.request(method, self._url + path) as answer:
            return Reply(answer.status, answer.headers, await answer.read())


@pytest.fixture
async def api(start_api: StartApi) -> Api:
    return await start_api(metrics_port=free_port())


@pytest.fixture
async def port(api: Api) -> AsyncIterator[Port]:
    async with serving_metrics(api.service) as number, aiohttp.ClientSession() as session:
        yield Port(f"http://127.0.0.1:{number}", session)


@pytest.mark.parametrize(
    ("method", "path", "state"),
    [
        ("GET", "/healthz", "serving"),
        ("HEAD", "/healthz", "serving"),
        ("GET", "/readyz", "serving"),
        ("HEAD", "/readyz", "serving"),
        ("OPTIONS", "/readyz", "serving"),
        ("POST", "/readyz", "serving"),
        ("HEAD", "/metrics", "serving"),
        ("DELETE", "/metrics", "serving"),
        ("GET", "/nowhere", "serving"),
        ("GET", "/healthz", "without a store"),
        ("GET", "/readyz", "without a store"),
        ("GET", "/healthz", "stopping"),
        ("GET", "/readyz", "stopping"),
    ],
)
async def test_both_addresses_answer_alike(
    api: Api, port: Port, method: str, path: str, state: str
) -> None:
    if state == "without a store":
        await api.service.storage.close()
    api.service.health.is_draining = state == "stopping"

    on_api = await api.call(method, path, headers=NOBODY)
    on_port = await port.call(method, path)

    assert (on_port.status, on_port.body) == (on_api.status, on_api.body)
    for name in ("Content-Type", "Allow", "Retry-After"):
        assert on_port.headers.get(name) == on_api.headers.get(name)


async def test_metrics_are_those_of_the_process_wherever_they_are_asked_for(
    api: Api, port: Port
) -> None:
    await api.post_bodies("q", 1)

    for shown in (await api.get("/metrics", headers=NOBODY), await port.call("GET", "/metrics")):
        assert b"\nzaqar_notify_posts_total 1.0\n" in shown.body


async def test_metrics_are_made_one_at_a_time_and_for_all_who_wait(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way = most = made = 0

    async def exposition(service: Service) -> bytes:
        nonlocal under_way, most, made
        made += 1
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return b""

    monkeypatch.setattr(probes, "exposition", exposition)

    replies = await asyncio.gather(*(api.get("/metrics") for _ in range(20)))

    assert {reply.status for reply in replies} == {200}
    assert most == 1
    assert made < 20
