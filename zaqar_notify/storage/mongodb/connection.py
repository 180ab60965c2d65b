"""The client: how it is made, what a start checks, and the one place that knows its errors."""

from __future__ import annotations

import asyncio
import time
import warnings
from datetime import datetime
from typing import Any, TypeAlias, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import pymongo
from bson.raw_bson import RawBSONDocument
from pymongo import ASCENDING, AsyncMongoClient, IndexModel, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import (
    ConfigurationError,
    OperationFailure,
    PyMongoError,
)
from pymongo.read_concern import ReadConcern

from zaqar_notify.errors import StartRefused
from zaqar_notify.findings import Finding, ok, problem, warning
from zaqar_notify.storage.mongodb.failures import refuse_unacknowledged
from zaqar_notify.storage.mongodb.migrations import SCHEMA_VERSION, migrate, read_version

DATABASE = "zaqar_notify"
"""When the URI names none."""

OLDEST_WIRE_VERSION = 17
OLDEST_FEATURES = (6, 0)
"""MongoDB 6.0 is the oldest that this driver is tested with: its servers, and their feature version."""

ANSWER_MS = 10_000
"""How long a call may take, its retries through an election included."""
SELECTION_MS = 5_000
"""How long a call waits for a primary, or for a connection of the pool."""
PROOF = "proof"
PROOF_MS = 1_500
"""How long a majority may take to have the proof that writes are acknowledged."""
TERM_SECONDS = 1.0
"""In so short a time no server is deposed, undoes what it wrote, and is elected again."""
_WEAK = {"0", "1"}

Document: TypeAlias = dict[str, Any]
Insertable: TypeAlias = Document | RawBSONDocument
Collection: TypeAlias = AsyncCollection[Document]
T = TypeVar("T")

BY_DUE = "queue_due"
BY_CLAIM = "queue_claim"
BY_MOVED_ID = "queue_moved_id"
BY_EXPIRY = "expires_at"
BY_SUBSCRIBER = "queue_subscriber"
BY_QUEUE_EXPIRY = "queue_expires_at"
DROPPED = "dropped"
UNUSED = "unused_since"
BY_ID = "_id_"

SHARD_KEYS = {"queues": "_id", "messages": "queue", "subscriptions": "queue"}
"""By collection, for a sharded cluster; by range, since unique indexes begin with them."""


class Term:
    """A stretch of time in which the client knew one primary.

    What a server is asked to write in a term stands on what it was asked to write before: a majority
    that has the last of it has all, so only that need be waited for.
    """

    def __init__(self, client: AsyncMongoClient[Document]) -> None:
        """It begins now."""
        self._client = client
        # Each answer of a monitor makes another one, whether anything has changed or not.
        self._topology = client.topology_description
        self._since = time.monotonic()

    @property
    def has_lasted(self) -> bool:
        """False when in doubt: after any word of the servers' monitors, and after a second."""
        return (
            self._client.topology_description is self._topology
            and time.monotonic() < self._since + TERM_SECONDS
        )


class Connection:
    """The client and the collections. Made by `open`, in the loop (and process) that uses it."""

    def __init__(self, client: AsyncMongoClient[Document], database: str, *, alone: bool) -> None:
        self.client = client
        self.is_standalone = alone
        self.hides_primary = hides_primary(client.topology_description.topology_type_name)
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
        """For writes that only save others some work, so that nothing is wrong when they are lost, and
        for those that a durable one follows within the same `Term`."""
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
        options = _options(uri)
        if not unreliable:
            _refuse_weak(options)
        client = _client(uri, _arguments(options, unreliable=unreliable))
        try:
            hello = await client.admin.command("hello")
            alone = _check(hello, unreliable=unreliable)
            if not unreliable:
                await _refuse_old_features(client)
            connection = cls(client, _database(uri), alone=alone)
            if prepare:
                await migrate(connection.schema)
                await connection._make_indexes()
            else:
                await read_version(connection.schema)
        except PyMongoError as error:
            await client.close()
            raise StartRefused(
                f"The MongoDB of ZAQAR_STORE_URI gives no answer: {error}"
            ) from error
        except BaseException:
            await client.close()
            raise
        return connection

    async def close(self) -> None:
        await self.client.close()

    def term(self) -> Term:
        return Term(self.client)

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

    async def diagnose(self) -> list[Finding]:
        """Version and kind of the deployment, and whether the indexes are there."""
        build = await self.client.admin.command("buildInfo")
        hello = await self.client.admin.command("hello")
        findings = [ok("store", f"MongoDB {build['version']}, {_kind(hello)}")]
        written = self.messages.write_concern.document.get("w")
        if str(written) in _WEAK:
            findings.append(
                warning(
                    "store",
                    f"ZAQAR_STORE_URI has w={written}: a fail-over loses acknowledged messages",
                    "Write w=majority, or leave it out",
                )
            )
        if self.is_standalone:
            findings.append(
                warning(
                    "store",
                    "The MongoDB is a standalone server: it can lose acknowledged messages",
                    "Make it a replica set; of one member, if need be",
                )
            )
        elif (members := _members(hello)) in (1, 2):
            findings.append(
                warning(
                    "store",
                    f"Of the replica set's members {members} {'has' if members == 1 else 'have'} data: "
                    "it does not outlive the loss of one",
                    "Add members until there are three",
                )
            )
        if _is_router(hello):
            findings += await self._diagnose_shards()
        version = await read_version(self.schema)
        if version == 0:
            findings.append(ok("store", "The database is not there yet; the first start makes it"))
            return findings
        if version < SCHEMA_VERSION:
            findings.append(
                ok("store", f"The next start migrates version {version} to {SCHEMA_VERSION}")
            )
        for collection, indexes in await self._lacking_indexes():
            names = ", ".join(index.document["name"] for index in indexes)
            findings.append(
                problem(
                    "store",
                    f"The collection {collection.name} lacks indexes: {names}",
                    "Restart a process of the service: a start makes them",
                )
            )
        return findings

    async def _diagnose_shards(self) -> list[Finding]:
        whole = []
        for name in SHARD_KEYS:
            stats = await self.messages.database.command("collStats", name)
            if not stats.get("sharded"):
                whole.append(name)
        if not whole:
            return []
        return [
            warning(
                "store",
                f"Collections of the sharded cluster are not sharded: {', '.join(whole)}; they are "
                "on one shard",
                "Shard them as docs/operations.md says",
            )
        ]

    async def _lacking_indexes(self) -> list[tuple[Collection, list[IndexModel]]]:
        """By collection, those that are not there under their name."""
        lacking = []
        for collection, indexes in (
            (self.queues, _QUEUE_INDEXES),
            (self.messages, _MESSAGE_INDEXES),
            (self.subscriptions, _SUBSCRIPTION_INDEXES),
        ):
            there = await collection.index_information()
            absent = [index for index in indexes if index.document["name"] not in there]
            if absent:
                lacking.append((collection, absent))
        return lacking

    async def _make_indexes(self) -> None:
        lacking = await self._lacking_indexes()
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


