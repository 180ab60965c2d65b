"""A worker that is killed at the worst time: `python -m tests.workers.dying STORE_URI KIND`.

Its subscription is removed just before it writes what it parks or holds, and it is killed just after.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterable

from tests.clock import ManualClock
from tests.workers.office import GONE, TRY_LATER, Office, always
from workers.ledger import Ledger
from workers.store import Asked
from zaqar_notify.delivery import InternalMessage
from zaqar_notify.settings import Settings
from zaqar_notify.storage.registry import open_storage

ANSWERS = {"parked": TRY_LATER, "held": GONE}
POSTS = 40


async def die(uri: str, kind: str) -> None:
    storage = await open_storage(uri)
    office = Office(storage, ManualClock(), Settings(delivery_breaker_failures=3, retry_jitter=0))
    office.sink.answers["http://receiver"] = always(ANSWERS[kind])
    subscription = await office.subscribe("http://receiver")
    for number in range(POSTS):
        await office.post(b"%d" % number)

    write = Ledger._write

    async def write_too_late(
        self: Ledger, asked: Asked, records: Iterable[InternalMessage], project: str
    ) -> None:
        records = list(records)
        is_own = any(ref.name.startswith(kind) for ref, _ in records)
        if is_own:
            await storage.subscriptions.delete(subscription.queue, subscription.id)
        await write(self, asked, records, project)
        if is_own:
            os.kill(os.getpid(), signal.SIGKILL)

    setattr(Ledger, "_write", write_too_late)  # noqa: B010 - mypy knows it for a method
    async with office.open():
        await asyncio.sleep(60)


if __name__ == "__main__":
    asyncio.run(die(*sys.argv[1:]))
