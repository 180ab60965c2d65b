"""Answers in parts: sent as they come, through a real socket."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from fastapi import FastAPI, Request, Response
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint

from api.answers import Answer
from api.app import create_app
from api.errors import answer_to
from api.requests import Call
from api.resources import UNGUARDED, Operation, Reply, Resource
from api.surfaces import Surface
from api.zaqar.admission import admit
from tests.api.added import Everybody, add_surface
from tests.api.conftest import Api, StartApi
from zaqar_notify.auth import Policy
from zaqar_notify.service import Service

DEADLINE_SECONDS = 10
PATH = "/stream"


class Parts:
    """The parts of one answer, made one by one when the test says so."""

    def __init__(self) -> None:
        self.given: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self.closed = asyncio.Event()

    async def made(self) -> AsyncGenerator[bytes, None]:
        try:
            while (part := await self.given.get()) is not None:
                if isinstance(part, Exception):
                    raise part
                yield part
        finally:
            self.closed.set()

    async def show(self, service: Service, call: Call) -> Answer:
        return Answer(200, self.made(), content_type=b"text/event-stream")

    async def end(self) -> None:
        """Wait until the parts are closed."""
        await asyncio.wait_for(self.closed.wait(), DEADLINE_SECONDS)


@pytest.fixture
def parts() -> Parts:
    return Parts()


class PassOn(BaseHTTPMiddleware):
    """Sends on each part of an answer that is not empty, and says nothing of the others."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


def with_middleware(service: Service, policy: Policy | None) -> FastAPI:
    app = create_app(service, policy)
    app.add_middleware(PassOn)
    return app


@pytest.fixture(params=[False, True], ids=["alone", "below middleware"])
async def api(
    request: pytest.FixtureRequest,
    start_api: StartApi,
    parts: Parts,
    monkeypatch: pytest.MonkeyPatch,
) -> Api:
    if request.param:
        monkeypatch.setattr("tests.api.conftest.create_app", with_middleware)
    add_surface(monkeypatch, stream_of(parts))
    return await start_api()


def stream_of(parts: Parts) -> Surface:
    operation = Operation(parts.show, UNGUARDED, "Show parts", {200: Reply("Parts")})
    streams = (Resource(PATH, {"GET": operation}, is_open=True),)
    return Surface(PATH, streams, Everybody(), admit, answer_to)


@asynccontextmanager
async def opened(api: Api, method: str = "GET") -> AsyncIterator[aiohttp.ClientResponse]:
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as session,
        session.request(method, api.url + PATH) as reply,
    ):
        yield reply


async def test_each_part_is_sent_as_it_comes(api: Api, parts: Parts) -> None:
    async with opened(api) as reply:
        for part in (b"one", b"two"):
            parts.given.put_nowait(part)
            assert await asyncio.wait_for(reply.content.readany(), DEADLINE_SECONDS) == part
        parts.given.put_nowait(None)

        assert await reply.read() == b""
        assert reply.headers["Transfer-Encoding"] == "chunked"
        assert reply.headers["Content-Type"] == "text/event-stream"
        assert "Content-Length" not in reply.headers
        assert reply.headers["X-OpenStack-Request-Id"].startswith("req-")


async def test_the_connection_goes_on_after_the_last_part(api: Api, parts: Parts) -> None:
    for part in (b"only", None):
        parts.given.put_nowait(part)
    request = b"GET %b HTTP/1.1\r\nHost: x\r\n" % PATH.encode()

    both = await api.send_raw(
        request + b"\r\nGET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )

    assert b"4\r\nonly\r\n0\r\n\r\nHTTP/1.1 404" in both


async def test_a_client_that_hangs_up_ends_the_parts(api: Api, parts: Parts) -> None:
    async with opened(api) as reply:
        parts.given.put_nowait(b"one")
        await reply.content.readany()

    await parts.end()


async def test_a_client_that_reads_nothing_holds_up_the_parts(api: Api, parts: Parts) -> None:
    megabytes = 64
    for _ in range(megabytes):
        parts.given.put_nowait(bytes(1 << 20))
    parts.given.put_nowait(None)

    async with opened(api) as reply:
        await asyncio.sleep(0.5)  # Long enough for all of them, were none held up.
        held_up = parts.given.qsize()

        assert held_up > megabytes / 2
        assert len(await reply.read()) == megabytes << 20


async def test_head_is_answered_without_parts(api: Api, parts: Parts) -> None:
    async with opened(api, "HEAD") as reply:
        assert (reply.status, await reply.read()) == (200, b"")
        assert "Content-Length" not in reply.headers


async def test_an_answer_that_fails_half_way_is_cut_short_and_logged_once(
    api: Api, parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "api")
    async with opened(api) as reply:
        parts.given.put_nowait(b"one")
        parts.given.put_nowait(ZeroDivisionError("a defect"))

        with pytest.raises(aiohttp.ClientPayloadError):
            await reply.read()

    await parts.end()
    ours = [record for record in caplog.records if record.name.startswith("api")]
    assert [record.__dict__["action"] for record in ours] == ["request_failed"]
