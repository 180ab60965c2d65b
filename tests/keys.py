"""Keys that encrypt, and a store that is opened with one after the other."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from zaqar_notify.rules.encryption import Keyring
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import open_storage

SECRET = {"k1": os.urandom(32), "k2": os.urandom(32)}
K1 = Keyring({"k1": SECRET["k1"]})
K2 = Keyring({"k2": SECRET["k2"]})
K2_AND_K1 = Keyring({"k2": SECRET["k2"], "k1": SECRET["k1"]})

Reopen = Callable[[Keyring], Awaitable[Storage]]


@asynccontextmanager
async def reopening(uri: str) -> AsyncIterator[Reopen]:
    """Gives a function that opens the store with these keys, once it is closed with those of before."""
    opened: list[Storage] = []

    async def reopen(keys: Keyring) -> Storage:
        for storage in opened:
            await storage.close()
        opened.append(await open_storage(uri, keys=keys))
        return opened[-1]

    try:
        yield reopen
    finally:
        for storage in opened:
            await storage.close()
