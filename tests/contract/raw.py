"""The rows of a store's tables, read past the store's own code: bodies as they lie on the disk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import apsw
import bson
import msgspec
from pymongo import UpdateOne

from zaqar_notify.storage.base import MessageStore
from zaqar_notify.storage.mongodb.storage import MongoStore
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.redis.control.stored_subscriptions import decode
from zaqar_notify.storage.redis.control.writing import TAG
from zaqar_notify.storage.redis.records import Record, packed, unpacked
from zaqar_notify.storage.redis.storage import RedisStore
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
        case RedisStore() as store:
            records = [one async for _, found in _records(store) for one in found.items()]
            return [record.body for _, record in sorted(records, key=lambda one: one[0])]
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
        case RedisStore() as store:
            return b"".join([key + await _value(store, key) async for key in _keys(store, "*")])
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
        case RedisStore() as store:
            async for key, records in _records(store):
                for position, record in records.items():
                    body = change(record.body)
                    size = max(0, record.clear_size + len(body) - len(record.body))
                    changed = packed(record._replace(body=body, clear_size=size))
                    await store.connection.call("HSET", key, position, changed)
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
        case RedisStore() as store:
            [key] = [each async for each in _keys(store, ":subscriptions")]
            values = {name: _of_redis(name, value) for name, value in fields.items()}
            found = await store.connection.call("HGETALL", key)
            for name, value in found.items():
                changed = msgspec.structs.replace(decode(value), **values)
                await store.connection.call("HSET", key, name, msgspec.msgpack.encode(changed))
        case other:
            raise AssertionError(f"How are the subscriptions of {other} changed?")


def _of_redis(field: str, value: str) -> str | bytes:
    return value.encode() if field == "options" else value


async def _keys(store: RedisStore, end: str) -> AsyncIterator[bytes]:
    """The store's keys that end in this way, on one server."""
    cursor = 0
    while True:
        pattern = f"{store.keys.prefix}{{*{end}"
        cursor, found = await store.connection.call("SCAN", cursor, "MATCH", pattern)
        for key in found:
            yield key
        if not cursor:
            return


async def _records(store: RedisStore) -> AsyncIterator[tuple[bytes, dict[bytes, Record]]]:
    """The records of messages by position, of each queue, with its key."""
    async for key in _keys(store, ":records"):
        if TAG.encode() not in key:
            found = await store.connection.call("HGETALL", key)
            yield key, {position: unpacked(value) for position, value in found.items()}


async def _value(store: RedisStore, key: bytes) -> bytes:
    """The names and values of a key."""
    if await store.connection.call("TYPE", key) == b"zset":
        return b"".join(await store.connection.call("ZRANGE", key, 0, -1))
    found = await store.connection.call("HGETALL", key)
    return b"".join(part for pair in found.items() for part in pair)


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
