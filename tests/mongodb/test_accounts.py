"""Servers with accounts: the rights that suffice, and the sentence when one lacks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pymongo
import pytest

from tests.clock import START
from tests.contract.steps import bodies, claim, page, post, subscribe
from tests.kinds import KINDS
from tests.mongod import ADMIN, ReplicaSet, require_mongod
from zaqar_notify.errors import StartRefused, StorageRefused
from zaqar_notify.findings import Level
from zaqar_notify.models import QueueRef
from zaqar_notify.operations.doctor import examine
from zaqar_notify.settings import Settings
from zaqar_notify.storage.registry import open_storage

NAME = "service"


@pytest.fixture(scope="module")
def members() -> Iterator[ReplicaSet]:
    """A set with accounts of several rights."""
    require_mongod()
    members = ReplicaSet(has_accounts=True)
    members.start()
    with pymongo.MongoClient[dict[str, Any]](members.uri(user=ADMIN)) as client:
        on_ours = {"db": NAME, "collection": ""}
        client.admin.command(
            "createRole",
            "writer",
            privileges=[
                {"resource": on_ours, "actions": ["find", "insert", "update", "listCollections"]}
            ],
            roles=[],
        )
        members.add_account(client, "zaqar", [{"role": "readWrite", "db": NAME}])
        members.add_account(client, "reader", [{"role": "read", "db": NAME}])
        members.add_account(client, "writer", ["writer"])
        members.add_account(client, "other", [{"role": "readWrite", "db": "other"}])
    yield members
    members.stop()


async def test_read_and_write_on_its_own_database_is_all_that_the_service_needs(
    members: ReplicaSet, queue: QueueRef
) -> None:
    uri = members.uri(NAME, user="zaqar")
    storage = await open_storage(uri)

    await subscribe(storage, queue)
    await post(storage, queue, bodies=["a", "b"])
    held = await claim(storage, queue, limit=1)
    await storage.prove()
    await storage.sweep(now=START, limit=10)
    await storage.take_turn("sweep", seconds=1, now=START)
    findings = await examine(Settings(store_uri=uri), None, KINDS)

    assert held is not None
    assert bodies(await page(storage, queue)) == ["b"]
    assert {each.level for each in findings if each.check == "store"} <= {Level.OK, Level.WARNING}
    await storage.close()


@pytest.mark.parametrize(
    ("user", "rights"),
    [
        ("reader", "createIndex, insert, remove, update"),
        ("writer", "createIndex, listIndexes, remove"),
        ("other", "createIndex, find, insert, listCollections, listIndexes, remove, update"),
    ],
)
async def test_rights_that_lack_are_named_at_the_start(
    members: ReplicaSet, user: str, rights: str
) -> None:
    with pytest.raises(StartRefused) as refused:
        await open_storage(members.uri(NAME, user=user))

    assert f"lacks rights on the database {NAME}: {rights}; give it the role readWrite" in str(
        refused.value
    )
    assert user in str(refused.value)


async def test_a_wrong_password_is_no_silence(members: ReplicaSet) -> None:
    with pytest.raises(StartRefused, match=r"refuses the account: Authentication failed.*password"):
        await open_storage(members.uri(NAME, user="zaqar", password="guessed"))


async def test_a_client_without_credentials_is_told_to_give_them(members: ReplicaSet) -> None:
    with pytest.raises(StartRefused, match=r"refuses the account a right: .*authentication"):
        await open_storage(members.uri(NAME))


async def test_a_right_that_is_taken_away_later_is_named(
    members: ReplicaSet, queue: QueueRef
) -> None:
    with pymongo.MongoClient[dict[str, Any]](members.uri(user=ADMIN)) as client:
        members.add_account(client, "former", [{"role": "readWrite", "db": NAME}])
        storage = await open_storage(members.uri(NAME, user="former"))
        await post(storage, queue, bodies=["a"])

        client.admin.command(
            "revokeRolesFromUser", "former", roles=[{"role": "readWrite", "db": NAME}]
        )

    with pytest.raises(StorageRefused, match=f"not authorized on {NAME} .*; give it the role"):
        await post(storage, queue, bodies=["b"])
    with pytest.raises(StorageRefused):
        await storage.prove()
    await storage.close()
