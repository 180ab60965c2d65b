"""What needs a pool, so that it can't be removed."""

from __future__ import annotations

from zaqar_notify.errors import PoolInUse
from zaqar_notify.storage.planes import Storage

COUNTED = 100
"""Queues are counted up to so many."""


async def refuse_in_use(storage: Storage, name: str) -> None:
    """Refuse to give up a pool that has queues.

    Raises:
        PoolInUse: It has; the sentence says how many.
    """
    found = await storage.control.catalogue.of_pool(name, after=None, limit=COUNTED)
    if found:
        more = " or more" if len(found) == COUNTED else ""
        number = "1 queue" if len(found) == 1 else f"{len(found)} queues{more}"
        raise PoolInUse(
            f"The pool has {number}, such as {found[0].name!r} of the project {found[0].project!r}: move them to "
            "another pool, or delete them. Queues that were deleted count for a day."
        )
