"""A full disk: posts are refused with the reason, writes that free room go on, and it heals by itself."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.clock import START
from tests.contract.steps import after, bodies, claim, page, post, subscribe
from tests.small_disk import fill, small_disk
from tests.sqlite.opened import opened
from zaqar_notify.errors import StorageFull
from zaqar_notify.models import INTERNAL_PROJECT, QueueRef
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.sqlite.reserve import RESERVE_BYTES, reserve_of

QUEUE = QueueRef("p", "q")
OUTBOX = QueueRef(INTERNAL_PROJECT, "outbox.0")
BIG = "x" * 250_000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", megabytes=40) as disk:
        yield disk


@pytest.fixture
async def storage(disk: Path) -> AsyncIterator[Storage]:
    storage = await opened(disk / "store.db")
    yield storage
    await storage.close()


async def post_until_full(storage: Storage, queue: QueueRef = QUEUE) -> int:
    """How many big messages were acknowledged."""
    for count in range(1000):
        try:
            await post(storage, queue, bodies=[BIG])
        except StorageFull:
            return count
    raise AssertionError("The disk never was full")


async def is_refused(storage: Storage) -> bool:
    try:
        await post(storage, QUEUE, bodies=["small"])
    except StorageFull:
        return True
    return False


async def test_all_that_was_acknowledged_is_there_and_can_be_consumed(
    storage: Storage,
) -> None:
    acknowledged = await post_until_full(storage)

    consumed = 0
    while held := await claim(storage, QUEUE, limit=5):
        await storage.messages.delete_many(
            QUEUE, [message.id for message in held.messages], claim_ids=[held.id], now=START
        )
        consumed += len(held.messages)

    assert consumed == acknowledged


async def test_what_frees_room_or_takes_none_goes_on(storage: Storage) -> None:
    subscription = await subscribe(storage, QUEUE)
    await post_until_full(storage)

    held = await claim(storage, QUEUE, limit=1, ttl=60)
    assert held is not None
    await storage.claims.renew(QUEUE, held.id, ttl=120, grace=60, now=START)
    await storage.claims.release(QUEUE, held.id, now=START)
    await storage.messages.pop(QUEUE, limit=1, now=START)
    await storage.subscriptions.delete(QUEUE, subscription.id)
    await storage.prove()
    await post(storage, OUTBOX, bodies=["what the engine owes"])

    assert await is_refused(storage)
    with pytest.raises(StorageFull):
        await storage.queues.create(QueueRef("p", "new"), metadata={}, now=START)
    with pytest.raises(StorageFull):
        await subscribe(storage, QUEUE)


async def test_the_engine_leaves_room_for_deletes(storage: Storage) -> None:
    await post_until_full(storage)

    assert await post_until_full(storage, OUTBOX) < RESERVE_BYTES // len(BIG)

    assert await storage.messages.pop(QUEUE, limit=1, now=START)


@pytest.mark.parametrize("way", ["purge", "expire"])
async def test_posts_are_taken_again_when_messages_are_gone(
    storage: Storage, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    caplog.set_level(logging.INFO, logger="zaqar_notify")
    await post_until_full(storage)
    if way == "purge":
        await storage.messages.purge(QUEUE, now=START)

    while await storage.sweep(now=after(1_000_000), limit=10):
        continue

    await post(storage, QUEUE, bodies=["taken"], now=after(1_000_000))
    actions = [vars(record)["action"] for record in caplog.records]
    assert actions == ["disk_full", "disk_room"]


async def test_posts_are_taken_again_when_another_program_makes_room(
    storage: Storage, disk: Path
) -> None:
    await post(storage, QUEUE, bodies=["before"])
    others = fill(disk)
    await post_until_full(storage)
    assert not reserve_of(disk / "store.db").exists()

    others.unlink()

    assert not await is_refused(storage)
    assert reserve_of(disk / "store.db").stat().st_size == RESERVE_BYTES


async def test_a_start_on_a_full_disk_serves_what_is_there(disk: Path) -> None:
    storage = await opened(disk / "store.db")
    await post(storage, QUEUE, bodies=["kept", "popped"])
    await storage.close()
    fill(disk)

    storage = await opened(disk / "store.db")

    assert bodies(await page(storage, QUEUE)) == ["kept", "popped"]
    assert len(await storage.messages.pop(QUEUE, limit=1, now=START)) == 1
    await post_until_full(storage)
    assert len(await storage.messages.pop(QUEUE, limit=1, now=START)) == 1
    await storage.close()
