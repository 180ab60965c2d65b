"""A process that begins a step and never ends it: it is killed by the test that started it."""

from __future__ import annotations

import asyncio
import sys

from pymongo.asynchronous.database import AsyncDatabase

from zaqar_notify.storage.mongodb import migrations
from zaqar_notify.storage.registry import open_storage

LEASE_SECONDS = 0.9


async def begin_and_hang(database: AsyncDatabase[migrations.Document]) -> None:
    await database.steps.insert_one({"by": "the one that died"})
    print("begun", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    migrations.LEASE_SECONDS = LEASE_SECONDS
    migrations.STEPS = (*migrations.STEPS, begin_and_hang)
    asyncio.run(open_storage(sys.argv[1]))
