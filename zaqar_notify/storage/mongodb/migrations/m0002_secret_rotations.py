"""A secret that was rotated again signs until its own overlap ends: all late rotations are kept."""

from __future__ import annotations

from typing import Any

from pymongo.asynchronous.database import AsyncDatabase

from zaqar_notify.storage.versions import MIGRATION


async def migrate(database: AsyncDatabase[dict[str, Any]]) -> None:
    last = {"$ifNull": ["$secret_rotated_at", None]}
    await database.subscriptions.update_many(
        {"secret_rotations": {"$exists": False}},
        [
            {"$set": {"secret_rotations": {"$cond": [last, [last], []]}}},
            {"$unset": "secret_rotated_at"},
        ],
        comment=MIGRATION,
    )
