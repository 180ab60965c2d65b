"""Pools that are registered without a store."""

from __future__ import annotations

import msgspec

from tests.clock import START
from zaqar_notify.models import Pool
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.pools import Registered


async def keep(storage: Storage, name: str, uri: str, **fields: object) -> None:
    """Have a pool, whose store is not opened."""
    pool = msgspec.structs.replace(Pool(name, uri, 1, {}, None, START), **fields)

    def add(before: Registered) -> Registered:
        return msgspec.structs.replace(before, pools={**before.pools, name: pool})

    await storage.control.pools.change(add)
