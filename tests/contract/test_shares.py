"""Revocations of pre-signed URLs: each begins a generation that comes after all before."""

from __future__ import annotations

import asyncio

import pytest

from tests.clock import START
from tests.contract.steps import after
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import open_storage


async def revoke(storage: Storage, ref: QueueRef, *, seconds: float = 0) -> int:
    """Revoke the queue's URLs so many seconds after the start; the generation that begins."""
    await storage.control.shares.revoke(ref, now=after(seconds))
    return await storage.control.shares.generation(ref)


async def test_a_queue_s_urls_were_never_revoked_at_first(
    storage: Storage, queue: QueueRef
) -> None:
    assert await storage.control.shares.generation(queue) == 0


async def test_a_revocation_is_of_its_queue_alone(storage: Storage, queue: QueueRef) -> None:
    assert await revoke(storage, queue) > 0

    for other in (QueueRef(queue.project, "other"), QueueRef("other", queue.name)):
        assert await storage.control.shares.generation(other) == 0


async def test_each_generation_is_later_than_those_before(
    storage: Storage, queue: QueueRef
) -> None:
    given = [await revoke(storage, queue, seconds=seconds) for seconds in (1, 0, 0, 2)]

    assert given == sorted(set(given))


async def test_a_generation_goes_by_the_clock_so_that_a_restored_store_repeats_none(
    storage: Storage, queue: QueueRef
) -> None:
    before = await revoke(storage, queue)

    assert await revoke(storage, QueueRef(queue.project, "restored"), seconds=0.001) > before


async def test_a_revocation_at_the_same_time_as_others_ends_what_was_before(
    storage: Storage, queue: QueueRef
) -> None:
    before = await revoke(storage, queue, seconds=1)

    await asyncio.gather(*(storage.control.shares.revoke(queue, now=START) for _ in range(10)))

    assert await storage.control.shares.generation(queue) > before


async def test_a_deletion_of_the_queue_makes_no_revoked_url_valid(
    storage: Storage, queue: QueueRef
) -> None:
    await storage.queues.create(queue, metadata={}, now=START)
    generation = await revoke(storage, queue)

    await storage.queues.delete(queue, now=START)

    assert await storage.control.shares.generation(queue) == generation


async def test_a_project_with_too_many_records_has_one_for_all_its_queues(
    storage: Storage, queue: QueueRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    for driver in ("sqlite", "mongodb", "redis.control"):
        monkeypatch.setattr(f"zaqar_notify.storage.{driver}.shares.MOST_RECORDS", 3)
    queues = [QueueRef(queue.project, f"q{number}") for number in range(4)]
    foreign = QueueRef(f"{queue.project}x", "q0")
    before = [await revoke(storage, each, seconds=60) for each in (*queues[:3], foreign)]

    latest = await revoke(storage, queues[3])

    assert latest > max(before)
    for each in (*queues, queue):
        assert await storage.control.shares.generation(each) == latest
    assert await storage.control.shares.generation(foreign) == before[3]
    assert await revoke(storage, queues[0]) > latest
    assert await storage.control.shares.generation(queues[1]) == latest


async def test_a_revocation_is_there_after_a_restart(store_uri: str, queue: QueueRef) -> None:
    storage = await open_storage(store_uri)
    generation = await revoke(storage, queue)
    await storage.close()

    storage = await open_storage(store_uri)

    assert await storage.control.shares.generation(queue) == generation > 0
    await storage.close()
