"""The API over HTTP: uvicorn and a client in the test's own event loop, on a SQLite file."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import unquote

import aiohttp
import pytest
from yarl import URL

from api.app import create_app
from api.connection import Connection
from tests.api.documented import DOCUMENTATION
from tests.clock import ManualClock
from tests.kinds import KINDS
from zaqar_notify.auth import Policy, tokens
from zaqar_notify.auth.keystone.validator import Keystone
from zaqar_notify.auth.tokens import AskedToken
from zaqar_notify.cli.serving import Server
from zaqar_notify.clock import Clock
from zaqar_notify.operations.certificate import certificate_of
from zaqar_notify.service import Service
from zaqar_notify.settings import Settings
from zaqar_notify.storage.internal import Partition
from zaqar_notify.storage.registry import open_storage

CLIENT_ID = "3381af922b9e11e3b19171861300734c"
OTHER_CLIENT_ID = "4472b0a3-3c9f-42f4-8292-82972411845d"
PROJECT = "p1"


class CountingDoorbell:
    """Counts its rings."""

    def __init__(self) -> None:
        self.rings = 0

    def ring(self, partition: Partition) -> None:
        self.rings += 1

    def ring_soon(self, partition: Partition) -> None:
        return


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def title(self) -> str | None:
        return self.json.get("title") if self.body else None


class Api:
    """A running API, called with the headers that every request needs."""

    def __init__(
        self,
        service: Service,
        port: int,
        session: aiohttp.ClientSession,
        connections: Collection[Connection],
    ) -> None:
        self.service = service
        self.connections = connections
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._session = session

    async def call(
        self,
        method: str,
        path: str,
        document: object = None,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str | None] | None = None,
    ) -> Reply:
        """Call with a JSON document or raw bytes; a header of None is left out."""
        if document is not None:
            body = json.dumps(document).encode()
        sent: dict[str, str | None] = {"Client-ID": CLIENT_ID, "X-Project-ID": PROJECT}
        if body is not None:
            sent["Content-Type"] = "application/json"
        sent.update(headers or {})
        async with self._session.request(
            method,
            URL(self.url + path, encoded=True),
            data=body,
            headers={name: value for name, value in sent.items() if value is not None},
            allow_redirects=False,
            skip_auto_headers=("Content-Type", "Accept"),
        ) as answer:
            reply = Reply(answer.status, answer.headers, await answer.read())
        DOCUMENTATION.check(
            method,
            unquote(path.partition("?")[0]),
            sent=body or b"",
            status=reply.status,
            content_type=reply.headers.get("Content-Type", ""),
            body=reply.body,
        )
        return reply

    async def get(self, path: str, **options: Any) -> Reply:
        return await self.call("GET", path, **options)

    async def post(self, path: str, document: object = None, **options: Any) -> Reply:
        return await self.call("POST", path, document, **options)

    async def put(self, path: str, document: object = None, **options: Any) -> Reply:
        return await self.call("PUT", path, document, **options)

    async def patch(self, path: str, document: object = None, **options: Any) -> Reply:
        return await self.call("PATCH", path, document, **options)

    async def delete(self, path: str, **options: Any) -> Reply:
        return await self.call("DELETE", path, **options)

    async def post_bodies(self, queue: str, *bodies: object) -> list[str]:
        """Post messages to a queue; their ids."""
        messages = [{"body": body} for body in bodies]
        reply = await self.post(f"/v2/queues/{queue}/messages", {"messages": messages})
        assert reply.status == 201, reply
        return [str(href).rpartition("/")[2] for href in reply.json["resources"]]

    async def subscribe(
        self, queue: str, subscriber: str, *, kind: Any = "queues", **fields: object
    ) -> str:
        """Subscribe to a queue, or to one of `topics`; the subscription's id."""
        document = {"subscriber": subscriber, **fields}
        reply = await self.post(f"/v2/{kind}/{queue}/subscriptions", document)
        assert reply.status == 201, reply
        return str(reply.json["subscription_id"])

    async def send_raw(self, request: bytes) -> bytes:
        """Send bytes on a connection of their own; all bytes that come until it is closed."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request)
            return await asyncio.wait_for(reader.read(), 10)
        finally:
            writer.close()


class StartApi(Protocol):
    def __call__(
        self, *, clock: Clock | None = None, policy: Policy | None = None, **settings: object
    ) -> Awaitable[Api]: ...


@asynccontextmanager
async def running(
    service: Service, policy: Policy | None = None, keystone: Keystone | None = None
) -> AsyncIterator[Api]:
    """The server on a free port; every request that was begun has ended at the end."""
    server = Server(
        create_app(service, policy, *(() if keystone is None else (keystone,))),
        service,
        certificate=certificate_of(service.settings),
        on_started=lambda: None,
    )
    server.config.load()
    await server.on_tick(0)
    state = server.server_state
    listening = await asyncio.get_running_loop().create_server(
        lambda: server.config.http_protocol_class(  # type: ignore[call-arg]
            config=server.config, server_state=state, app_state={}
        ),
        "127.0.0.1",
        0,
    )
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as session:
            port = listening.sockets[0].getsockname()[1]
            yield Api(service, port, session, cast(Collection[Connection], state.connections))
    finally:
        listening.close()
        service.storage.stop_waiting()
        for connection in list(state.connections):
            connection.shutdown()
        if state.tasks:
            _, unfinished = await asyncio.wait(state.tasks, timeout=10)
            assert not unfinished
        await listening.wait_closed()


@pytest.fixture
async def start_api(tmp_path: Path, clock: ManualClock) -> AsyncIterator[StartApi]:
    """Starts an API with settings of the test's own."""
    async with AsyncExitStack() as stack:

        async def start(
            *, clock: Clock | None = clock, policy: Policy | None = None, **settings: object
        ) -> Api:
            wanted = Settings(**{"auth": "none", **settings})
            storage = await open_storage(f"sqlite://{tmp_path}/zaqar.db", keys=wanted.keyring)
            stack.push_async_callback(storage.close)
            service = Service(
                storage=storage,
                settings=wanted,
                clock=clock or ManualClock(),
                doorbell=CountingDoorbell(),
                kinds=KINDS,
            )
            return await stack.enter_async_context(running(service, policy))

        yield start


@pytest.fixture
async def api(start_api: Callable[[], Awaitable[Api]]) -> Api:
    """An API with the default settings, at the test's clock."""
    return await start_api()


async def make_token(api: Api, **asked: Any) -> str:
    """The secret of a new token, a member's of the tests' project unless `asked` says otherwise."""
    wanted = AskedToken(**{"project": PROJECT, **asked})
    made = await tokens.create(api.service.storage, wanted, now=api.service.clock.now())
    return made.secret


def bearer(token: str, **headers: str | None) -> dict[str, str | None]:
    """The headers of a request that a token authenticates, and that names no project."""
    return {"Authorization": f"Bearer {token}", "X-Project-ID": None, **headers}
