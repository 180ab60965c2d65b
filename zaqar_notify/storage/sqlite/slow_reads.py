"""Turns of the reads that take long. They run in threads, beside the event loop.

Many threads would take the processors and the interpreter's lock from the event loop, and a project's many
reads would keep those of others waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

MOST_AT_ONCE = 2


class SlowReads:
    """One read of a project runs or waits for a thread; its others wait for that one."""

    def __init__(self) -> None:
        self._all = asyncio.Semaphore(MOST_AT_ONCE)
        self._of_project: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, project: str) -> AsyncIterator[None]:
        own = self._of_project.get(project)
        if own is None:
            own = self._of_project[project] = asyncio.Lock()
        async with own, self._all:
            yield
