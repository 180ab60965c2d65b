"""A client of the WebSocket API, on a running server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import msgspec
import pytest
import uvloop

from tests.api.conftest import CLIENT_ID, PROJECT, Api, StartApi, api, running, start_api
from tests.kinds import KINDS
from workers.build import build_engine
from workers.doorbell import LocalDoorbell
from zaqar_notify.service import Service
from zaqar_notify.settings import Settings
from zaqar_notify.storage.registry import open_storage

__all__ = ["api", "start_api"]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that the service runs on."""
    return {"uvloop": uvloop.new_event_loop}


@dataclass(frozen=True)
class Reply:
    status: int
    body: Any
    request: Any


class Client:
    """One WebSocket. Frames name the tests' project, unless `headers` say otherwise."""

    client_id = CLIENT_ID

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def ask(
        self,
        action: str,
        *,
        headers: Mapping[str, object] | None = None,
        is_binary: bool = False,
        **body: Any,
    ) -> Reply:
        """Send a frame, and take the answer; a header of None is left out."""
        sent = {"Client-ID": self.client_id, "X-Project-ID": PROJECT, **(headers or {})}
        named = {name: value for name, value in sent.items() if value is not None}
        return await self.send({"action": action, "headers": named, "body": body}, is_binary)

    async def send(self, frame: object, is_binary: bool = False) -> Reply:
        if is_binary:
            await self.socket.send_bytes(msgspec.msgpack.encode(frame))
        else:
            await self.socket.send_str(frame if isinstance(frame, str) else json.dumps(frame))
        return await self.reply()

    async def reply(self) -> Reply:
        answer = await self.frame()
        assert answer.keys() == {"request", "body", "headers"}
        assert answer["headers"].keys() == {"status"}
        return Reply(answer["headers"]["status"], answer["body"], answer["request"])

    async def frame(self) -> Any:
        """The next frame of the server."""
        return self.read(await self.socket.receive(timeout=10))

    @staticmethod
    def read(received: aiohttp.WSMessage) -> Any:
        """The content of a frame."""
        if received.type is aiohttp.WSMsgType.BINARY:
            return msgspec.msgpack.decode(received.data)
        assert received.type is aiohttp.WSMsgType.TEXT, received
        return json.loads(received.data)

    async def end(self) -> tuple[int | None, str | None]:
        """The code and the reason with which the server closes the socket, after frames that may come before."""
        while True:
            received = await self.socket.receive(timeout=10)
            if received.type is aiohttp.WSMsgType.CLOSE:
                return received.data, received.extra
            assert received.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), received


class Connect(Protocol):
    def __call__(
        self, api: Api, path: str = "/", headers: Mapping[str, str] | None = None
    ) -> Awaitable[Client]: ...


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Opens WebSockets."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())

        async def opened(
            api: Api, path: str = "/", headers: Mapping[str, str] | None = None
        ) -> Client:
            opening = session.ws_connect(
                f"ws://127.0.0.1:{api.port}{path}", headers=headers, autoclose=False
            )
            return Client(await stack.enter_async_context(opening))

        yield opened


@pytest.fixture
async def client(api: Api, connect: Connect) -> Client:
    """A WebSocket to an API with the default settings."""
    return await connect(api)


class Whole:
    """An API with its engine, on a store that outlives both."""

    def __init__(self, uri: str, connect: Connect) -> None:
        self._uri = uri
        self._connect = connect

    @asynccontextmanager
    async def running(self, **settings: Any) -> AsyncIterator[Api]:
        wanted = Settings(**{"auth": "none", **settings})
        storage = await open_storage(self._uri, keys=wanted.keyring)
        doorbell = LocalDoorbell()
        service = Service(storage, wanted, storage.clock, doorbell, KINDS)
        engine = build_engine(service, doorbell)
        delivering = asyncio.create_task(engine.run())
        try:
            async with running(service) as api:
                yield api
        finally:
            await engine.drain(5)
            await delivering
            await storage.close()

    async def connect(self, api: Api, client_id: str = CLIENT_ID) -> Client:
        """A client with an id of its own."""
        client = await self._connect(api)
        client.client_id = client_id
        return client


@pytest.fixture
def whole(tmp_path: Path, connect: Connect) -> Whole:
    return Whole(f"sqlite://{tmp_path}/zaqar.db", connect)


Start = Callable[..., Awaitable[Client]]


@pytest.fixture
async def start(start_api: StartApi, connect: Connect) -> Start:
    """Starts an API with settings of the test's own, and connects to it."""

    async def started(**settings: Any) -> Client:
        return await connect(await start_api(**settings))

    return started