def _exists(field: str) -> Document:
    return {field: {"$exists": True}}


def hides_primary(topology: str) -> bool:
    """Whether a client of this kind of topology can't tell which server answers.

    Then no `Term` means anything: behind a router, and with one member asked by its address.
    """
    return not topology.startswith("ReplicaSet")


async def _feature_version(client: AsyncMongoClient[Document]) -> str | None:
    """What the server lets its clients use; None: it is not for us to know."""
    try:
        answer = await client.admin.command("getParameter", featureCompatibilityVersion=1)
    except OperationFailure:
        # A router has none, and an account of the database alone may not ask.
        return None
    version: str = answer["featureCompatibilityVersion"]["version"]
    return version


async def _refuse_old_features(client: AsyncMongoClient[Document]) -> None:
    version = await _feature_version(client)
    if version is not None and _numbers(version) < OLDEST_FEATURES:
        oldest = ".".join(map(str, OLDEST_FEATURES))
        raise StartRefused(
            f"The MongoDB of ZAQAR_STORE_URI has the feature compatibility version {version}: raise it "
            f"to {oldest} (db.adminCommand({{setFeatureCompatibilityVersion: '{oldest}'}})), or set "
            "ZAQAR_UNRELIABLE=true"
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split("."))


def _is_router(hello: Document) -> bool:
    """Whether a sharded cluster's `mongos` answers."""
    return hello.get("msg") == "isdbgrid"


def _members(hello: Document) -> int:
    """How many members of a replica set have its data."""
    return len(hello.get("hosts", [])) + len(hello.get("passives", []))


def _kind(hello: Document) -> str:
    if _is_router(hello):
        return "a sharded cluster"
    return f"replica set {hello['setName']}" if "setName" in hello else "standalone"


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


def _options(uri: str) -> dict[str, str]:
    """The URI's options, their names in lower case."""
    return {name.lower(): value for name, value in parse_qsl(urlsplit(uri).query)}


def _database(uri: str) -> str:
    return unquote(urlsplit(uri).path.removeprefix("/")) or DATABASE


def _refuse_weak(options: dict[str, str]) -> None:
    if options.get("w", "majority") in _WEAK:
        raise StartRefused(
            f"ZAQAR_STORE_URI has w={options['w']}, with which a fail-over loses acknowledged "
            "messages: write w=majority, or set ZAQAR_UNRELIABLE=true"
        )
    if options.get("journal", "true").lower() == "false":
        raise StartRefused(
            "ZAQAR_STORE_URI has journal=false, with which a crash loses acknowledged messages: "
            "write journal=true, or set ZAQAR_UNRELIABLE=true"
        )
    if options.get("readpreference", "primary").lower() != "primary":
        raise StartRefused(
            f"ZAQAR_STORE_URI has readPreference={options['readpreference']}; only the primary knows "
            "all that was acknowledged: leave it out"
        )


def _arguments(options: dict[str, str], *, unreliable: bool) -> dict[str, Any]:
    """What the client is told beside the URI. The URI's own time-outs and sizes are kept."""
    arguments: dict[str, Any] = {
        "serverSelectionTimeoutMS": SELECTION_MS,
        "waitQueueTimeoutMS": SELECTION_MS,
        "connectTimeoutMS": SELECTION_MS,
        "timeoutMS": ANSWER_MS,
        "appname": "zaqar-notify",
    }
    arguments = {name: value for name, value in arguments.items() if name.lower() not in options}
    arguments |= {"readPreference": "primary", "readConcernLevel": "local"}
    if not (unreliable and options.get("w") in _WEAK):
        arguments |= {"w": "majority", "journal": True}
    return arguments


def _check(hello: Document, *, unreliable: bool) -> bool:
    """Whether the server is a standalone one, which only an unreliable service may use."""
    if hello["maxWireVersion"] < OLDEST_WIRE_VERSION and not unreliable:
        raise StartRefused(
            "The MongoDB of ZAQAR_STORE_URI is too old: take 6.0 or later, or set ZAQAR_UNRELIABLE=true"
        )
    alone = "setName" not in hello and not _is_router(hello)
    if alone and not unreliable:
        raise StartRefused(
            "The MongoDB of ZAQAR_STORE_URI is a standalone server, which can lose acknowledged "
            "messages: make it a replica set (of one member, if need be), or set ZAQAR_UNRELIABLE=true"
        )
    return alone
