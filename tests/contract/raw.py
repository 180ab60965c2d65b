"""The rows of a store's tables, read past the store's own code: bodies as they lie on the disk."""

from __future__ import annotations

from collections.abc import Callable

import apsw
import bson
from pymongo import UpdateOne

from zaqar_notify.storage.base import MessageStore
from zaqar_notify.storage.mongodb.storage import MongoStore
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.sqlite.database import Row
from zaqar_notify.storage.sqlite.storage import SQLiteStore
from zaqar_notify.storage.versions import MIGRATION

ASIDE = MIGRATION
"""The comment of commands that need not say on which shard their documents are."""

Change = Callable[[bytes], bytes]


async def stored_bodies(of: MessageStore) -> list[bytes]:
    """The bodies of all messages, in the order of their posts, those of internal queues included."""
    match of:
        case SQLiteStore() as store:
            rows = store.database.read("SELECT body FROM bodies ORDER BY serial", ())
            return [body for (body,) in rows]
        case MongoStore() as store:
            found = store.collections.messages.find(
                {"body": {"$exists": True}}, sort=[("_id", 1)], comment=ASIDE
            )
            return [stored["body"] async for stored in found]
        case other:
            raise AssertionError(f"How are the bodies of {other} read?")


async def whole_store(storage: Storage) -> bytes:
    """All that the store keeps, as one text to look through."""
    match storage.store:
        case SQLiteStore() as store:
            return await store.database.write(_dumped)
        case MongoStore() as store:
            database = store.collections.messages.database
            names = await database.list_collection_names()
            return b"".join(
                [
                    bson.encode(stored)
                    for name in names
                    async for stored in database[name].find(comment=ASIDE)
                ]
            )
        case other:
            raise AssertionError(f"How is {other} read?")


async def change_bodies(storage: Storage, change: Change) -> None:
    """Put something else in the place of every body."""
    match storage.store:
        case SQLiteStore() as store:

            def write(db: apsw.Connection) -> None:
                rows: list[Row] = db.execute("SELECT body, serial FROM bodies").fetchall()
                changed = [(change(body), serial) for body, serial in rows]
                db.executemany("UPDATE bodies SET body = ? WHERE serial = ?", changed)

            await store.database.write(write)
        case MongoStore() as store:
            messages = store.collections.messages
            found = messages.find(
                {"body": {"$exists": True}}, {"queue": 1, "body": 1}, comment=ASIDE
            )
            updates = [
                UpdateOne(
                    {"_id": stored["_id"], "queue": stored["queue"]},
                    {"$set": {"body": change(stored["body"])}},
                )
                async for stored in found
            ]
            await messages.bulk_write(updates, comment=ASIDE)
        case other:
            raise AssertionError(f"How are the bodies of {other} changed?")


async def change_subscriptions(storage: Storage, **fields: str) -> None:
    """Put other values into these fields of every subscription."""
    match storage.store:
        case SQLiteStore() as store:
            columns = ", ".join(f"{name} = ?" for name in fields)
            change = f"UPDATE subscriptions SET {columns}"  # noqa: S608
            await store.database.write(lambda db: db.execute(change, tuple(fields.values())))
        case MongoStore() as store:
            found = store.collections.subscriptions
            await found.update_many({}, {"$set": fields}, comment=ASIDE)
        case other:
            raise AssertionError(f"How are the subscriptions of {other} changed?")


def _dumped(db: apsw.Connection) -> bytes:
    names = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    values = [
        value
        for name in names
        for row in db.execute(f"SELECT * FROM {name}")  # noqa: S608
        for value in row
    ]
    return b"\n".join(
        value if isinstance(value, bytes) else str(value).encode() for value in values
    )
