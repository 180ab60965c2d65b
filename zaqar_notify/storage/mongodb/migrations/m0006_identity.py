"""The database gets an identity, by which it is known for the same under another URI."""

from __future__ import annotations

from typing import Any

from pymongo.asynchronous.database import AsyncDatabase

from zaqar_notify.clock import new_id


async def migrate(database: AsyncDatabase[dict[str, Any]]) -> None:
    """Give it one, unless it has one."""
    await database["schema"].update_one(
        {"version": {"$exists": True}, "identity": {"$exists": False}},
        {"$set": {"identity": new_id()}},
    )
