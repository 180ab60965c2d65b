"""Counting the messages of queues, from the indexes alone, and the bytes of their bodies."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

import pymongo

from zaqar_notify.models import INTERNAL_PROJECT, OldestNewest, QueueStats
from zaqar_notify.storage.internal import internal_ref
from zaqar_notify.storage.mongodb.connection import Collection, Collections, Document
from zaqar_notify.storage.mongodb.documents import (
    BEHIND_ALL,
    BEHIND_INTERNAL,
    FREE,
    HAS_HEAD,
    id_of,
    place,
    queue_key,
)
from zaqar_notify.storage.mongodb.indexes import BY_CLAIM, BY_DUE, BY_EXPIRY, BY_ID
from zaqar_notify.storage.sealing import OVERHEAD_BYTES
from zaqar_notify.storage.values import to_ms

QUEUES_PER_COUNT = 500
LONGEST_COUNT_SECONDS = 300

_LAST_POSITION = (1 << 64) - 1


async def count(messages: Collection, queue: bytes, now: datetime) -> QueueStats:
    """The messages of one queue; the few expired ones before a sweep are read."""
    total, claimed, expired, oldest, newest = await asyncio.gather(
        count_all(messages, [queue]),
        messages.count_documents(
            {"queue": queue, "claim": {"$exists": True}, "held_until": {"$gt": to_ms(now)}},
            hint=BY_CLAIM,
        ),
        messages.count_documents(
            {"queue": queue, "expires_at": {"$lte": now}, "due": {"$exists": True}},
            hint=BY_EXPIRY,
        ),
        _end(messages, queue, now, 1),
        _end(messages, queue, now, -1),
    )
    # A claim never outlives its messages, so an expired message is under no live one.
    free = max(total - claimed - expired, 0)
    return QueueStats(claimed=claimed, free=free, oldest=oldest, newest=newest)


async def count_of_clients(collections: Collections, now: datetime) -> QueueStats:
    """The messages on clients' queues; read for as long as that takes."""
    total = claimed = 0
    of_clients = {"_id": {"$gt": BEHIND_INTERNAL, "$lt": BEHIND_ALL}, **HAS_HEAD}
    messages = collections.messages
    with pymongo.timeout(LONGEST_COUNT_SECONDS):
        found = collections.queues.find(of_clients, {"queue": 1}, hint=BY_ID)
        while together := await found.to_list(QUEUES_PER_COUNT):
            queues = [one["queue"] for one in together]
            total += await count_all(messages, queues)
            claimed += await messages.count_documents(
                {
                    "queue": {"$in": queues},
                    "claim": {"$exists": True},
                    "held_until": {"$gt": to_ms(now)},
                },
                hint=BY_CLAIM,
            )
    return QueueStats(claimed, max(total - claimed, 0))


async def count_all(messages: Collection, queues: Sequence[bytes]) -> int:
    """All messages of these queues, expired ones too."""
    return await messages.count_documents(
        {"queue": {"$in": queues}, "due": {"$lte": FREE}}, hint=BY_DUE
    )


async def count_bytes(collections: Collections, project: str, now: datetime) -> int:
    """The bytes of the bodies on the project's queues; read for as long as that takes."""
    of_project = {"$gt": f"{project}\0", "$lt": f"{project}\x01"}
    return await _bytes_on(collections, of_project, project, now)


async def count_internal_bytes(
    collections: Collections, names: Sequence[str], now: datetime
) -> int:
    """The bytes of the bodies on the internal queues with these names."""
    keys = [queue_key(internal_ref(name)) for name in names]
    return await _bytes_on(collections, {"$in": keys}, INTERNAL_PROJECT, now)


async def _bytes_on(collections: Collections, keys: Document, project: str, now: datetime) -> int:
    total = 0
    with pymongo.timeout(LONGEST_COUNT_SECONDS):
        found = collections.queues.find({"_id": keys, **HAS_HEAD}, {"queue": 1}, hint=BY_ID)
        while together := await found.to_list(QUEUES_PER_COUNT):
            queues = [one["queue"] for one in together]
            total += await _bytes_of(collections.messages, queues, project, now)
    return total


async def _bytes_of(
    messages: Collection, queues: Sequence[bytes], project: str, now: datetime
) -> int:
    wanted = {"queue": {"$in": queues}, "due": {"$lte": FREE}, "expires_at": {"$gt": now}}
    envelope = {
        "$cond": [
            {"$lte": ["$key_id", None]},
            0,
            {"$add": [OVERHEAD_BYTES + len(project.encode()), {"$strLenBytes": "$key_id"}]},
        ]
    }
    # A damaged envelope may be shorter than an empty one.
    clear = {"$max": [0, {"$subtract": [{"$binarySize": "$body"}, envelope]}]}
    size = {"_id": None, "bytes": {"$sum": clear}}
    counted = await messages.aggregate([{"$match": wanted}, {"$group": size}], hint=BY_DUE)
    return sum([each["bytes"] async for each in counted])


async def _end(
    messages: Collection, queue: bytes, now: datetime, direction: int
) -> OldestNewest | None:
    """The first or last message that is not delayed."""
    found = await messages.find_one(
        {
            "queue": queue,
            "_id": {"$gte": place(queue, 0), "$lte": place(queue, _LAST_POSITION)},
            "due": {"$exists": True},
            "expires_at": {"$gt": now},
            "$or": [{"held_until": {"$lte": to_ms(now)}}, {"claim": {"$exists": True}}],
        },
        {"moved_id": 1, "posted_at": 1},
        sort=[("_id", direction)],
        hint=BY_ID,
    )
    return None if found is None else OldestNewest(id_of(found), found["posted_at"])
