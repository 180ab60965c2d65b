"""The message store of one MongoDB database, put together; and the sweep."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

from bson import Int64
from pymongo.errors import DuplicateKeyError

from zaqar_notify.findings import Finding
from zaqar_notify.models import QueueRef, QueueStats
from zaqar_notify.rules.encryption import NO_KEYS, Keyring
from zaqar_notify.storage.base import MessageStore
from zaqar_notify.storage.batch_delay import BatchDelay
from zaqar_notify.storage.ids import POSITIONS_PER_MS
from zaqar_notify.storage.mongodb.blocks import Blocks
from zaqar_notify.storage.mongodb.claims import MongoClaims
from zaqar_notify.storage.mongodb.connection import Collection, Collections, Document
from zaqar_notify.storage.mongodb.control import MongoControl
from zaqar_notify.storage.mongodb.diagnosis import diagnose, prove
from zaqar_notify.storage.mongodb.documents import SERVER_POSITION
from zaqar_notify.storage.mongodb.encrypted import EncryptedMessages
from zaqar_notify.storage.mongodb.failures import rerun, storage_errors
from zaqar_notify.storage.mongodb.heads import MongoHeads
from zaqar_notify.storage.mongodb.indexes import BY_DUE, BY_EXPIRY, BY_ID
from zaqar_notify.storage.mongodb.leasing import Leasing
from zaqar_notify.storage.mongodb.messages import MongoMessages
from zaqar_notify.storage.mongodb.migrations import MARK
from zaqar_notify.storage.mongodb.posting import Posting
from zaqar_notify.storage.mongodb.queue_states import QueueStates
from zaqar_notify.storage.mongodb.stats import count_of_clients
from zaqar_notify.storage.mongodb.transfer import MongoTransfer
from zaqar_notify.storage.mongodb.watches import MongoWatches
from zaqar_notify.storage.sealing import Sealing
from zaqar_notify.storage.values import MILLISECOND

ENOUGH_WRITES = 32
BATCH_DELAY_SECONDS = 0.003
"""How batches of writes wait for callers: a durable command costs client and server about a
millisecond of CPU, however little is in it."""
OF_QUEUES = {"_id": {"$type": "string"}, "queue": {"$type": "binData"}}
OF_MESSAGES = {"_id": {"$type": "binData"}, "queue": {"$type": "binData"}}
"""The types of our fields: the sweep passes over documents of other applications."""
RESTORED_AHEAD = timedelta(days=1)
"""So far ahead may a clock have been that gave positions after the backup was made."""
UNUSED_KEPT = timedelta(days=1)
"""So long the document of a deleted queue goes on remembering its positions. A new one begins at the
server's clock, which by then is past them."""


