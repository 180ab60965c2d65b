"""A process that posts to one queue, several tasks at once, and writes down acknowledged posts.

    python -m tests.mongodb.producer URI PROJECT NAME LABEL

Each line of its output is a body, written once its post has returned.
"""

from __future__ import annotations

import asyncio
import os
import sys

from tests.contract.steps import post
from tests.mongodb.opened import opened
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.mongodb import reserving
from zaqar_notify.storage.planes import Storage

TASKS = 3
DEADLINE_MS = 300
"""So that a test need not wait long for the fence of a writer that was killed."""


async def produce(storage: Storage, queue: QueueRef, label: str) -> None:
    number = 0
    while True:
        body = f"{label}/{number}"
        number += 1
        try:
            await post(storage, queue, bodies=[f"{body}/0", f"{body}/1"])
        except StorageUnavailable:
            continue
        os.write(1, f"{body}/0\n{body}/1\n".encode())


async def main(uri: str, project: str, name: str, label: str) -> None:
    reserving.DEADLINE_MS = DEADLINE_MS
    storage = await opened(uri)
    queue = QueueRef(project, name)
    await asyncio.gather(*(produce(storage, queue, f"{label}.{task}") for task in range(TASKS)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
