"""One engine works off what is owed on several message stores; each job stays on its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.workers.office import GONE, OUTBOX, QUEUE, Office, always, until_stored
from zaqar_notify.delivery import InternalPost, fan_out_jobs, replay_job
from zaqar_notify.models import NewMessage, QueueRef
from zaqar_notify.storage.base import MessageStore
from zaqar_notify.storage.internal import DEFAULT_POOL, Partition, held_ref, outbox_ref
from zaqar_notify.storage.registry import open_storage

OTHER = Partition("other", 0)


@pytest.fixture
async def other(office: Office, tmp_path: Path) -> AsyncIterator[MessageStore]:
    """The message store of a second pool."""
    storage = await open_storage(f"sqlite:///{tmp_path}/other.db")
    office.storage.pools = {DEFAULT_POOL: office.storage.store, OTHER.pool: storage.store}
    yield storage.store
    await storage.close()


async def owe(office: Office, store: MessageStore, ref: QueueRef, message: NewMessage) -> None:
    await store.messages.post(ref, InternalPost([message]), now=office.clock.now())


async def nothing_is_on(office: Office, store: MessageStore, ref: QueueRef) -> bool:
    return (await store.messages.stats(ref, now=office.clock.now())).total == 0


async def test_an_engine_takes_jobs_of_all_pools(office: Office, other: MessageStore) -> None:
    await office.subscribe("http://receiver")
    message = NewMessage(body=b'"other"', ttl=3600)
    [(ref, job)] = fan_out_jobs(QUEUE, ["1"], [message], settings=office.settings)
    await owe(office, other, ref, job)
    await office.post(b'"default"')

    async with office.open():
        await office.sink.received(2)
        await until_stored(lambda: nothing_is_on(office, other, outbox_ref(OTHER)))

    assert sorted(office.sink.bodies("http://receiver")) == [b'"default"', b'"other"']
    assert await office.all_in(OUTBOX) == []


async def test_a_replay_delivers_what_is_held_in_its_own_pool(
    office: Office, other: MessageStore
) -> None:
    subscription = await office.subscribe("http://receiver")
    office.sink.answers["http://receiver"] = always(GONE)
    await office.post(b'"held"')
    await office.work_off()
    [held] = await office.all_in(held_ref(subscription.id))
    await office.storage.heads.drop_internal([held_ref(subscription.id)])
    await owe(office, other, held_ref(subscription.id), NewMessage(held.body, ttl=held.ttl))

    del office.sink.answers["http://receiver"]
    await office.storage.subscriptions.update(
        QUEUE,
        subscription.id,
        lambda present: replace(present, disabled_at=None),
        now=office.clock.now(),
    )
    _, job = replay_job(subscription, office.settings)
    await owe(office, other, outbox_ref(OTHER), job)

    async with office.open():
        await office.sink.received(2)
        await until_stored(lambda: nothing_is_on(office, other, outbox_ref(OTHER)))

    assert office.sink.bodies("http://receiver") == [b'"held"', b'"held"']
    assert await nothing_is_on(office, other, held_ref(subscription.id))
