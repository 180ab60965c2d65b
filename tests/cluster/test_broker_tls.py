"""A broker behind TLS is believed only when its certificate says so."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from api.doorbell import BrokerDoorbell
from tests.cluster.test_doorbell import until
from tests.partitions import partition
from tests.redis_server import RINGS_KEY, RedisServer
from tests.service import free_port
from tests.sinks.certificates import contexts
from zaqar_notify.operations.broker import celery_application
from zaqar_notify.settings import Settings


class Terminator:
    """Ends TLS before a Redis without it, as stunnel does."""

    def __init__(self, context: ssl.SSLContext, redis_port: int) -> None:
        self.port = free_port()
        self._context = context
        self._redis_port = redis_port
        self._is_open = threading.Event()
        self._is_over = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Terminator:
        self._thread.start()
        assert self._is_open.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._is_over.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(
            self._connect, "127.0.0.1", self.port, ssl=self._context
        )
        async with server:
            self._is_open.set()
            await self._is_over.wait()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_redis, to_redis = await asyncio.open_connection("127.0.0.1", self._redis_port)
        with contextlib.suppress(OSError):
            await asyncio.gather(_copy(reader, to_redis), _copy(from_redis, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


@pytest.fixture
def tls_port(redis: RedisServer, tmp_path: Path) -> Iterator[int]:
    """Of a TLS end before `redis`, with a certificate of `receiver.pem` for 127.0.0.1."""
    server, _ = contexts(tmp_path)
    with Terminator(server, redis.port) as terminator:
        yield terminator.port


@pytest.mark.parametrize(
    ("host", "query", "is_believed"),
    [
        ("127.0.0.1", "", False),
        ("127.0.0.1", "?ssl_ca_certs={ca}", True),
        ("localhost", "?ssl_ca_certs={ca}", False),
        ("localhost", "?ssl_cert_reqs=none", True),
    ],
)
def test_a_ring_goes_only_to_a_broker_that_is_believed(
    redis: RedisServer, tls_port: int, tmp_path: Path, host: str, query: str, is_believed: bool
) -> None:
    query = query.format(ca=quote(str(tmp_path / "receiver.pem"), safe=""))
    settings = Settings(
        store_uri="sqlite:///unused", broker_uri=f"rediss://{host}:{tls_port}/0{query}"
    )
    doorbell = BrokerDoorbell(celery_application(lambda: settings))

    doorbell.ring(partition())

    until(lambda: doorbell.counts.total() > 0)
    doorbell.close()
    assert doorbell.counts["sent"] == (1 if is_believed else 0)
    assert redis.client.llen(RINGS_KEY) == (1 if is_believed else 0)
