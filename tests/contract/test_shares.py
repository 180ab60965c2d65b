"""Revocations of pre-signed URLs: each begins a generation that comes after all before."""

from __future__ import annotations

import asyncio

from tests.clock import START
from tests.contract.steps import after
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import open_storage


async def test_a_queue_s_urls_were_never_revoked_at_first(
    storage: Storage, queue: QueueRef
) -> None:
    assert await storage.control.shares.generation(queue) == 0


async def test_a_revocation_is_of_its_queue_alone(storage: Storage, queue: QueueRef) -> None:
    generation = await storage.control.shares.revoke(queue, now=START)

    assert await storage.control.shares.generation(queue) == generation > 0
    for other in (QueueRef(queue.project, "other"), QueueRef("other", queue.name)):
        assert await storage.control.shares.generation(other) == 0


async def test_each_generation_is_later_than_those_before(
    storage: Storage, queue: QueueRef
) -> None:
    instants = (after(1), START, START, after(2))

    given = [await storage.control.shares.revoke(queue, now=now) for now in instants]

    assert given == sorted(set(given))


async def test_a_generation_goes_by_the_clock_so_that_a_restored_store_repeats_none(
    storage: Storage, queue: QueueRef
) -> None:
    restored = QueueRef(queue.project, "restored")
    before = await storage.control.shares.revoke(queue, now=START)

    assert await storage.control.shares.revoke(restored, now=after(0.001)) > before


async def test_revocations_at_the_same_time_begin_a_generation_each(
    storage: Storage, queue: QueueRef
) -> None:
    given = await asyncio.gather(
        *(storage.control.shares.revoke(queue, now=START) for _ in range(10))
    )

    assert len(set(given)) == 10
    assert await storage.control.shares.generation(queue) == max(given)


async def test_a_deletion_of_the_queue_makes_no_revoked_url_valid(
    storage: Storage, queue: QueueRef
) -> None:
    await storage.queues.create(queue, metadata={}, now=START)
    generation = await storage.control.shares.revoke(queue, now=START)

    await storage.queues.delete(queue, now=START)

    assert await storage.control.shares.generation(queue) == generation


async def test_a_revocation_is_there_after_a_restart(store_uri: str, queue: QueueRef) -> None:
    storage = await open_storage(store_uri)
    generation = await storage.control.shares.revoke(queue, now=START)
    await storage.close()

    storage = await open_storage(store_uri)

    assert await storage.control.shares.generation(queue) == generation
    await storage.close()
