"""Stores that a start refuses, and the sentences of the refusals."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymongo
import pytest
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure

from tests.clock import START
from tests.contract.steps import bodies, claim, page, post
from tests.kinds import KINDS
from tests.mongod import Mongod, ReplicaSet, require_mongod
from tests.mongodb.opened import store_of
from tests.service import free_port
from zaqar_notify.errors import StartRefused
from zaqar_notify.findings import Finding, Level
from zaqar_notify.models import QueueRef
from zaqar_notify.operations.doctor import examine
from zaqar_notify.settings import Settings
from zaqar_notify.storage.mongodb import deployment
from zaqar_notify.storage.mongodb.migrations import SCHEMA_VERSION
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import open_storage


def with_options(uri: str, options: str) -> str:
    return f"{uri}&{options}"


@pytest.fixture
def standalone(tmp_path: Path) -> Iterator[str]:
    """The URI of a server that is no member of a replica set."""
    require_mongod()
    server = Mongod(tmp_path / "standalone", replica_set=False)
    server.start()
    yield f"mongodb://{server.address}/test"
    server.kill()


@pytest.fixture
def old_features() -> Iterator[str]:
    """The URI of a set that has the feature compatibility version of the release before."""
    require_mongod()
    members = ReplicaSet()
    members.start()
    with members.members[0].client() as client:
        if not client.server_info()["version"].startswith("6.0."):
            pytest.skip("NOT RUN: MongoDB 6.0 alone can be set back to 5.0")
        client.admin.command("setFeatureCompatibilityVersion", "5.0")
    yield members.uri("test")
    members.stop()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("w=1", "w=1, with which a fail-over loses"),
        ("w=0", "w=0, with which a fail-over loses"),
        ("journal=false", "journal=false, with which a crash loses"),
        ("w=3", "w=3; every write waits for a majority"),
        ("w=dc1", "w=dc1; every write waits for a majority"),
        ("readPreference=secondary", "only the primary has"),
    ],
)
async def test_a_weak_promise_in_the_uri_is_refused(uri: str, options: str, sentence: str) -> None:
    with pytest.raises(StartRefused, match=sentence):
        await open_storage(with_options(uri, options))


@pytest.mark.parametrize("unreliable", [False, True])
@pytest.mark.parametrize(
    "option",
    [
        "wtimeoutMS=500",
        "readConcernLevel=linearizable",
        "readPreference=primary&readPreferenceTags=dc:1",
        "maxStalenessSeconds=120",
    ],
)
async def test_options_that_each_call_decides_for_itself_are_refused_in_the_uri(
    uri: str, option: str, unreliable: bool
) -> None:
    name = option.split("&")[-1].split("=")[0]

    with pytest.raises(StartRefused, match=f"{name}=.*the service decides.*leave it out"):
        await open_storage(with_options(uri, option), unreliable=unreliable)


@pytest.mark.parametrize(
    ("options", "promise"),
    [
        ("w=1", {"w": 1}),
        ("w=2", {"w": 2, "j": True}),
        ("w=majority&journal=false", {"w": "majority", "j": False}),
    ],
)
def test_an_unreliable_service_promises_what_the_uri_says(
    options: str, promise: dict[str, object]
) -> None:
    uri = f"mongodb://host/?{options}"
    arguments = deployment.arguments_of(deployment.options_of(uri), unreliable=True)

    client = pymongo.MongoClient[dict[str, Any]](uri, connect=False, **arguments)

    assert client.write_concern.document == promise
    client.close()


@pytest.mark.parametrize(
    "option",
    [
        "tlsCAFile=/nowhere/ca.pem",
        "tlsCertificateKeyFile=/nowhere/key.pem",
        f"tlsCAFile={__file__}",
    ],
)
async def test_a_certificate_that_cannot_be_read_is_named(uri: str, option: str) -> None:
    with pytest.raises(StartRefused, match="ZAQAR_STORE_URI can't be used: ") as refused:
        await open_storage(with_options(uri, f"tls=true&{option}"))

    assert option.split("=")[1] in str(refused.value)


@pytest.mark.parametrize(
    "options", ["w=majority", "journal=true", "w=majority&journal=true", "retryWrites=true"]
)
async def test_a_strong_promise_in_the_uri_is_taken(uri: str, options: str) -> None:
    storage = await open_storage(with_options(uri, options))
    await storage.close()


async def test_writes_wait_for_a_majority_and_its_journal(storage: Storage) -> None:
    opened = store_of(storage).collections
    collections = (opened.queues, opened.messages, opened.subscriptions)

    assert [collection.write_concern.document for collection in collections] == [
        {"w": "majority", "j": True}
    ] * 3


async def test_a_standalone_server_is_refused(standalone: str) -> None:
    with pytest.raises(StartRefused, match=r"standalone server.*ZAQAR_UNRELIABLE=true"):
        await open_storage(standalone)


async def test_an_unreliable_service_takes_a_standalone_server(
    standalone: str, queue: QueueRef
) -> None:
    storage = await open_storage(standalone, unreliable=True)

    posted = await post(storage, queue, bodies=["a", "b"])
    held = await claim(storage, queue, limit=1)
    await storage.messages.delete_many(queue, posted.ids[1:], claim_ids=[], now=START)

    assert held is not None
    assert bodies(held) == ["a"]
    assert bodies(await page(storage, queue, include_claimed=True)) == ["a"]
    await storage.close()


async def test_the_doctor_says_that_a_standalone_server_is_refused(standalone: str) -> None:
    [refusal] = await _said_of_the_store(Settings(store_uri=standalone))

    assert refusal.level is Level.PROBLEM
    assert "ZAQAR_UNRELIABLE=true" in refusal.sentence


async def test_the_doctor_warns_of_what_an_unreliable_service_takes(standalone: str) -> None:
    findings = await _said_of_the_store(Settings(store_uri=f"{standalone}?w=1", unreliable=True))

    answers, version, weak, alone, absent = findings
    assert [answers.level, version.level, absent.level] == [Level.OK, Level.OK, Level.OK]
    assert [weak.level, alone.level] == [Level.WARNING, Level.WARNING]
    assert "w=1" in weak.sentence
    assert "standalone" in alone.sentence


async def _said_of_the_store(settings: Settings) -> list[Finding]:
    return [finding for finding in await examine(settings, None, KINDS) if finding.check == "store"]


async def test_an_old_server_is_refused(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployment, "OLDEST_WIRE_VERSION", 1000)

    with pytest.raises(StartRefused, match=r"too old: take 6\.0 or later.*ZAQAR_UNRELIABLE=true"):
        await open_storage(uri)

    storage = await open_storage(uri, unreliable=True)
    await storage.close()


async def test_a_server_with_the_features_of_an_older_one_is_refused(old_features: str) -> None:
    """A set stays so after an upgrade until an operator confirms that there is no way back."""
    with pytest.raises(
        StartRefused, match=r"feature compatibility version 5\.0: raise it.*ZAQAR_UNRELIABLE=true"
    ):
        await open_storage(old_features)

    storage = await open_storage(old_features, unreliable=True)
    await storage.close()


async def test_a_server_that_does_not_tell_its_feature_version_is_taken(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An account of one database may not ask."""
    original = AsyncDatabase.command

    async def command(self: Any, name: Any, *arguments: Any, **options: Any) -> Any:
        if name == "getParameter":
            raise OperationFailure("not authorized on admin to execute command", code=13)
        return await original(self, name, *arguments, **options)

    monkeypatch.setattr(AsyncDatabase, "command", command)

    storage = await open_storage(uri)
    await storage.close()