class MongoStore(MessageStore):
    """Opened by `await MongoStore.open(uri)`; belongs to the loop it was opened in."""

    def __init__(self, collections: Collections, keys: Keyring) -> None:
        self.collections = collections
        sealing = Sealing(keys)
        blocks = Blocks(collections)
        self._states = QueueStates(collections, blocks)
        self._leasing = Leasing(collections, sealing)
        self._watches = MongoWatches(
            self._states.get_many, self._next_due, lambda: self.clock.now()
        )
        self._states.on_read = self._watches.saw
        batch_delay = BatchDelay(seconds=BATCH_DELAY_SECONDS, enough=ENOUGH_WRITES)
        self._posting = Posting(
            collections, blocks, self._states, self._watches, batch_delay, sealing
        )
        parts = (
            *(collections, self._states, self._leasing, self._posting, self._watches),
            batch_delay,
            sealing,
        )
        messages = MongoMessages(*parts)
        claims = MongoClaims(*parts)
        self._batchers = (messages, claims)
        self.control = MongoControl(collections, keys)
        self.heads = MongoHeads(collections, self._states)
        self.messages = messages
        self.encrypted = EncryptedMessages(collections, keys)
        self.claims = claims
        self.transfer = MongoTransfer(collections, self._states, blocks)
        self._closed = False

    @classmethod
    async def open(
        cls, uri: str, *, unreliable: bool = False, prepare: bool = True, keys: Keyring = NO_KEYS
    ) -> MongoStore:
        """Connect to the database that `uri` names, and make its indexes.

        Args:
            unreliable: Take a deployment that can lose acknowledged writes.
            prepare: False changes nothing, for commands that only read.

        Raises:
            StartRefused: It can't be used; the sentence gives the reason.
        """
        return cls(await Collections.open(uri, unreliable=unreliable, prepare=prepare), keys)

    async def volume(self, *, now: datetime) -> QueueStats:
        with storage_errors():
            return await count_of_clients(self.collections, now)

    async def identity(self) -> str:
        with storage_errors():
            stored = await self.collections.schema.find_one({"_id": MARK})
        return "" if stored is None else str(stored.get("identity", ""))

    async def ping(self) -> None:
        with storage_errors():
            await self.collections.client.admin.command("ping")

    async def prove(self) -> None:
        with storage_errors():
            await prove(self.collections)

    async def read_clock(self) -> datetime:
        """The primary's; of a sharded cluster, that of the router that answers."""
        with storage_errors():
            return await self.collections.server_now()

    async def diagnose(self) -> list[Finding]:
        with storage_errors():
            return await diagnose(self.collections)

    async def take_turn(self, duty: str, *, seconds: float, now: datetime) -> bool:
        with storage_errors():
            try:
                await self.collections.duties.update_one(
                    {"_id": duty, "until": {"$lte": now}},
                    {"$set": {"until": now + timedelta(seconds=seconds)}},
                    upsert=True,
                )
            except DuplicateKeyError:
                return False
        return True

    async def restored(self) -> int:
        ahead = Int64(RESTORED_AHEAD // MILLISECOND * POSITIONS_PER_MS)
        behind_all = {"$max": ["$next", {"$add": [SERVER_POSITION, ahead]}]}
        with storage_errors():
            result = await rerun(
                lambda: self.collections.queues.update_many(
                    OF_QUEUES, [{"$set": {"next": behind_all}}]
                )
            )
        return result.matched_count

    async def sweep(self, *, now: datetime, limit: int) -> int:
        with storage_errors():
            removed = await asyncio.gather(
                self._remove_expired(now, limit),
                self._remove_left_behind(limit),
                self._forget_unused(now, limit),
            )
        return max(removed)

    def stop_waiting(self) -> None:
        self._watches.stop()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await self._watches.close()
        for batch in self._batchers:
            await batch.close()
        await self._posting.close()
        await self._states.close()
        await self.collections.close()

    async def _next_due(self, ref: QueueRef) -> int | None:
        state = await self._states.get(ref)
        if state is None:
            return None
        with storage_errors():
            return await self._leasing.next_due(state.id)

    async def _remove_expired(self, now: datetime, limit: int) -> int:
        messages = self.collections.messages
        expired = {"expires_at": {"$lte": now}}
        found = await messages.find(
            {**expired, **OF_MESSAGES},
            {"queue": 1},
            sort=[("expires_at", 1)],
            limit=limit,
            batch_size=limit,
            hint=BY_EXPIRY,
        ).to_list()
        if not found:
            return 0
        queues = list({one["queue"] for one in found})
        wanted = {
            "queue": {"$in": queues},
            "_id": {"$in": [one["_id"] for one in found]},
            **expired,
        }
        # A claim may have given one more time since the look.
        await rerun(lambda: messages.delete_many(wanted, hint=BY_ID))
        return len(found)

    async def _remove_left_behind(self, limit: int) -> int:
        """Messages of queues that were deleted or purged; `limit` when there may be more of them."""
        collections = self.collections
        stored = await collections.queues.find_one(
            {"dropped": {"$type": "binData"}, **OF_QUEUES}, {"dropped": 1}, hint="dropped"
        )
        if stored is None:
            return 0
        queue = stored["dropped"][0]
        found = await collections.messages.find(
            {"queue": queue, "due": {"$lte": 0}}, {"_id": 1}, limit=limit, hint=BY_DUE
        ).to_list()
        await _remove(collections.messages, [queue], [one["_id"] for one in found])
        if len(found) < limit:
            # In one write, so that no other sweep meets the document half changed.
            await collections.queues.update_one(
                {"_id": stored["_id"], "dropped": queue}, _without_dropped(queue)
            )
        return limit

    async def _forget_unused(self, now: datetime, limit: int) -> int:
        queues = self.collections.queues
        unused = {
            **OF_QUEUES,
            "unused_since": {"$lte": now - UNUSED_KEPT},
            "rules": None,
            "dropped": {"$exists": False},
        }
        found = await queues.find(unused, {"_id": 1}, limit=limit, hint="unused_since").to_list()
        for stored in found:
            await queues.delete_one({**unused, "_id": stored["_id"]})
        return len(found)


def _without_dropped(queue: bytes) -> list[Document]:
    """The update that takes a former queue off the list, and the list away with the last one."""
    left = {"$filter": {"input": "$dropped", "cond": {"$ne": ["$$this", queue]}}}
    return [
        {"$set": {"dropped": left}},
        {"$set": {"dropped": {"$cond": [{"$eq": ["$dropped", []]}, "$$REMOVE", "$dropped"]}}},
    ]


async def _remove(collection: Collection, queues: Sequence[bytes], ids: Sequence[bytes]) -> None:
    if ids:
        wanted = {"queue": {"$in": list(queues)}, "_id": {"$in": list(ids)}}
        await rerun(lambda: collection.delete_many(wanted, hint=BY_ID))
