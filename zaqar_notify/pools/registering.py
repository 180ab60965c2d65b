"""Changes what is registered, and has this process know of it at once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.pools import Registered


async def change_registered(
    storage: Storage, change: Callable[[Registered], Registered]
) -> Registered:
    """As `Pools.change`. Other processes know of the change within some seconds; so does this one if it can't look."""
    registered = await storage.control.pools.change(change)
    with suppress(StorageUnavailable):
        await storage.open_pools.look()
    return registered
