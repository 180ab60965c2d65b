"""Webhooks in the test process that sometimes fail."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from tests.faults.history import Delivered, History, Refused
from tests.service import free_port


class Receiver:
    """Takes notifications at `url(NAME)`, one name per subscriber, and records them.

    Of a hundred, `errors` are answered with 500, and of a hundred `resets` get no answer.
    """

    def __init__(
        self, history: History, chance: random.Random, *, errors: int = 5, resets: int = 3
    ) -> None:
        self._history = history
        self._chance = chance
        self._errors = errors
        self._resets = resets
        self._port = free_port()
        self._taken: dict[str, set[str]] = {}
        self._took_one = asyncio.Condition()

    def url(self, subscriber: str) -> str:
        return f"http://127.0.0.1:{self._port}/{subscriber}"

    async def has_taken(self, subscriber: str, keys: set[str], *, within_seconds: float) -> bool:
        """Wait until the subscriber has taken all of these messages."""
        try:
            async with asyncio.timeout(within_seconds), self._took_one:
                await self._took_one.wait_for(lambda: keys <= self._taken.get(subscriber, set()))
        except TimeoutError:
            return False
        return True

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_post("/{subscriber}", self._notify)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", self._port).start()
            yield
        finally:
            await runner.cleanup()

    async def _notify(self, request: web.Request) -> web.Response:
        subscriber = request.match_info["subscriber"]
        key = str((await request.json())["body"])
        luck = self._chance.randrange(100)
        if luck < self._errors + self._resets:
            self._history.record(Refused(subscriber, key, time.monotonic()))
            if luck < self._resets and request.transport is not None:
                request.transport.abort()
            return web.Response(status=500)
        self._history.record(
            Delivered(subscriber, key, request.headers["webhook-id"], time.monotonic())
        )
        async with self._took_one:
            self._taken.setdefault(subscriber, set()).add(key)
            self._took_one.notify_all()
        return web.Response(status=204)
