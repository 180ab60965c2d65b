"""Subscribers in the test process that sometimes fail: webhooks, and a mailbox."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes, policy

from aiohttp import web
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.faults.history import Delivered, History, Refused
from tests.service import free_port


class Inbox:
    """The deliveries that subscribers took. Of a hundred deliveries, `errors` are refused.

    Of another hundred, `resets` get no answer, where that can be done.
    """

    def __init__(
        self, history: History, chance: random.Random, *, errors: int = 5, resets: int = 3
    ) -> None:
        self._history = history
        self._chance = chance
        self._errors = errors
        self._resets = resets
        self._taken: dict[str, set[str]] = {}
        self._took_one = asyncio.Condition()

    def refuses(self, subscriber: str, key: str) -> str | None:
        """How it does, if it does: "error" or "reset"."""
        luck = self._chance.randrange(100)
        if luck >= self._errors + self._resets:
            return None
        self._history.record(Refused(subscriber, key, time.monotonic()))
        return "reset" if luck < self._resets else "error"

    async def take(self, subscriber: str, key: str, delivery_id: str) -> None:
        self._history.record(Delivered(subscriber, key, delivery_id, time.monotonic()))
        async with self._took_one:
            self._taken.setdefault(subscriber, set()).add(key)
            self._took_one.notify_all()

    async def has_taken(self, subscriber: str, keys: set[str], *, within_seconds: float) -> bool:
        """Wait until the subscriber has taken all of these messages."""
        try:
            async with asyncio.timeout(within_seconds), self._took_one:
                await self._took_one.wait_for(lambda: keys <= self._taken.get(subscriber, set()))
        except TimeoutError:
            return False
        return True


class Receiver:
    """Takes notifications at `uri(NAME)`, one name per subscriber."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._port = free_port()

    def uri(self, subscriber: str) -> str:
        return f"http://127.0.0.1:{self._port}/{subscriber}"

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
        refusal = self._inbox.refuses(subscriber, key)
        if refusal == "reset" and request.transport is not None:
            request.transport.abort()
        if refusal is not None:
            return web.Response(status=500)
        await self._inbox.take(subscriber, key, request.headers["webhook-id"])
        return web.Response(status=204)


class Mailbox:
    """A mail relay on `port` that takes notifications for NAME@example.org as NAME's."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self.port = free_port()

    def uri(self, subscriber: str) -> str:
        return f"mailto:{subscriber}@example.org"

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()

        def session() -> SMTP:
            return SMTP(self, hostname="relay.test", loop=loop)

        server = await loop.create_server(session, "127.0.0.1", self.port)
        try:
            yield
        finally:
            server.close()
            await server.wait_closed()

    async def handle_DATA(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        subscriber = envelope.rcpt_tos[0].partition("@")[0]
        assert isinstance(envelope.content, bytes)
        mail = message_from_bytes(envelope.content, policy=policy.default)
        key = str(json.loads(mail.get_content())["body"])
        if self._inbox.refuses(subscriber, key) is not None:
            return "451 Try again later"
        await self._inbox.take(subscriber, key, str(mail["Message-ID"]))
        return "250 OK"
