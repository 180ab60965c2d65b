"""The client and the collections: how a start makes and checks them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeAlias

from bson.raw_bson import RawBSONDocument
from pymongo import AsyncMongoClient, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from zaqar_notify.errors import StartRefused
from zaqar_notify.storage.mongodb.deployment import (
    arguments_of,
    client_of,
    database_of,
    options_of,
    refuse_foreign,
    refuse_poor_account,
    refuse_promises,
    refuse_server,
)
from zaqar_notify.storage.mongodb.failures import named
from zaqar_notify.storage.mongodb.indexes import COLLECTIONS, make_indexes
from zaqar_notify.storage.mongodb.migrations import migrate, read_version

Document: TypeAlias = dict[str, Any]
Insertable: TypeAlias = Document | RawBSONDocument
Collection: TypeAlias = AsyncCollection[Document]


class Collections:
    """The client and the collections. Made by `open`, in the loop (and process) that uses it."""

    def __init__(self, client: AsyncMongoClient[Document], database: str, *, alone: bool) -> None:
        self.client = client
        self.is_standalone = alone
        self.database: AsyncDatabase[Document] = client[database]
        self.schema: Collection = self.database["schema"]
        self.records: Collection = self.database["records"]
        self.queues: Collection = self.database["queues"]
        self.messages: Collection = self.database["messages"]
        self.subscriptions: Collection = self.database["subscriptions"]
        self.tokens: Collection = self.database["tokens"]
        self.quotas: Collection = self.database["quotas"]
        self.shares: Collection = self.database["shares"]
        self.suppressions: Collection = self.database["suppressions"]
        self.pools: Collection = self.database["pools"]
        self.catalogue: Collection = self.database["catalogue"]
        durable = ReadConcern("majority")
        self.durable_queues = self.queues.with_options(read_concern=durable)
        """For reads that must see no document that a fail-over could undo."""
        self.durable_messages = self.messages.with_options(read_concern=durable)
        quick = WriteConcern(w=1)
        self.quick_queues = self.queues.with_options(write_concern=quick)
        """For writes that only save other processes some work. A fail-over may undo them."""
        self.quick_messages = self.messages.with_options(write_concern=quick)
        self.duties: Collection = self.database["duties"].with_options(write_concern=quick)

    @classmethod
    async def open(cls, uri: str, *, unreliable: bool, prepare: bool) -> Collections:
        """Connect, check the deployment, migrate the documents, and make the indexes.

        Args:
            prepare: False: change nothing.

        Raises:
            StartRefused: It can't be reached, could lose acknowledged messages, is too old, or holds
                a later version's data.
        """
        options = options_of(uri)
        refuse_promises(options, unreliable=unreliable)
        name = database_of(uri)
        client = client_of(uri, arguments_of(options, unreliable=unreliable))
        try:
            alone = await refuse_server(client, unreliable=unreliable)
            collections = cls(client, name, alone=alone)
            await collections._begin(prepare=prepare)
        except PyMongoError as error:
            await client.close()
            raise StartRefused(f"ZAQAR_STORE_URI: {named(error)}") from error
        except BaseException:
            await client.close()
            raise
        return collections

    async def _begin(self, *, prepare: bool) -> None:
        await refuse_poor_account(self.database, COLLECTIONS)
        await refuse_foreign(self.database, COLLECTIONS)
        if prepare:
            await migrate(self.schema)
            await make_indexes(self.database)
        else:
            await read_version(self.schema)

    async def close(self) -> None:
        await self.client.close()

    async def server_now(self) -> datetime:
        hello = await self.client.admin.command("hello", codec_options=self.client.codec_options)
        now: datetime = hello["localTime"]
        return now
