"""The moments at which waiting requests are woken."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import timedelta

from tests.clock import START
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.mongodb.watches import LATEST_SECONDS, MongoWatches
from zaqar_notify.storage.values import to_ms


async def test_what_is_held_while_the_first_question_is_under_way_wakes(queue: QueueRef) -> None:
    is_asked, never = asyncio.Event(), asyncio.Event()

    async def look(_refs: Iterable[QueueRef]) -> None:
        """Nothing comes from elsewhere."""

    async def next_due(_ref: QueueRef) -> int | None:
        is_asked.set()
        await never.wait()
        return None

    waiting = MongoWatches(look, next_due, lambda: START)
    with waiting.watch(queue, exclusive=True) as watch:
        changed = asyncio.create_task(watch.changed(timeout_seconds=LATEST_SECONDS))
        await is_asked.wait()
        waiting.held(queue, to_ms(START + timedelta(seconds=0.1)))

        assert await asyncio.wait_for(changed, LATEST_SECONDS / 2) is True
    await waiting.close()
