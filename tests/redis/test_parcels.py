"""A process that ends between the steps of a parcel leaves it to another one, and brings nothing twice."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.clock import START
from tests.contract.steps import (
    OUTBOX,
    after,
    bodies,
    claim,
    everything,
    hold,
    page,
    post,
    subscribe,
)
from zaqar_notify.clock import new_id
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import DeadLetter, QueueRef
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.redis.batches import Batches
from zaqar_notify.storage.redis.storage import RedisStore
from zaqar_notify.storage.registry import open_storage


@pytest.fixture
async def other(store_uri: str) -> AsyncIterator[Storage]:
    """The store as another process has it."""
    storage = await open_storage(store_uri)
    yield storage
    await storage.close()


def elsewhere(storage: Storage, queue: QueueRef, *, than: QueueRef | None = None) -> QueueRef:
    """A queue of the same project, under another hash tag than that queue or this one."""
    store = storage.store
    assert isinstance(store, RedisStore)
    names = (QueueRef(queue.project, f"dead-{number}") for number in range(100))
    return next(one for one in names if store.keys.tag_of(one) != store.keys.tag_of(than or queue))


def ends_before(monkeypatch: pytest.MonkeyPatch, operation: str) -> None:
    """Each process fails at this step."""
    write = Batches.write

    async def failing(self: Batches, tag: int, build: object, type_: object = list) -> object:
        def checked(batch: object) -> object:
            made = build(batch)  # type: ignore[operator]
            if made[0] == operation:
                raise StorageUnavailable("the process has ended")
            return made

        return await write(self, tag, checked, type_)  # type: ignore[arg-type]

    monkeypatch.setattr(Batches, "write", failing)


@pytest.mark.parametrize("step", ["receive", "sent"])
async def test_a_dead_letter_to_another_tag_comes_once_whatever_step_its_process_ends_at(
    storage: Storage,
    other: Storage,
    queue: QueueRef,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    rule = DeadLetter(elsewhere(storage, queue), 1, None)
    await storage.queues.create(rule.queue, metadata={}, now=START)
    await post(storage, queue, bodies=["poison"])
    await hold(storage, queue, ttl=1, dead_letter=rule)
    with monkeypatch.context() as patch:
        ends_before(patch, step)
        assert await claim(storage, queue, now=after(1), dead_letter=rule) is None

    await other.sweep(now=after(1), limit=100)
    await storage.sweep(now=after(1), limit=100)

    assert await everything(other, queue, now=after(1)) == []
    assert bodies(await page(other, rule.queue, now=after(1))) == ["poison"]


@pytest.mark.parametrize("step", ["receive", "sent"])
async def test_a_job_for_an_outbox_of_another_tag_comes_once(
    storage: Storage,
    other: Storage,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    queue = elsewhere(storage, QueueRef(f"project-{new_id()}", "any"), than=OUTBOX)
    await subscribe(storage, queue)
    with monkeypatch.context() as patch:
        ends_before(patch, step)
        posted = await post(storage, queue, bodies=["a"])

    await other.sweep(now=START, limit=100)
    await storage.sweep(now=START, limit=100)

    assert posted.owes_deliveries
    assert len(await everything(other, OUTBOX)) == 1
