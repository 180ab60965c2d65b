"""Dead letters between two stores; and a worker that is killed while it moves one:
`python -m tests.workers.moving SOURCE_URI TARGET_URI INSTANT`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.clock import ManualClock
from tests.kinds import KINDS
from tests.pools import open_pooled, put_on
from tests.workers.office import OUTBOX, ClientPost, Office, until_stored
from workers.doorbell import LocalDoorbell
from workers.store import RetryingStore
from zaqar_notify import claims
from zaqar_notify.models import JsonObject, Message, NewMessage, QueueRef
from zaqar_notify.rules.encryption import NO_KEYS, Keyring
from zaqar_notify.service import Service
from zaqar_notify.settings import Settings
from zaqar_notify.storage.base import Post
from zaqar_notify.storage.internal import DEFAULT_POOL
from zaqar_notify.storage.planes import Storage

SOURCE = QueueRef("project1", "orders")
DEAD = QueueRef("project1", "dead")
"""The dead-letter queue of the source, in the other pool."""

LETTER = NewMessage(b'{"amount": 1.0}', 3600, checksum="MD5:0123", attributes=b'{"n":1}')
LETTER_TTL = 500
LEASE = 60


@asynccontextmanager
async def opened(
    source_uri: str, target_uri: str, *, keys: Keyring = NO_KEYS
) -> AsyncIterator[Storage]:
    storage = await open_pooled(source_uri, {"other": target_uri}, keys=keys)
    await put_on(storage, SOURCE, DEFAULT_POOL)
    await put_on(storage, DEAD, "other")
    yield storage
    await storage.close()


class Mover(Office):
    """An office with one letter, which was claimed as often as its queue allows."""

    def __init__(self, storage: Storage) -> None:
        super().__init__(storage, ManualClock(), Settings(retry_jitter=0))

    async def post_letter(self, **metadata: object) -> str:
        rules: JsonObject = {
            **metadata,
            "_dead_letter_queue": DEAD.name,
            "_max_claim_count": 1,
            "_dead_letter_queue_messages_ttl": LETTER_TTL,
        }
        await self.storage.queues.create(SOURCE, metadata=rules, now=self.clock.now())
        post = ClientPost([LETTER], self.settings, SOURCE)
        [letter_id] = (await self.storage.post(SOURCE, post, now=self.clock.now())).ids
        assert await self.claim() == [letter_id]
        self.clock.advance(seconds=LEASE)
        return letter_id

    async def claim(self, ref: QueueRef = SOURCE) -> list[str]:
        doorbell = LocalDoorbell()
        service = Service(self.storage, self.settings, self.clock, doorbell, KINDS)
        claim = await claims.create(service, ref, ttl=LEASE, grace=0)
        return [] if claim is None else [message.id for message in claim.messages]

    async def all_on(self, ref: QueueRef) -> list[Message]:
        async with self.storage.at(ref) as store:
            page = await store.messages.page(
                ref, marker=None, limit=100, now=self.clock.now(), include_claimed=True
            )
        return page.messages

    async def moved(self) -> None:
        """Let an engine work until no job is left, put off or not."""

        async def nothing_is_owed() -> bool:
            now, stores = self.clock.now(), self.storage.pools.values()
            owed = [await store.messages.stats(OUTBOX, now=now) for store in stores]
            return not any(stats.total for stats in owed)

        async with self.open():
            await until_stored(nothing_is_owed)


async def die(source_uri: str, target_uri: str, instant: str) -> None:
    async with opened(source_uri, target_uri) as storage:
        mover = Mover(storage)
        await mover.post_letter()
        await mover.claim()
        if instant == "claimed":
            os.kill(os.getpid(), signal.SIGKILL)
        try_post = RetryingStore.try_post

        async def post_and_die(self: RetryingStore, ref: QueueRef, post: Post) -> None:
            await try_post(self, ref, post)
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(RetryingStore, "try_post", post_and_die)  # noqa: B010 - mypy knows it for a method
        async with mover.open():
            await asyncio.sleep(60)


if __name__ == "__main__":
    asyncio.run(die(*sys.argv[1:]))
