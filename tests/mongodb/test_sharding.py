"""Sharded clusters: the keys are fit for the indexes, and every query of a request names one.

That every operation does is asked throughout `tests/contract` (see its conftest). No router
(`mongos`) takes part: it is in no package that tests can install.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pymongo
import pytest
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import BulkWriteError, OperationFailure

from tests.docs.pages import read
from tests.mongod import ReplicaSet, require_mongod
from tests.mongodb.opened import store_of
from tests.mongodb.routing import goes_astray
from zaqar_notify.findings import Level
from zaqar_notify.storage.mongodb import failures
from zaqar_notify.storage.mongodb.indexes import COLLECTIONS, SHARD_KEYS
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import open_storage

DATABASE = "zaqar_notify"
INTERNALS_OF = "6.0."
"""The release whose servers get a router's commands from the functions below."""


@pytest.mark.parametrize(
    "command",
    [
        {"find": "messages", "filter": {"_id": b"1"}},
        {"find": "messages", "filter": {"queue": {"$gt": b"1"}}},
        {"find": "queues", "filter": {"rules": None}},
        {"aggregate": "messages", "pipeline": [{"$match": {"due": 0}}]},
        {"findAndModify": "queues", "query": {"_id": {"$in": ["a"]}}},
        {"update": "messages", "updates": [{"q": {"queue": b"1"}}, {"q": {"_id": b"1"}}]},
        {"update": "subscriptions", "updates": [{"q": {"queue": {"$in": ["a", "b"]}}}]},
        {"delete": "messages", "deletes": [{"q": {"expires_at": 0}, "limit": 0}]},
        {"insert": "messages", "documents": [{"_id": b"1"}]},
    ],
)
def test_a_command_that_would_go_to_all_shards_is_noticed(command: dict[str, Any]) -> None:
    assert goes_astray(command)


async def test_unique_indexes_begin_with_the_shard_key(storage: Storage) -> None:
    database = store_of(storage).collections.messages.database
    unique = [
        (index["key"][0][0], key)
        for name, key in SHARD_KEYS.items()
        for index in (await database[name].index_information()).values()
        if index.get("unique")
    ]

    assert len(unique) == 2
    assert all(first == key for first, key in unique)


SMALL = {"schema", "duties", "tokens", "quotas", "shares", "suppressions", "pools"}
"""Collections that do not grow with messages, queues and subscriptions; each stays on one shard."""


async def test_every_collection_that_grows_with_the_load_has_a_shard_key(storage: Storage) -> None:
    names = await store_of(storage).collections.messages.database.list_collection_names()

    assert set(COLLECTIONS) == {*SHARD_KEYS, *SMALL}
    assert {*SHARD_KEYS} <= set(names) <= set(COLLECTIONS)


def test_the_operator_is_told_to_shard_by_these_keys() -> None:
    told = re.findall(r'sh\.shardCollection\("(\w+)\.(\w+)", {(\w+): 1}\)', read("cluster.md"))

    assert {name: key for _, name, key in told} == SHARD_KEYS
    assert {database for database, _, _ in told} == {DATABASE}


@pytest.fixture
def servers() -> Iterator[ShardedServers]:
    require_mongod()
    servers = ShardedServers()
    try:
        servers.start()
        yield servers
    finally:
        servers.stop()


async def test_a_shard_takes_these_keys_for_the_indexes_of_a_start_and_no_others(
    servers: ShardedServers,
) -> None:
    storage = await open_storage(servers.uri)
    await storage.close()

    with pytest.raises(OperationFailure, match="unique"):
        servers.shard_collection("messages", "_id")
    for name, key in SHARD_KEYS.items():
        servers.shard_collection(name, key)

    assert servers.sharded_by() == SHARD_KEYS


@pytest.mark.parametrize(
    ("code", "is_no"), [(11000, True), (10334, True), (6, False), (91, False), (11602, False)]
)
def test_a_router_that_lost_its_shard_has_refused_nothing(code: int, is_no: bool) -> None:
    error = BulkWriteError({"writeErrors": [{"code": code}], "writeConcernErrors": []})

    assert failures.is_refused(error) is is_no


def test_a_no_that_may_be_undone_is_none() -> None:
    """The primary steps down: perhaps only this member had the obstacle."""
    error = BulkWriteError(
        {"writeErrors": [{"code": 11000}], "writeConcernErrors": [{"code": 189}]}
    )

    assert not failures.is_refused(error)
    assert not failures.is_duplicate(error)


class ShardedServers:
    """A config server and a shard, which get a router's commands directly."""

    def __init__(self) -> None:
        self._config = ReplicaSet(role="configsvr")
        self._shard = ReplicaSet(role="shardsvr")
        self.uri = self._shard.uri(DATABASE)
        """Of the shard itself."""

    def start(self) -> None:
        self._config.start()
        self._shard.start()
        with self._config.members[0].client() as client:
            version = client.server_info()["version"]
            if not version.startswith(INTERNALS_OF):
                pytest.skip(f"NOT RUN: sharding by the internals of MongoDB {version}")
            [shard] = self._shard.members
            _tell(client, "_configsvrAddShard", f"{self._shard.name}/{shard.address}")
            _tell(client, "_configsvrCreateDatabase", DATABASE, primaryShardId=self._shard.name)

    def shard_collection(self, name: str, key: str) -> None:
        with self._config.members[0].client() as client:
            database = client.config.databases.find_one({"_id": DATABASE})
            assert database is not None
        with self._shard.members[0].client() as client:
            client.admin.command("_flushDatabaseCacheUpdates", DATABASE, syncFromConfig=True)
            _tell(
                client,
                "_shardsvrCreateCollection",
                name,
                database=DATABASE,
                shardKey={key: 1},
                databaseVersion=database["version"],
            )

    def sharded_by(self) -> dict[str, str]:
        """By collection its shard key, as the config server has it."""
        with self._config.members[0].client() as client:
            return {
                stored["_id"].partition(".")[2]: next(iter(stored["key"]))
                for stored in client.config.collections.find(
                    {
                        "_id": re.compile(f"^{DATABASE}"),
                    }
                )
            }

    def stop(self) -> None:
        self._shard.stop()
        self._config.stop()


def _tell(
    client: pymongo.MongoClient[dict[str, Any]],
    command: str,
    value: str,
    *,
    database: str = "admin",
    **arguments: Any,
) -> None:
    client[database].command(command, value, writeConcern={"w": "majority"}, **arguments)


@pytest.fixture
def as_router(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the server present itself as a `mongos`."""
    original = AsyncDatabase.command

    async def command(self: Any, name: Any, *arguments: Any, **options: Any) -> Any:
        if name == "collStats":
            return {"sharded": arguments[0] == "messages"}
        answer = await original(self, name, *arguments, **options)
        if name == "hello":
            answer = {key: value for key, value in answer.items() if key not in SET_FIELDS}
            answer["msg"] = "isdbgrid"
        return answer

    monkeypatch.setattr(AsyncDatabase, "command", command)


SET_FIELDS = {"setName", "hosts", "primary", "me"}


@pytest.mark.usefixtures("as_router")
async def test_a_router_is_taken_and_the_doctor_says_what_is_not_sharded(uri: str) -> None:
    storage = await open_storage(uri)

    findings = await storage.diagnose()

    assert [finding.level for finding in findings] == [Level.OK, Level.WARNING]
    assert "a sharded cluster" in findings[0].sentence
    assert "not sharded: records, queues, subscriptions" in findings[1].sentence
    await storage.close()
