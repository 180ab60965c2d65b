"""The end of a store's own tasks."""

from __future__ import annotations

import asyncio
from typing import Any

CANCEL_SECONDS = 0.5
"""Between two cancellations of one task."""


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel the tasks until they are done: a library may take a cancellation for a failure of its connection."""
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=CANCEL_SECONDS)
