"""The client: how it is made, what a start checks, and the one place that knows its errors."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias, TypeVar

import pymongo
from bson.raw_bson import RawBSONDocument
from pymongo import ASCENDING, AsyncMongoClient, IndexModel, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import (
    ConfigurationError,
    PyMongoError,
)
from pymongo.read_concern import ReadConcern

from zaqar_notify.errors import StartRefused
from zaqar_notify.storage.mongodb.deployment import (
    arguments_of,
    database_of,
    files_of,
    options_of,
    refuse_foreign,
    refuse_old_features,
    refuse_poor_account,
    refuse_promises,
    refuse_server,
)
from zaqar_notify.storage.mongodb.failures import named, refuse_unacknowledged
from zaqar_notify.storage.mongodb.migrations import migrate, read_version

PROOF = "proof"
PROOF_MS = 1_500
"""How long a majority may take to have the proof that writes are acknowledged."""

Document: TypeAlias = dict[str, Any]
Insertable: TypeAlias = Document | RawBSONDocument
Collection: TypeAlias = AsyncCollection[Document]
T = TypeVar("T")

BY_DUE = "queue_due"
BY_CLAIM = "queue_claim"
BY_MOVED_ID = "queue_moved_id"
BY_CANCELLED = "queue_cancelled"
BY_EXPIRY = "expires_at"
BY_SUBSCRIBER = "queue_subscriber"
BY_QUEUE_EXPIRY = "queue_expires_at"
DROPPED = "dropped"
UNUSED = "unused_since"
BY_ID = "_id_"

COLLECTIONS = ("schema", "queues", "messages", "subscriptions", "duties")

SHARD_KEYS = {"queues": "_id", "messages": "queue", "subscriptions": "queue"}
"""By collection, for a sharded cluster; by range, since unique indexes begin with them."""


class Connection:
    """The client and the collections. Made by `open`, in the loop (and process) that uses it."""

    def __init__(self, client: AsyncMongoClient[Document], database: str, *, alone: bool) -> None:
        self.client = client
        self.is_standalone = alone
        names = client[database]
        self.schema: Collection = names["schema"]
        self.queues: Collection = names["queues"]
        self.messages: Collection = names["messages"]
        self.subscriptions: Collection = names["subscriptions"]
        durable = ReadConcern("majority")
        self.durable_queues = self.queues.with_options(read_concern=durable)
        """For reads that must not see what a fail-over could take back."""
        self.durable_messages = self.messages.with_options(read_concern=durable)
        quick = WriteConcern(w=1)
        self.quick_queues = self.queues.with_options(write_concern=quick)
        """For writes that only save other processes some work. A fail-over may undo them."""
        self.quick_messages = self.messages.with_options(write_concern=quick)
        self.duties: Collection = names["duties"].with_options(write_concern=quick)

    @classmethod
    async def open(cls, uri: str, *, unreliable: bool, prepare: bool) -> Connection:
        """Connect, check the deployment, migrate what is stored, and make the indexes.

        Args:
            prepare: False: change nothing.

        Raises:
            StartRefused: It can't be reached, could lose what it acknowledged, is too old, or holds
                a later version's data.
        """
        options = options_of(uri)
        refuse_promises(options, unreliable=unreliable)
        name = database_of(uri)
        client = _client(uri, arguments_of(options, unreliable=unreliable))
        try:
            hello = await client.admin.command("hello")
            alone = refuse_server(hello, unreliable=unreliable)
            if not unreliable:
                await refuse_old_features(client)
            connection = cls(client, name, alone=alone)
            await connection._begin(prepare=prepare)
        except PyMongoError as error:
            await client.close()
            raise StartRefused(f"ZAQAR_STORE_URI: {named(error)}") from error
        except BaseException:
            await client.close()
            raise
        return connection

    async def _begin(self, *, prepare: bool) -> None:
        """See that the database is ours to use, and make it what this release needs."""
        database = self.schema.database
        await refuse_poor_account(database, COLLECTIONS)
        await refuse_foreign(database, COLLECTIONS)
        if prepare:
            await migrate(self.schema)
            await self._make_indexes()
        else:
            await read_version(self.schema)

    async def close(self) -> None:
        await self.client.close()

    async def prove(self) -> None:
        """Write a document of its own; the primary is asked to say so when no majority has it in time."""
        write = {"q": {"_id": PROOF}, "u": {"$currentDate": {"at": True}}, "upsert": True}
        answer = await self.duties.database.command(
            "update",
            self.duties.name,
            updates=[write],
            writeConcern=self.messages.write_concern.document | {"wtimeout": PROOF_MS},
        )
        refuse_unacknowledged(answer)

    async def server_now(self) -> datetime:
        hello = await self.client.admin.command("hello", codec_options=self.client.codec_options)
        now: datetime = hello["localTime"]
        return now

    async def lacking_indexes(self) -> list[tuple[Collection, list[IndexModel]]]:
        """By collection, those that are not there under their name.

        Raises:
            StartRefused: There is one that does harm: of other fields, or another application's.
        """
        lacking = []
        for collection, indexes in (
            (self.queues, _QUEUE_INDEXES),
            (self.messages, _MESSAGE_INDEXES),
            (self.subscriptions, _SUBSCRIPTION_INDEXES),
        ):
            there = await collection.index_information()
            _refuse_harmful(collection, there, indexes)
            absent = [index for index in indexes if index.document["name"] not in there]
            if absent:
                lacking.append((collection, absent))
        return lacking

    async def _make_indexes(self) -> None:
        lacking = await self.lacking_indexes()
        # On collections that are not empty it takes the time it takes.
        with pymongo.timeout(None):
            await asyncio.gather(
                *(collection.create_indexes(indexes) for collection, indexes in lacking)
            )


def _client(uri: str, arguments: dict[str, Any]) -> AsyncMongoClient[Document]:
    try:
        with warnings.catch_warnings():
            # The library skips an option that it can't read; a promise may be among them.
            warnings.simplefilter("error", UserWarning)
            return AsyncMongoClient(uri, tz_aware=True, **arguments)
    except (ConfigurationError, ValueError, UserWarning) as error:
        raise StartRefused(f"ZAQAR_STORE_URI can't be used: {error}") from error
    except OSError as error:
        files = ", ".join(files_of(uri))
        raise StartRefused(
            f"ZAQAR_STORE_URI can't be used: of {files} one is missing, may not be read, or holds no "
            f"certificate ({error.strerror or error})"
        ) from error


def _refuse_harmful(
    collection: Collection, there: Mapping[str, Document], ours: Sequence[IndexModel]
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
            f"The index {name} of the collection {collection.full_name} {fault}; drop it, and start again"
        )


def _exists(field: str) -> Document:
    return {field: {"$exists": True}}


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
]
