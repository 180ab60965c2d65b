"""The message store in one Redis, put together; and the sweep."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from zaqar_notify.errors import StartRefused, StorageUnavailable
from zaqar_notify.findings import Finding
from zaqar_notify.models import INTERNAL_PROJECT, QueueRef
from zaqar_notify.rules.encryption import NO_KEYS, Keyring
from zaqar_notify.storage.base import MessageStore
from zaqar_notify.storage.redis.batches import Batch, Batches, Operation
from zaqar_notify.storage.redis.claims import RedisClaims
from zaqar_notify.storage.redis.connection import Connection, place_of
from zaqar_notify.storage.redis.control import RedisControl
from zaqar_notify.storage.redis.deployment import refuse_server
from zaqar_notify.storage.redis.diagnosis import diagnose
from zaqar_notify.storage.redis.encrypted import EncryptedMessages
from zaqar_notify.storage.redis.failures import storage_errors
from zaqar_notify.storage.redis.founding import founded
from zaqar_notify.storage.redis.heads import KnownHeads, RedisHeads
from zaqar_notify.storage.redis.keys import Keys
from zaqar_notify.storage.redis.messages import RedisMessages
from zaqar_notify.storage.redis.parcels import Parcels
from zaqar_notify.storage.redis.posting import Posting
from zaqar_notify.storage.redis.scanning import Scanning
from zaqar_notify.storage.redis.transfer import RedisTransfer
from zaqar_notify.storage.redis.watches import RedisWatches
from zaqar_notify.storage.sealing import Sealing
from zaqar_notify.storage.values import to_ms

RESTORED_AHEAD = timedelta(days=1)
"""So far ahead may a clock have been that gave positions after the backup was made."""
RESTORED_AT_ONCE = 500


class RedisStore(MessageStore):
    """Opened by `await RedisStore.open(uri)`; belongs to the loop it was opened in."""

    def __init__(self, connection: Connection, keys: Keys, keyring: Keyring) -> None:
        self.connection = connection
        self.keys = keys
        sealing = Sealing(keyring)
        self._batches = Batches(connection, keys)
        self._watches = RedisWatches(self._batches, connection.listener, lambda: self.clock.now())
        known = KnownHeads(self._batches)
        self._parcels = Parcels(self._batches)
        posting = Posting(self._batches, known, self._parcels, self._watches, sealing)
        scanning = Scanning(sealing)
        self._heads = RedisHeads(self._batches, known)
        self.heads = self._heads
        self.messages = RedisMessages(
            self._batches, self._heads, known, posting, self._watches, scanning, sealing
        )
        self.claims = RedisClaims(
            self._batches, known, posting, self._parcels, self._watches, scanning, sealing
        )
        self.transfer = RedisTransfer(self._batches, known, self._watches)
        self.encrypted = EncryptedMessages(self._batches, keyring)
        self.control = RedisControl(connection, keys.prefix, keyring, close_store=self.close)
        self._closed = False

    @classmethod
    async def open(
        cls, uri: str, *, unreliable: bool = False, prepare: bool = True, keys: Keyring = NO_KEYS
    ) -> RedisStore:
        """Connect to the store that `uri` names.

        Args:
            unreliable: Take servers that can lose acknowledged writes.
            prepare: False changes nothing, for commands that only read.

        Raises:
            StartRefused: It can't be used; the sentence gives the reason.
        """
        place = place_of(uri)
        connection = await Connection.open(place.uri)
        try:
            with storage_errors():
                await refuse_server(connection.client, unreliable=unreliable)
            return cls(connection, await founded(connection, place, prepare=prepare), keys)
        except StorageUnavailable as error:
            await connection.close()
            raise StartRefused(f"ZAQAR_STORE_URI: {error}") from error
        except BaseException:
            await connection.close()
            raise

    async def identity(self) -> str:
        identity: bytes | None = await self.connection.call("HGET", self.keys.store, "identity")
        return "" if identity is None else identity.decode()

    async def ping(self) -> None:
        await self.connection.call("PING")

    async def prove(self) -> None:
        await asyncio.gather(
            *(self._batches.write(tag, lambda _: ("prove", 0)) for tag in range(self.keys.tags))
        )

    async def read_clock(self) -> datetime:
        seconds, microseconds = await self.connection.call("TIME")
        return datetime.fromtimestamp(int(seconds), UTC) + timedelta(microseconds=int(microseconds))

    async def diagnose(self) -> list[Finding]:
        with storage_errors():
            return await diagnose(self.connection, self.keys)

    async def take_turn(self, duty: str, *, seconds: float, now: datetime) -> bool:
        until = to_ms(now + timedelta(seconds=seconds))
        [mine] = await self._batches.write(0, lambda _: ("duty", 0, to_ms(now), duty, until))
        return bool(mine)

    async def restored(self) -> int:
        ahead = to_ms(await self.read_clock() + RESTORED_AHEAD)
        count, last = 0, ""
        while names := await self.heads.internal(after=last, limit=RESTORED_AT_ONCE):
            count += await self._put_ahead(
                [QueueRef(INTERNAL_PROJECT, each) for each in names], ahead
            )
            last = names[-1]
        ref: QueueRef | None = None
        while refs := await self.heads.of_clients(after=ref, limit=RESTORED_AT_ONCE):
            count += await self._put_ahead(refs, ahead)
            ref = refs[-1]
        return count

    async def _put_ahead(self, refs: Sequence[QueueRef], ms: int) -> int:
        await asyncio.gather(*(self._batches.tell(ref, "ahead", ms) for ref in refs))
        return len(refs)

    async def sweep(self, *, now: datetime, limit: int) -> int:
        removed = 0
        for tag in range(self.keys.tags):
            if removed >= limit:
                break
            rest = limit - removed

            def build(batch: Batch, rest: int = rest) -> Operation:
                return ("sweep", 0, to_ms(now), rest)

            removed += await self._batches.write(tag, build, int)
            await self._parcels.forward(tag)
        return removed

    def stop_waiting(self) -> None:
        self._watches.stop()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await self._watches.close()
        await self._batches.close()
        await self.connection.close()
