"""Publications about queues that somebody waits for: one connection in each process.

The scripts publish every change under the queue's key, which costs a server nothing while nobody listens. A
channel stays subscribed for a while after its last watch, since callers wait again and again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from zaqar_notify.storage.ending import end

LINGER_SECONDS = 60.0
PAUSE_SECONDS = 1.0
CHECK_SECONDS = 15.0


class Listening:
    """The subscribed channels of this process.

    Args:
        own: A channel of this process, on which nothing is published.
        heard: Told of the channel, how many messages became visible, and until when others are held (0: none are).
        began: Told of a channel from which on nothing is missed, and whether it was heard before, and something
            may have been missed since.
    """

    def __init__(
        self,
        client: Redis,
        sender: str,
        own: str,
        heard: Callable[[str, int, int], None],
        began: Callable[[str, bool], None],
    ) -> None:
        self._client = client
        self._sender = sender
        self._own = own
        self._heard = heard
        self._began = began
        self._wanted: dict[str, float | None] = {}
        """Since when a channel is of no use; None: it is of use."""
        self._confirmed: set[str] = set()
        self._broken: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    def is_heard(self, channel: str) -> bool:
        return channel in self._confirmed

    def want(self, channel: str) -> None:
        """Begin to listen to a channel soon."""
        is_new = channel not in self._wanted
        self._wanted[channel] = None
        if is_new:
            self._news.set()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._listen_always())

    def leave(self, channel: str) -> None:
        self._wanted[channel] = asyncio.get_running_loop().time()

    async def close(self) -> None:
        if self._task is not None:
            await end(self._task)

    async def _listen_always(self) -> None:
        while True:
            with contextlib.suppress(RedisError, OSError):
                async with self._client.pubsub() as channels:
                    await self._listen(channels)
            self._broken |= self._confirmed
            self._confirmed.clear()
            await asyncio.sleep(PAUSE_SECONDS)

    async def _listen(self, channels: PubSub) -> None:
        """Until the connection breaks."""
        asked: set[str] = set()
        # The library reads only while a channel is subscribed: this one always is.
        await channels.subscribe(self._own)
        changing = asyncio.create_task(self._change(channels, asked))
        try:
            while not changing.done():
                message = await channels.get_message(timeout=CHECK_SECONDS)
                if message is None:
                    await channels.ping()
                elif message["type"] == "subscribe":
                    channel = message["channel"].decode()
                    self._confirmed.add(channel)
                    self._began(channel, channel in self._broken)
                    self._broken.discard(channel)
                elif message["type"] == "message":
                    self._hear(message["channel"].decode(), message["data"].decode())
            await changing
        finally:
            await end(changing)

    def _hear(self, channel: str, text: str) -> None:
        sender, visible, until = text.split(" ")
        if sender != self._sender:
            self._heard(channel, int(visible), int(float(until)))

    async def _change(self, channels: PubSub, asked: set[str]) -> None:
        """Subscribe to what is wanted, and no longer to what was not for a while."""
        loop = asyncio.get_running_loop()
        while True:
            self._news.clear()
            if missing := self._wanted.keys() - asked:
                await channels.subscribe(*missing)
                asked |= missing
            late = loop.time() - LINGER_SECONDS
            unused = [
                one for one, since in self._wanted.items() if since is not None and since < late
            ]
            if unused:
                for channel in unused:
                    del self._wanted[channel]
                self._confirmed.difference_update(unused)
                asked.difference_update(unused)
                await channels.unsubscribe(*unused)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LINGER_SECONDS):
                    await self._news.wait()
