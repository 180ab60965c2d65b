"""A store's own tasks end, whatever a library does with a cancellation."""

from __future__ import annotations

import asyncio

from zaqar_notify.storage import ending
from zaqar_notify.storage.ending import end


async def test_a_task_whose_library_swallows_a_cancellation_ends() -> None:
    swallowed = 0

    async def work() -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                swallowed += 1
                if swallowed > 1:
                    raise

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    async with asyncio.timeout(20 * ending.CANCEL_SECONDS):
        await end(task)

    assert task.done()
    assert swallowed == 2


async def test_no_task_at_all_is_ended_at_once() -> None:
    await end()