async def test_data_of_another_version_is_refused(uri: str) -> None:
    storage = await open_storage(uri)
    await storage.close()
    with pymongo.MongoClient[dict[str, Any]](uri) as client:
        client.get_default_database().schema.update_one({}, {"$set": {"version": 99}})

    with pytest.raises(
        StartRefused, match=f"schema version 99; this release knows version {SCHEMA_VERSION}"
    ):
        await open_storage(uri)


# The library leaves behind a connection whose making was cut short; it goes with the garbage.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_server_that_is_not_there_is_refused_soon() -> None:
    uri = f"mongodb://127.0.0.1:{free_port()}/?replicaSet=rs0&timeoutMS=300"

    with pytest.raises(StartRefused, match="gives no answer"):
        await open_storage(uri)
    gc.collect()


@pytest.mark.parametrize(
    "uri",
    ["mongodb://", "mongodb://host:port/", "mongodb://h/?j=true", "mongodb://h/?maxPoolSize=many"],
)
async def test_a_uri_that_cannot_be_read_is_refused(uri: str) -> None:
    with pytest.raises(StartRefused, match="ZAQAR_STORE_URI can't be used"):
        await open_storage(uri)


async def test_the_store_s_clock_is_the_server_s(storage: Storage) -> None:
    first = await storage.read_clock()
    second = await storage.read_clock()

    assert first is not None
    assert second is not None
    assert first.tzinfo is not None
    assert first <= second


async def test_the_doctor_names_an_index_that_is_lacking(storage: Storage, uri: str) -> None:
    await store_of(storage).collections.messages.drop_index("queue_due")

    findings = await _said_of_the_store(Settings(store_uri=uri))

    assert any("messages lacks indexes: queue_due" in finding.sentence for finding in findings)


async def test_the_doctor_makes_no_database(uri: str) -> None:
    findings = await _said_of_the_store(Settings(store_uri=uri))

    assert any("not there yet" in finding.sentence for finding in findings)
    with pymongo.MongoClient[dict[str, Any]](uri) as client:
        assert client.get_default_database().list_collection_names() == []
