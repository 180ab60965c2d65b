"""Two stores, and the steps that bring a queue from one to the other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from tests.contract.conftest import DRIVERS
from tests.mongod import beside
from zaqar_notify.clock import new_id
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.base.transfer import Part, StoredHead, Transfer
from zaqar_notify.storage.planes import Storage

MOVABLE = list(DRIVERS)
"""The drivers whose queues can move to other stores."""


def uris_of(drivers: Sequence[str], directory: Path) -> list[str]:
    """The URIs of empty stores of these drivers, which may be of one kind."""
    uris: list[str] = []
    for number, driver in enumerate(drivers):
        own = directory / str(number)
        own.mkdir()
        known = [uri for uri in uris if uri.startswith("mongodb:")]
        uris.append(beside(known[0]) if driver == "mongodb" and known else DRIVERS[driver](own))
    return uris


SMALL = 3
"""So few things are in a page that every test has several."""


def transfer(storage: Storage) -> Transfer:
    found = storage.store.transfer
    assert found is not None
    return found


class Moving:
    """One move of a queue, step by step."""

    def __init__(self, source: Storage, target: Storage, queue: QueueRef) -> None:
        self.source = transfer(source)
        self.target = transfer(target)
        self.queue = queue
        self.name = new_id()
        self.cursor = ""

    async def begin(self) -> None:
        cursor = await self.source.begin(self.queue)
        assert cursor is not None
        self.cursor = cursor
        await self.target.prepare(self.name, self.queue, (await self.head()).salt)

    async def copy(self) -> None:
        after = None
        while True:
            page = await self.source.read(self.queue, after=after, limit=SMALL)
            await self.write(page.part)
            after = page.next
            if after is None:
                return

    async def catch_up(self) -> None:
        while True:
            changes = await self.source.changes(self.queue, self.cursor, limit=SMALL)
            await self.write(changes.part)
            self.cursor = changes.cursor
            if changes.is_all:
                return

    async def finish(self) -> None:
        head = await self.head()
        await self.catch_up()
        await self.target.activate(self.name, self.queue, head)
        await self.source.end(self.queue)
        await self.source.drop(self.queue, head.life)

    async def head(self) -> StoredHead:
        head = await self.source.head(self.queue)
        assert head is not None
        return head

    async def write(self, part: Part) -> None:
        await self.target.write(self.name, self.queue, part)


async def move(
    source: Storage,
    target: Storage,
    queue: QueueRef,
    *,
    meanwhile: Callable[[], Awaitable[object]] | None = None,
) -> None:
    """Move the queue; what happens meanwhile happens between the copy and the catching up."""
    moving = Moving(source, target, queue)
    await moving.begin()
    await moving.copy()
    if meanwhile is not None:
        await meanwhile()
    await moving.finish()
