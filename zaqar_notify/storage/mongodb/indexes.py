"""The indexes: their names, which queries hint at, and how a start makes them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pymongo
from pymongo import ASCENDING, IndexModel
from pymongo.asynchronous.database import AsyncDatabase

from zaqar_notify.errors import StartRefused
from zaqar_notify.storage.mongodb.migrations import Document

BY_DUE = "queue_due"
BY_CLAIM = "queue_claim"
BY_MOVED_ID = "queue_moved_id"
BY_CANCELLED = "queue_cancelled"
BY_EXPIRY = "expires_at"
BY_KEY = "key_id"
BY_SUBSCRIBER = "queue_subscriber"
BY_QUEUE_EXPIRY = "queue_expires_at"
DROPPED = "dropped"
UNUSED = "unused_since"
UNAPPLIED = "unapplied"
BY_DIGEST = "digest"
BY_PROJECT = "project_id"
BY_POOL = "pool_id"
BY_DOUBT = "doubted_at"
BY_ID = "_id_"

COLLECTIONS = (
    "schema",
    "records",
    "queues",
    "messages",
    "subscriptions",
    "duties",
    "tokens",
    "quotas",
    "shares",
    "suppressions",
    "pools",
    "catalogue",
)

SHARD_KEYS = {
    "records": "_id",
    "queues": "_id",
    "messages": "queue",
    "subscriptions": "queue",
    "catalogue": "_id",
}
"""By collection, for a sharded cluster; by range, since unique indexes begin with them."""


async def lacking_indexes(
    database: AsyncDatabase[Document],
) -> dict[str, list[IndexModel]]:
    """By collection, the indexes that are not there under their name.

    Raises:
        StartRefused: There is one that does harm: of other fields, or another application's.
    """
    lacking = {}
    for name, indexes in _INDEXES.items():
        there = await database[name].index_information()
        _refuse_harmful(f"{database.name}.{name}", there, indexes)
        lacking[name] = [index for index in indexes if index.document["name"] not in there]
    return {name: absent for name, absent in lacking.items() if absent}


async def make_indexes(database: AsyncDatabase[Document]) -> None:
    """Make those that are lacking. On collections that are not empty it takes the time it takes."""
    lacking = await lacking_indexes(database)
    with pymongo.timeout(None):
        await asyncio.gather(
            *(database[name].create_indexes(indexes) for name, indexes in lacking.items())
        )


def _refuse_harmful(
    collection: str, there: Mapping[str, Document], ours: Sequence[IndexModel]
) -> None:
    """Refuse an index that would refuse our documents, or stands in the place of one of ours."""
    keys = {index.document["name"]: list(index.document["key"].items()) for index in ours}
    for name, found in there.items():
        if name not in keys and found.get("unique"):
            fault = "is unique and not ours: it would refuse documents of the service"
        elif name in keys and list(found["key"]) != keys[name]:
            fault = "has other fields than ours of that name"
        else:
            continue
        raise StartRefused(
            f"The index {name} of the collection {collection} {fault}; drop it, and start again"
        )


def _exists(field: str) -> Document:
    return {field: {"$exists": True}}


_BY_KEY = IndexModel(
    [("key_id", ASCENDING), ("_id", ASCENDING)],
    name=BY_KEY,
    partialFilterExpression=_exists("key_id"),
)
_RECORD_INDEXES = [IndexModel([("unapplied", ASCENDING)], name=UNAPPLIED, sparse=True)]
_QUEUE_INDEXES = [
    IndexModel([("dropped", ASCENDING)], name=DROPPED, sparse=True),
    IndexModel([("unused_since", ASCENDING)], name=UNUSED, sparse=True),
]
_MESSAGE_INDEXES = [
    IndexModel([("queue", ASCENDING), ("due", ASCENDING), ("_id", ASCENDING)], name=BY_DUE),
    IndexModel(
        [("queue", ASCENDING), ("claim", ASCENDING), ("held_until", ASCENDING)],
        name=BY_CLAIM,
        partialFilterExpression=_exists("claim"),
    ),
    IndexModel(
        [("queue", ASCENDING), ("moved_id", ASCENDING)],
        name=BY_MOVED_ID,
        unique=True,
        partialFilterExpression=_exists("moved_id"),
    ),
    IndexModel(
        [("queue", ASCENDING)], name=BY_CANCELLED, partialFilterExpression=_exists("cancelled")
    ),
    IndexModel([("expires_at", ASCENDING)], name=BY_EXPIRY),
    _BY_KEY,
    IndexModel(
        [("reclaim_at", ASCENDING)],
        name="reclaim_at",
        expireAfterSeconds=0,
        partialFilterExpression=_exists("reclaim_at"),
    ),
]
_SUBSCRIPTION_INDEXES = [
    IndexModel([("queue", ASCENDING), ("subscriber", ASCENDING)], name=BY_SUBSCRIBER, unique=True),
    IndexModel([("queue", ASCENDING), ("expires_at", ASCENDING)], name=BY_QUEUE_EXPIRY),
    IndexModel([("expires_at", ASCENDING)], name=BY_EXPIRY),
    _BY_KEY,
]
_TOKEN_INDEXES = [
    IndexModel([("digest", ASCENDING)], name=BY_DIGEST, unique=True),
    IndexModel([("project", ASCENDING), ("_id", ASCENDING)], name=BY_PROJECT),
    IndexModel([("expires_at", ASCENDING)], name=BY_EXPIRY),
]
_CATALOGUE_INDEXES = [
    IndexModel([("pool", ASCENDING), ("_id", ASCENDING)], name=BY_POOL),
    IndexModel([("doubted_at", ASCENDING)], name=BY_DOUBT, sparse=True),
]
_INDEXES = {
    "records": _RECORD_INDEXES,
    "queues": _QUEUE_INDEXES,
    "messages": _MESSAGE_INDEXES,
    "subscriptions": _SUBSCRIPTION_INDEXES,
    "tokens": _TOKEN_INDEXES,
    "catalogue": _CATALOGUE_INDEXES,
}
