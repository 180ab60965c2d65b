"""Redis servers that a test may break, with their data on disk."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from tests.redis_server import DURABLE, RedisServer, require_redis
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import open_storage


@contextlib.contextmanager
def own_server(directory: Path, *options: str) -> Iterator[RedisServer]:
    require_redis()
    server = RedisServer(directory, options=(*DURABLE, *options))
    server.start()
    try:
        yield server
    finally:
        server.kill()


@contextlib.asynccontextmanager
async def opened(server: RedisServer, *, unreliable: bool = False) -> AsyncIterator[Storage]:
    storage = await open_storage(server.uri, unreliable=unreliable)
    try:
        yield storage
    finally:
        await storage.close()
