"""Storages with pools, for tests."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from tests.clock import START
from tests.packages import install
from zaqar_notify.errors import StartRefused
from zaqar_notify.models import FlavorRef, Pool, QueueRef
from zaqar_notify.rules.encryption import NO_KEYS, Keyring
from zaqar_notify.storage.base import MessageStore
from zaqar_notify.storage.control import ControlStore
from zaqar_notify.storage.driver import Capability, Driver
from zaqar_notify.storage.open_pools import OpenPools
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.pools import Registered
from zaqar_notify.storage.registry import ENTRY_POINTS, open_storage
from zaqar_notify.storage.stores import Stores


class AwayDriver(Driver):
    """Of stores that keep all promises and never answer."""

    about = "a store that is away"
    capabilities = frozenset(Capability)

    async def open(
        self, uri: str, *, unreliable: bool, prepare: bool, keys: Keyring
    ) -> MessageStore:
        raise StartRefused(f"{uri} is away")


def install_away(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the driver of `away:` URIs."""
    install(site, ENTRY_POINTS, {"away": "tests.pools:AwayDriver"}, monkeypatch=monkeypatch)


LONG_AGO = START - timedelta(days=1)


def without_pools(control: ControlStore, store: MessageStore, keys: Keyring) -> Storage:
    """Two open stores as one storage."""
    pools = OpenPools(control.pools, Stores(store), refuse, is_shared=False)
    return Storage(control, store, open_pools=pools, keys=keys)


async def refuse(uri: str) -> MessageStore:
    raise StartRefused("no pool is opened here")


async def open_pooled(uri: str, pools: Mapping[str, str], *, keys: Keyring = NO_KEYS) -> Storage:
    """A storage with pools of these URIs, which take no new queues until a test says so."""
    storage = await open_storage(uri, keys=keys)
    for name, pool_uri in pools.items():
        await register(storage, name, pool_uri, weight=0)
    return storage


async def register(
    storage: Storage,
    name: str,
    uri: str,
    *,
    weight: int = 1,
    flavor: FlavorRef | None = None,
    at: datetime = LONG_AGO,
    identity: str = "",
) -> None:
    """Register the pool, or change it."""
    pool = Pool(name, uri, weight, {}, flavor, at, identity)
    await storage.control.pools.change(
        lambda before: msgspec.structs.replace(before, pools={**before.pools, name: pool})
    )
    await storage.open_pools.look()


async def keep(storage: Storage, name: str, uri: str, **fields: object) -> None:
    """Have a pool, whose store is not opened."""
    pool = msgspec.structs.replace(Pool(name, uri, 1, {}, None, START), **fields)
    await storage.control.pools.change(
        lambda before: msgspec.structs.replace(before, pools={**before.pools, name: pool})
    )


async def unregister(storage: Storage, name: str) -> None:
    def change(before: Registered) -> Registered:
        left = {key: pool for key, pool in before.pools.items() if key != name}
        return msgspec.structs.replace(before, pools=left)

    await storage.control.pools.change(change)
    await storage.open_pools.look()


async def put_on(storage: Storage, ref: QueueRef, pool: str) -> None:
    """Let the queue be on the pool, before it is used."""
    assert await storage.control.catalogue.place(ref, pool, now=START) == pool
