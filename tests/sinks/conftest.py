"""Receivers on real sockets, and sinks that may reach loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_network

import pytest
import uvloop

from sinks.guard import AddressGuard
from sinks.webhook import WebhookSink
from tests.sinks.mailers import Mailers
from tests.sinks.receiver import Receiver, receiving
from tests.sinks.relay import MailRelay, relaying
from zaqar_notify.delivery.installation import installation_mark
from zaqar_notify.settings import Settings

LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that the service runs on: its errors differ from asyncio's own."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def settings() -> Settings:
    return Settings(delivery_allow=LOOPBACK, delivery_timeout_seconds=5, delivery_concurrency=2)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
async def relay() -> AsyncIterator[MailRelay]:
    async with relaying() as relay:
        yield relay


@pytest.fixture
async def mailers() -> AsyncIterator[Mailers]:
    mailers = Mailers()
    yield mailers
    await mailers.close()


@pytest.fixture
async def webhook(settings: Settings) -> AsyncIterator[WebhookSink]:
    async with webhook_sink(settings) as sink:
        yield sink


@pytest.fixture
async def hasty() -> AsyncIterator[WebhookSink]:
    """A sink that hardly waits: 0.1 s for a connection, 0.2 s in all."""
    settings = Settings(
        delivery_allow=LOOPBACK, delivery_timeout_seconds=0.2, delivery_connect_timeout_seconds=0.1
    )
    async with webhook_sink(settings) as sink:
        yield sink


@asynccontextmanager
async def webhook_sink(
    settings: Settings, *, name_servers: Sequence[str] = ()
) -> AsyncIterator[WebhookSink]:
    guard = AddressGuard(
        allow=settings.delivery_allow,
        deny=settings.delivery_deny,
        mark=installation_mark(settings),
    )
    sink = WebhookSink(settings, guard, name_servers=name_servers)
    try:
        yield sink
    finally:
        await sink.close()


@pytest.fixture
def unused_port() -> int:
    """A port without a listener."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
