"""Tries a store before it becomes a pool."""

from __future__ import annotations

import asyncio

from zaqar_notify.errors import (
    BodyInvalid,
    PoolUnreachable,
    StartRefused,
    StorageUnavailable,
)
from zaqar_notify.rules.encryption import Keyring
from zaqar_notify.rules.uris import masked
from zaqar_notify.settings import Settings
from zaqar_notify.storage.driver import NEEDED, Driver
from zaqar_notify.storage.open_pools import refusal
from zaqar_notify.storage.registry import driver_of

CONNECT_SECONDS = 15.0


def is_cluster(settings: Settings) -> bool:
    """Whether several processes may use the store of the settings, and so its pools."""
    return bool(settings.store_uri) and driver_of(settings.store_uri).is_shared


async def identity_of(uri: str, settings: Settings, keys: Keyring) -> str:
    """Open the store as a pool's, close it again, and return its identity.

    Raises:
        BodyInvalid: It can't be a pool.
        PoolUnreachable: It can't be opened.
    """
    driver = _driver_for(uri)
    if missing := NEEDED - driver.capabilities:
        raise BodyInvalid(
            f"uri names {driver.about}, which lacks {', '.join(sorted(missing))}: the guarantees of the service "
            "need it; use another kind of store"
        )
    if is_cluster(settings) and not driver.is_shared:
        raise BodyInvalid(
            f"uri names {driver.about}, which one process alone can use. It can be a pool only of `up` whose own store "
            "is such a file; use another kind of store"
        )
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            store = await driver.open(uri, unreliable=settings.unreliable, prepare=True, keys=keys)
            try:
                return await store.identity()
            finally:
                await store.close()
    except TimeoutError as error:
        raise PoolUnreachable(masked(uri), f"no answer in {CONNECT_SECONDS:g} s") from error
    except (StartRefused, StorageUnavailable) as error:
        raise PoolUnreachable(masked(uri), refusal(error, uri)) from error


def _driver_for(uri: str) -> Driver:
    try:
        return driver_of(uri)
    except (StartRefused, ValueError) as error:
        raise BodyInvalid(
            f"uri {masked(uri)} names no store for which there is a driver; use mongodb://HOSTS/DATABASE, redis://HOST or "
            "sqlite:///PATH, or install a driver's package"
        ) from error
