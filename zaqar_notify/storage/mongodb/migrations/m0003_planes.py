"""Moves records of clients' queues to a collection of their own; `queues` keeps the heads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pymongo import UpdateOne
from pymongo.asynchronous.database import AsyncDatabase

from zaqar_notify.storage.versions import MIGRATION

MOVED_TOGETHER = 500
RULES = (
    "_max_messages_post_size",
    "_default_message_ttl",
    "_default_message_delay",
    "_dead_letter_queue",
    "_dead_letter_queue_messages_ttl",
    "_max_claim_count",
)
"""The keys of the metadata that posts and claims obey, in this version."""


async def migrate(database: AsyncDatabase[dict[str, Any]]) -> None:
    former = database.queues.find({"metadata": {"$exists": True}}, comment=MIGRATION)
    async with former:
        while together := await former.to_list(MOVED_TOGETHER):
            await _move(database, together)


async def _move(database: AsyncDatabase[dict[str, Any]], stored: Sequence[dict[str, Any]]) -> None:
    records = [
        UpdateOne({"_id": one["_id"]}, {"$setOnInsert": _record(one)}, upsert=True)
        for one in stored
        if one["metadata"] is not None and not one["_id"].startswith("\0")
    ]
    if records:
        await database.records.bulk_write(records, ordered=False, comment=MIGRATION)
    await database.queues.bulk_write(
        [
            UpdateOne(
                {"_id": one["_id"], "metadata": one["metadata"]},
                {
                    "$set": {"rules": _rules(one["metadata"]), "revision": 1},
                    "$unset": {"metadata": "", "created_at": ""},
                },
            )
            for one in stored
        ],
        ordered=False,
        comment=MIGRATION,
    )


def _record(stored: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": stored["metadata"], "created_at": stored["created_at"], "revision": 1}


def _rules(metadata: str | None) -> str | None:
    if metadata is None:
        return None
    keys = json.loads(metadata)
    return json.dumps({key: keys[key] for key in RULES if key in keys})
