"""A database that others use, too: the service refuses it, or leaves others' documents alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pymongo
import pytest
from pymongo.database import Database

from tests.clock import START
from tests.contract.steps import bodies, page, post
from tests.kinds import KINDS
from tests.mongodb.commands import Commands
from zaqar_notify.errors import StartRefused
from zaqar_notify.findings import Level
from zaqar_notify.models import QueueRef
from zaqar_notify.operations.doctor import examine
from zaqar_notify.settings import Settings
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import open_storage

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
Documents = dict[str, Any]


@pytest.fixture
def database(uri: str) -> Iterator[Database[Documents]]:
    """The test's database, for another application."""
    with pymongo.MongoClient[Documents](uri) as client:
        yield client.get_default_database()


@pytest.mark.parametrize(
    "name",
    [
        "schema",
        "queues",
        "messages",
        "subscriptions",
        "duties",
        "tokens",
        "shares",
        "suppressions",
        "pools",
        "catalogue",
    ],
)
async def test_collections_of_another_application_are_refused_and_left_alone(
    uri: str, database: Database[Documents], name: str
) -> None:
    theirs = {"_id": 1, "expires_at": LONG_AGO}
    database[name].insert_one(theirs)

    with pytest.raises(StartRefused, match=rf"another application under names of ours \({name}\)"):
        await open_storage(uri)

    assert list(database[name].find()) == [theirs | {"expires_at": LONG_AGO.replace(tzinfo=None)}]
    assert database.list_collection_names() == [name]
    assert list(database[name].index_information()) == ["_id_"]


async def test_the_doctor_says_that_the_database_is_another_application_s(
    uri: str, database: Database[Documents]
) -> None:
    database["messages"].insert_one({})

    findings = await examine(Settings(store_uri=uri), None, KINDS)

    [refusal] = [finding for finding in findings if finding.check == "store"]
    assert refusal.level is Level.PROBLEM
    assert "another application" in refusal.sentence


async def test_other_collections_beside_ours_are_no_hindrance(
    uri: str, database: Database[Documents]
) -> None:
    database["orders"].insert_one({})

    for _ in range(2):
        storage = await open_storage(uri)
        await storage.close()


@pytest.mark.parametrize("name", ["admin", "config", "local", "Admin"])
async def test_a_database_of_mongodb_s_own_is_refused(uri: str, name: str) -> None:
    base, _, rest = uri.rpartition("/")
    _, _, options = rest.partition("?")

    with pytest.raises(StartRefused, match="MongoDB's own: name a database of the service"):
        await open_storage(f"{base}/{name}?{options}")


async def test_the_sweep_passes_over_what_is_not_ours(
    storage: Storage, database: Database[Documents], queue: QueueRef
) -> None:
    theirs: list[Documents] = [
        {"_id": 1, "queue": 1, "expires_at": LONG_AGO},
        {"_id": "a", "queue": "b", "expires_at": LONG_AGO, "dropped": [1]},
        {"_id": "c", "queue": 2, "unused_since": LONG_AGO, "dropped": "yes"},
        {"_id": "d", "queue": 3, "unused_since": LONG_AGO, "rules": None},
    ]
    collections = [database[name] for name in ("messages", "subscriptions", "queues")]
    for collection in collections:
        collection.insert_many(theirs)
    await post(storage, queue, bodies=["a"])

    assert await storage.sweep(now=START, limit=10) == 0
    assert await storage.subscriptions.remove_expired(now=START, limit=10) == []

    kept = [
        collection.count_documents({"_id": {"$in": [1, "a", "c", "d"]}})
        for collection in collections
    ]
    assert kept == [4, 4, 4]
    assert bodies(await page(storage, queue)) == ["a"]


async def test_an_index_that_would_refuse_our_documents_is_refused(
    uri: str, storage: Storage, database: Database[Documents]
) -> None:
    database["queues"].create_index([("p_q", 1)], unique=True)

    with pytest.raises(
        StartRefused, match=r"index p_q_1 of .*queues is unique and not ours.*drop it"
    ):
        await open_storage(uri)


async def test_an_index_of_other_fields_under_our_name_is_refused(
    uri: str, storage: Storage, database: Database[Documents]
) -> None:
    database["messages"].drop_index("queue_due")
    database["messages"].create_index([("due", 1)], name="queue_due")

    with pytest.raises(StartRefused, match=r"index queue_due of .*messages has other fields"):
        await open_storage(uri)


async def test_a_start_that_has_nothing_to_make_asks_for_no_index(
    storage: Storage, commands: Commands, uri: str
) -> None:
    again = await open_storage(uri)
    await again.close()

    assert commands.sent
    assert not [sent for sent in commands.sent if "createIndexes" in sent]
