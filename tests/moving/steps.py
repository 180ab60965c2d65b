"""Short functions for tests of moves."""

from __future__ import annotations

from tests.clock import START
from zaqar_notify.clock import new_id
from zaqar_notify.models import Message, QueueRef
from zaqar_notify.storage.moving import journal
from zaqar_notify.storage.moving.records import Move
from zaqar_notify.storage.planes import Storage

TARGET = "other"


async def ask(storage: Storage, queue: QueueRef, target: str = TARGET) -> Move:
    """Have the queue moved, by whatever process carries out moves."""
    move = Move(new_id(), queue.project, queue.name, target, START)
    await journal.ask(storage.store, move, now=START)
    return move


async def messages_of(storage: Storage, queue: QueueRef) -> list[Message]:
    """All messages of the queue, wherever it is."""
    async with storage.at(queue) as store:
        found = await store.messages.page(
            queue, marker=None, limit=10_000, now=START, include_claimed=True, include_delayed=True
        )
    return found.messages


async def ends_of(storage: Storage, queue: QueueRef) -> list[journal.Ended]:
    """The moves of the project's queues that are over."""
    found = await journal.ended(storage.store, now=START)
    return [one for one in found if one.move.project == queue.project]


async def pool_of(storage: Storage, queue: QueueRef) -> str | None:
    return await storage.control.catalogue.get(queue)
