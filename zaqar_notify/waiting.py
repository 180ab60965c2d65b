"""Long polls: look, and while there is nothing, wait for a change as long as the caller does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

from zaqar_notify.storage.base import Watch

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Wait:
    """How long a caller waits; `hung_up` returns once the client is gone.

    `aside` is entered between looks: other callers have this caller's turn meanwhile. `place` is entered once,
    before the first look that waits; it raises the error that refuses to let the caller wait.
    """

    seconds: int
    hung_up: Callable[[], Awaitable[None]]
    aside: Callable[[], AbstractAsyncContextManager[None]] = nullcontext
    place: Callable[[], AbstractAsyncContextManager[None]] = nullcontext


async def first_found(
    look: Callable[[], Awaitable[T | None]],
    watch: Watch,
    wait: Wait,
    *,
    give_back: Callable[[T], Awaitable[None]] | None = None,
) -> T | None:
    """The result of `look`, as soon as it finds something; None when the wait or the caller ended.

    Args:
        watch: Opened before this call, so that no change falls between; closed by it.
        give_back: Undoes a look that found something for a caller that hung up meanwhile.
    """
    with watch:
        leaving = asyncio.ensure_future(wait.hung_up())
        try:
            found = await look()
            if found is None:
                async with wait.place():
                    found = await _look_on_changes(look, watch, wait, leaving)
        finally:
            await _end(leaving)
        if found is not None and leaving.done() and not leaving.cancelled():
            if give_back is not None:
                await give_back(found)
            return None
        return found


async def _look_on_changes(
    look: Callable[[], Awaitable[T | None]],
    watch: Watch,
    wait: Wait,
    leaving: asyncio.Future[None],
) -> T | None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait.seconds
    while (remaining := deadline - loop.time()) > 0:
        changing = asyncio.ensure_future(watch.changed(timeout_seconds=remaining))
        try:
            async with wait.aside():
                await asyncio.wait((leaving, changing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _end(changing)
        if leaving.done() or not changing.result():
            return None
        # A look is never cancelled half-way: whether it had claimed would be unknown.
        found = await look()
        if found is not None:
            return found
    return None


async def _end(task: asyncio.Future[T]) -> None:
    """Cancel the task unless it is done, and wait until it is."""
    if not task.done():
        task.cancel()
        await asyncio.wait((task,))
