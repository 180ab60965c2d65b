"""Which driver a store's URI names: ours, and those of packages that are installed beside us."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from importlib.metadata import EntryPoint, entry_points
from urllib.parse import urlsplit

from zaqar_notify.errors import StartRefused, StorageUnavailable
from zaqar_notify.extensions import load
from zaqar_notify.rules.encryption import NO_KEYS, Keyring
from zaqar_notify.settings import Settings, shown
from zaqar_notify.storage.base import MessageStore
from zaqar_notify.storage.driver import NEEDED, Driver
from zaqar_notify.storage.open_pools import OpenPools
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.stores import Stores

OURS = {
    "sqlite": "zaqar_notify.storage.sqlite.driver:SQLiteDriver",
    "mongodb": "zaqar_notify.storage.mongodb.driver:MongoDriver",
    "mongodb+srv": "zaqar_notify.storage.mongodb.driver:MongoDriver",
    "redis": "zaqar_notify.storage.redis.driver:RedisDriver",
    "rediss": "zaqar_notify.storage.redis.driver:RedisDriver",
}
"""By URI scheme. Named, not imported: only a process that uses a driver pays for its library."""

ENTRY_POINTS = "zaqar_notify.drivers"
"""The group in which a package names its driver, by scheme: `mine = "my_package.driver:MyDriver"`."""


def driver_of(uri: str) -> Driver:
    """The driver for a store.

    Raises:
        StartRefused: There is none for its scheme, or it can't be loaded.
    """
    scheme = urlsplit(uri).scheme
    if scheme in OURS:
        named = [EntryPoint(scheme, OURS[scheme], ENTRY_POINTS)]
    else:
        named = list(entry_points(group=ENTRY_POINTS, name=scheme))
    if named:
        return load(named[0], Driver)  # type: ignore[type-abstract]
    raise StartRefused(
        f"ZAQAR_STORE_URI {shown(uri)!r} names no store for which there is a driver; "
        "use sqlite:///PATH, mongodb://HOSTS/?replicaSet=NAME or redis://HOST, or install a driver's package"
    )


@contextmanager
def _said_of(setting: str) -> Iterator[None]:
    """Drivers speak of ZAQAR_STORE_URI; here the URI is another setting's."""
    try:
        yield
    except StartRefused as error:
        raise StartRefused(str(error).replace("ZAQAR_STORE_URI", setting)) from error


async def open_control(uri: str, *, unreliable: bool, prepare: bool, keys: Keyring) -> MessageStore:
    """The store of ZAQAR_CONTROL_URI; its `control` is used, and no more of it. As `Driver.open`."""
    with _said_of("ZAQAR_CONTROL_URI"):
        return await driver_of(uri).open(uri, unreliable=unreliable, prepare=prepare, keys=keys)


async def open_storage_of(settings: Settings, *, prepare: bool = True) -> Storage:
    """As `open_storage`, of the stores that the settings name."""
    return await open_storage(
        settings.store_uri,
        control_uri=settings.control_uri or None,
        unreliable=settings.unreliable,
        prepare=prepare,
        keys=settings.keyring,
    )


async def open_storage(
    uri: str,
    *,
    control_uri: str | None = None,
    unreliable: bool = False,
    prepare: bool = True,
    keys: Keyring = NO_KEYS,
) -> Storage:
    """Open the stores that the URIs name, as `Driver.open`; they belong to the running event loop.

    Args:
        uri: The message store.
        control_uri: The control store; None: it is in the message store's database.
        keys: Those of the settings; without them, what is encrypted can't be read.

    Raises:
        StartRefused: A URI or its store can't be used.
    """
    driver = driver_of(uri)
    if missing := NEEDED - driver.capabilities:
        raise StartRefused(
            f"ZAQAR_STORE_URI names {driver.about}, which lacks {', '.join(sorted(missing))}: the "
            "guarantees of the service need it; use another kind of store"
        )
    async with AsyncExitStack() as refused:
        store = await driver.open(uri, unreliable=unreliable, prepare=prepare, keys=keys)
        refused.push_async_callback(store.close)
        controlling = store
        if control_uri is not None:
            controlling = await open_control(
                control_uri, unreliable=unreliable, prepare=prepare, keys=keys
            )
            refused.push_async_callback(controlling.close)
        if controlling.control is None:
            raise StartRefused(
                f"{shown(control_uri or uri)} can't keep queues' records, subscriptions and pools: set ZAQAR_CONTROL_URI "
                "to a store that can, as mongodb://HOSTS/DATABASE?replicaSet=NAME"
            )

        async def open_pool(uri: str) -> MessageStore:
            return await driver_of(uri).open(uri, unreliable=unreliable, prepare=prepare, keys=keys)

        pools = OpenPools(
            controlling.control.pools,
            Stores(store),
            open_pool,
            is_shared=driver.is_shared,
        )
        refused.push_async_callback(pools.close)
        try:
            await pools.begin()
            own = frozenset([await store.identity(), await controlling.identity()])
        except StorageUnavailable as error:
            raise StartRefused(str(error)) from error
        refused.pop_all()
    storage = Storage(controlling.control, store, open_pools=pools, keys=keys, own_identities=own)
    storage.membership.begin()
    return storage
