"""Posts that are remembered under an idempotency key.

The document of a key comes first in its batch's insert, so of two processes that post under one key one
is refused, by the `_id`. The key counts once the seal of its block is there. That seal lives longer than
the key.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TypeAlias

import msgspec

from zaqar_notify.models import Posted, QueueRef
from zaqar_notify.storage.base import IdempotencyKey
from zaqar_notify.storage.base.transfer import digest_of_key
from zaqar_notify.storage.mongodb.blocks import Block, Blocks, BlockState
from zaqar_notify.storage.mongodb.connection import Collections, Document
from zaqar_notify.storage.mongodb.documents import key_shard, to_id
from zaqar_notify.storage.mongodb.indexes import BY_ID
from zaqar_notify.storage.mongodb.queue_states import QueueStates

KEY_SLACK = timedelta(hours=1)
"""The seal of a remembered post lives so much longer than its key."""
_IDENTITY = ("_id", "queue", "of", "last")
"""The fields that tell a key's document from that of another post under the same key."""


class Remembered(msgspec.Struct, frozen=True):
    """A post under a key: `count` messages from the position `first` of a block."""

    fingerprint: bytes
    first: int
    count: int
    block: Block
    is_sealed: bool

    def answer(self, key: IdempotencyKey) -> Posted:
        """The answer to the first post.

        Raises:
            IdempotencyKeyReused: That was another post.
        """
        key.check(self.fingerprint)
        ids = [to_id(self.block.queue, self.first + number) for number in range(self.count)]
        return Posted(ids, owes_deliveries=False)

    def seal_until(self, key: IdempotencyKey) -> datetime:
        return self.block.deadline + timedelta(seconds=key.keep_seconds) + KEY_SLACK


RememberedPosts: TypeAlias = dict[tuple[QueueRef, str], Remembered]


class Remembering:
    def __init__(self, collections: Collections, blocks: Blocks, states: QueueStates) -> None:
        self._messages = collections.messages
        self._states = states
        self._blocks = blocks

    async def find(
        self, asked: Sequence[tuple[QueueRef, IdempotencyKey, datetime]]
    ) -> RememberedPosts:
        """The posts under these keys, at the instant that each is asked for."""
        if not asked:
            return {}
        named = {digest_of_key(ref, key.key): (ref, key, now) for ref, key, now in asked}
        found = await self._messages.find(
            {
                "_id": {"$in": list(named)},
                "queue": {"$in": [key_shard(ref) for ref, _, _ in asked]},
            },
            hint=BY_ID,
        ).to_list()
        known = []
        for stored in found:
            if stored["expires_at"] > named[stored["_id"]][2]:
                known.append((stored, block_of(stored)))
            else:
                await self.remove(stored)
        ends = await self._blocks.ends([block for stored, block in known if not is_stored(stored)])
        posts: RememberedPosts = {}
        for stored, block in known:
            ref, key, _ = named[stored["_id"]]
            posts[ref, key.key] = Remembered(
                stored["fingerprint"],
                stored["first"],
                stored["count"],
                block,
                is_sealed=is_stored(stored) or ends.get(block) is BlockState.SEALED,
            )
        return posts

    async def decide(self, ref: QueueRef, key: IdempotencyKey, post: Remembered) -> None:
        """Wait until an unsealed post is stored. If it never will be, fence its block and forget its key."""
        await self._states.until_posted(ref)
        # The queue no longer has the block if it was purged meanwhile.
        life = timedelta(seconds=key.keep_seconds)
        if await self._blocks.fence(post.block, seal_is_there=life) is BlockState.FENCED:
            await self.remove(_identity(ref, key, post.block))

    async def remove(self, stored: Document) -> None:
        """Forget a key, unless another post has it by now."""
        await self._messages.delete_one({name: stored[name] for name in _IDENTITY}, hint=BY_ID)


def remembered_document(
    ref: QueueRef, key: IdempotencyKey, post: Remembered, now: datetime
) -> Document:
    block = post.block
    return {
        **_identity(ref, key, block),
        "fingerprint": key.fingerprint,
        "head": block.first,
        "first": post.first,
        "count": post.count,
        "deadline": block.deadline,
        "expires_at": now + timedelta(seconds=key.keep_seconds),
    }


def _identity(ref: QueueRef, key: IdempotencyKey, block: Block) -> Document:
    return {
        "_id": digest_of_key(ref, key.key),
        "queue": key_shard(ref),
        "of": block.queue,
        "last": block.last,
    }


def is_stored(remembered: Document) -> bool:
    """Whether its post is known to be stored without a look at its block: it came from another store."""
    return "stored" in remembered


def block_of(stored: Document) -> Block:
    """The block of a remembered post; its writer's name and its slot are not known."""
    size = stored["last"] - stored["head"] + 1
    return Block("", stored["of"], "", stored["head"], size, 0, stored["deadline"])
