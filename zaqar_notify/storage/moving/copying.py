"""One queue is brought from store to store: read while it is in use, then its changes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from zaqar_notify.models import QueueRef
from zaqar_notify.storage.base import Transfer
from zaqar_notify.storage.base.transfer import ChangesLost, StoredHead
from zaqar_notify.storage.moving.records import Copied

PAGE = 200
"""Things that are copied at once: some milliseconds of the source, and of the target."""
PAUSE = 1.0
"""After each page, so many times as long as it took: others have work, too."""
FIRST_PAGE = ""


class Stores(NamedTuple):
    source: Transfer
    target: Transfer


Tell = Callable[[int], Awaitable[None]]
"""Told of the number of things that were copied just now."""


async def begin(stores: Stores, name: str, ref: QueueRef) -> Copied | None:
    """Note the changes of the queue from now on; None: there is nothing of it to copy."""
    head = await stores.source.head(ref)
    if head is None or head.rules is None:
        return None
    cursor = await stores.source.begin(ref)
    if cursor is None:
        return None
    await stores.target.prepare(name, ref, head.salt)
    return Copied(ref.project, ref.name, cursor, head.life, head.salt, FIRST_PAGE)


async def copy(stores: Stores, name: str, copied: Copied, tell: Tell) -> None:
    """Copy the pages that are left."""
    while copied.after is not None:
        began = time.monotonic()
        page = await stores.source.read(copied.ref, after=copied.after or None, limit=PAGE)
        await stores.target.write(name, copied.ref, page.part)
        copied.after = page.next
        await tell(page.part.size)
        await asyncio.sleep(PAUSE * (time.monotonic() - began))


async def catch_up(stores: Stores, name: str, copied: Copied) -> int:
    """Copy what has changed since the last look; the number of things.

    Raises:
        ChangesLost: The queue must be copied anew.
    """
    if not copied.cursor:
        raise ChangesLost  # It was copied while it stood still, and has gone on since.
    count = 0
    while True:
        changes = await stores.source.changes(copied.ref, copied.cursor, limit=PAGE)
        if changes.part.size:
            await stores.target.write(name, copied.ref, changes.part)
        copied.cursor = changes.cursor
        count += changes.part.size
        if changes.is_all:
            return count


async def copy_rest(stores: Stores, name: str, copied: Copied) -> StoredHead:
    """Copy the rest of a queue that stands still; its head.

    Raises:
        ChangesLost: The queue must be copied anew.
    """
    head = await stores.source.head(copied.ref)
    if head is None or head.life != copied.life or copied.after is not None:
        raise ChangesLost
    await catch_up(stores, name, copied)
    return head


async def copy_whole(stores: Stores, name: str, ref: QueueRef) -> tuple[Copied, StoredHead] | None:
    """Copy a queue that stands still, and of which nothing was copied yet; None: there is none."""
    head = await stores.source.head(ref)
    if head is None or head.rules is None:
        return None
    await stores.target.prepare(name, ref, head.salt)
    copied = Copied(ref.project, ref.name, "", head.life, head.salt, FIRST_PAGE)
    while copied.after is not None:
        page = await stores.source.read(ref, after=copied.after or None, limit=PAGE)
        await stores.target.write(name, ref, page.part)
        copied.after = page.next
    return copied, head
