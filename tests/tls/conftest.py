"""An API that serves HTTPS in the test's own event loop, and clients that trust it alone."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from tests.api.conftest import Api, StartApi, start_api
from tests.sinks.certificates import made
from zaqar_notify.auth import Policy
from zaqar_notify.clock import Clock

__all__ = ["start_api"]

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[..., Awaitable[Streams]]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that the service runs on: its TLS differs from asyncio's own."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    """The service's certificate and its key."""
    return made(tmp_path, "service")


@pytest.fixture
def trusting(pem: Path) -> ssl.SSLContext:
    """A client's context that trusts only this certificate."""
    return ssl.create_default_context(cafile=str(pem))


@pytest.fixture
async def start(start_api: StartApi, pem: Path) -> StartApi:
    """Starts an API with the certificate. Its own client speaks no TLS; tests use `connect`."""

    def started(
        *, clock: Clock | None = None, policy: Policy | None = None, **settings: object
    ) -> Awaitable[Api]:
        files: dict[str, object] = {"tls_cert_file": str(pem), "tls_key_file": str(pem)}
        return start_api(clock=clock, policy=policy, **files, **settings)

    return started


@pytest.fixture
async def connect(trusting: ssl.SSLContext) -> AsyncIterator[Connect]:
    """Opens connections, and sends given bytes."""
    writers: list[asyncio.StreamWriter] = []

    async def opened(api: Api, *sent: bytes, context: ssl.SSLContext = trusting) -> Streams:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port, ssl=context)
        writers.append(writer)
        writer.write(b"".join(sent))
        return reader, writer

    yield opened
    for writer in writers:
        writer.transport.abort()
