"""Pools and flavors: one document, replaced whole, whose URIs are encrypted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from tests.clock import START
from tests.contract.raw import whole_store
from tests.keys import K1, K2, K2_AND_K1, Reopen, reopening
from zaqar_notify.errors import Conflict
from zaqar_notify.models import FlavorRef, Pool
from zaqar_notify.rules.encryption import NO_KEYS
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.pools import Registered
from zaqar_notify.storage.rekeying import key_ids, rekey

GOLD = FlavorRef("p1", "gold")


def pool(name: str, *, key: str = "hidden", weight: int = 1) -> Pool:
    uri = f"away://user:{key}@host/{name}"
    return Pool(name, uri, weight, {"Größe": [1, 2.5, None]}, GOLD, START, f"store of {name}")


async def register(storage: Storage, *added: Pool) -> Registered:
    def add(before: Registered) -> Registered:
        pools = {**before.pools, **{each.name: each for each in added}}
        return Registered(pools, before.flavors | {GOLD})

    return await storage.control.pools.change(add)


@pytest.fixture
async def reopen(store_uri: str) -> AsyncIterator[Reopen]:
    async with reopening(store_uri) as reopen:
        yield reopen


async def test_at_first_there_are_none(storage: Storage) -> None:
    assert await storage.control.pools.read() == Registered()


async def test_pools_and_flavors_are_read_back_whole(storage: Storage) -> None:
    stored = await register(storage, pool("a"), pool("b", weight=2**32 - 1))

    assert stored == await storage.control.pools.read()
    assert stored.pools == {"a": pool("a"), "b": pool("b", weight=2**32 - 1)}
    assert stored.flavors == {GOLD}


async def test_a_refused_change_changes_nothing(storage: Storage) -> None:
    before = await register(storage, pool("a"))

    def refuse(_: Registered) -> Registered:
        raise Conflict("no")

    with pytest.raises(Conflict):
        await storage.control.pools.change(refuse)
    assert await storage.control.pools.read() == before


async def test_changes_at_the_same_time_are_all_made(storage: Storage) -> None:
    names = {f"pool-{number}" for number in range(10)}

    await asyncio.gather(*(register(storage, pool(name)) for name in names))

    assert {*(await storage.control.pools.read()).pools} == names


async def test_without_keys_the_document_is_clear(reopen: Reopen) -> None:
    storage = await reopen(NO_KEYS)
    await register(storage, pool("a"))

    assert await key_ids(storage.control.encrypted) == []


async def test_uris_and_options_are_encrypted(reopen: Reopen) -> None:
    storage = await reopen(K1)
    before = await register(storage, pool("a"))

    stored = await whole_store(storage)

    assert b"hidden" not in stored
    assert b"away://user" not in stored
    assert await key_ids(storage.control.encrypted) == ["k1"]
    storage = await reopen(K2_AND_K1)
    assert await storage.control.pools.read() == before


async def test_a_change_of_keys_takes_pools_along(reopen: Reopen) -> None:
    storage = await reopen(K1)
    before = await register(storage, pool("a"), pool("b"))
    storage = await reopen(K2_AND_K1)

    done = await rekey(storage.encrypted, storage.keys, progress=lambda _: None)

    assert (done.done, done.locked, done.unused, done.missing) == (2, 0, ["k1"], [])
    storage = await reopen(K2)
    assert await storage.control.pools.read() == before


async def test_a_pool_without_its_key_is_locked_and_stays_as_it_is(reopen: Reopen) -> None:
    storage = await reopen(K1)
    await register(storage, pool("a"))
    storage = await reopen(K2)
    await register(storage, pool("b"))

    pools = (await storage.control.pools.read()).pools
    locked = msgspec.structs.replace(pools["a"], weight=5)
    assert (locked.uri, locked.options) == (None, None)
    assert pools["b"] == pool("b")
    await register(storage, locked)

    storage = await reopen(K2_AND_K1)
    assert (await storage.control.pools.read()).pools["a"] == pool("a", weight=5)


async def test_a_pool_without_its_key_can_be_registered_anew(reopen: Reopen) -> None:
    storage = await reopen(K1)
    await register(storage, pool("a"))
    storage = await reopen(K2)

    await register(storage, pool("a", key="new"))

    assert (await storage.control.pools.read()).pools["a"] == pool("a", key="new")
    assert await key_ids(storage.control.encrypted) == ["k2"]


async def test_the_uri_of_a_pool_is_of_no_use_to_another(reopen: Reopen) -> None:
    storage = await reopen(K1)
    await register(storage, pool("a"), pool("b"))
    pools = storage.control.pools
    document = await pools.load()
    exchanged = document.content.replace(b'"name":"a"', b'"name":"c"')

    assert await pools.replace(exchanged, revision=document.revision)

    read = (await pools.read()).pools
    assert {name: each.uri is None for name, each in read.items()} == {"b": False, "c": True}


def test_a_pool_shows_no_password_in_logs() -> None:
    assert "hidden" not in repr(Registered({"a": pool("a")}))
