"""A delayed message that is deleted before it is due is not delivered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tests.workers.office import OUTBOX, QUEUE, Office
from zaqar_notify.delivery import InternalPost
from zaqar_notify.delivery.poison import give_back, put_aside
from zaqar_notify.models import NewMessage
from zaqar_notify.storage.internal import POISON_REF

DELAY = 60
RECEIVER = "http://receiver"


async def delete_all_ids(office: Office, ids: list[str]) -> None:
    for message_id in ids:
        await office.storage.messages.delete(
            QUEUE, message_id, claim_id=None, now=office.clock.now()
        )


async def delete_many(office: Office, ids: list[str]) -> None:
    now = office.clock.now()
    await office.storage.messages.delete_many(QUEUE, ids, claim_ids=None, now=now)


async def purge(office: Office, _ids: list[str]) -> None:
    await office.storage.messages.purge(QUEUE, now=office.clock.now())


async def delete_queue(office: Office, _ids: list[str]) -> None:
    await office.storage.queues.delete(QUEUE, now=office.clock.now())


WAYS = [delete_all_ids, delete_many, purge, delete_queue]
Way = Callable[[Office, list[str]], Awaitable[None]]


@pytest.mark.parametrize("remove", WAYS)
async def test_a_message_removed_before_it_was_due_is_not_notified(
    office: Office, remove: Way
) -> None:
    await office.subscribe(RECEIVER)
    ids = await office.post(b'"a"', b'"b"', delay=DELAY)
    office.clock.advance(seconds=DELAY - 0.001)

    await remove(office, ids)
    office.clock.advance(seconds=3600)
    await office.work_off()

    assert office.sink.deliveries == []
    assert await office.all_in(OUTBOX) == []


@pytest.mark.parametrize("remove", WAYS)
async def test_a_message_due_before_its_removal_is_delivered_though_no_worker_came_in_time(
    office: Office, remove: Way
) -> None:
    await office.subscribe(RECEIVER)
    ids = await office.post(b'"a"', b'"b"', delay=DELAY)
    office.clock.advance(seconds=DELAY)

    await remove(office, ids)
    office.clock.advance(seconds=3600)
    await office.work_off()

    assert office.sink.bodies(RECEIVER) == [b'"a"', b'"b"']


async def test_the_others_of_the_same_post_are_delivered(office: Office) -> None:
    await office.subscribe(RECEIVER)
    _, removed, _ = await office.post(b'"a"', b'"b"', b'"c"', delay=DELAY)
    await delete_all_ids(office, [removed])
    await office.post(b'"d"')

    office.clock.advance(seconds=DELAY)
    await office.work_off()

    assert sorted(office.sink.bodies(RECEIVER)) == [b'"a"', b'"c"', b'"d"']


async def test_a_poller_that_takes_it_when_it_is_due_cancels_nothing(office: Office) -> None:
    await office.subscribe(RECEIVER)
    await office.post(b'"a"', delay=DELAY)
    office.clock.advance(seconds=DELAY)
    assert await office.storage.messages.pop(QUEUE, limit=1, now=office.clock.now())

    await office.work_off()

    assert office.sink.bodies(RECEIVER) == [b'"a"']


async def test_a_job_that_was_put_aside_and_given_back_is_delivered_but_for_what_was_deleted(
    office: Office,
) -> None:
    await office.subscribe(RECEIVER)
    kept, removed = await office.post(b'"a"', b'"b"', delay=DELAY)
    await delete_all_ids(office, [removed])
    [job] = await office.all_in(OUTBOX)
    now = office.clock.now()
    await office.storage.messages.delete_many(OUTBOX, [job.id], claim_ids=None, now=now)
    await office.storage.post(
        POISON_REF, InternalPost([NewMessage(body=job.body, ttl=3600)]), now=now
    )
    office.clock.advance(seconds=DELAY + 1)
    now = office.clock.now()
    async for what, message in put_aside(office.storage.store, job=None, now=now):
        await give_back(office.storage.store, what, message, settings=office.settings, now=now)
    await office.storage.messages.purge(QUEUE, now=now)

    await office.work_off()

    assert [each.message_id for each in office.sink.to(RECEIVER)] == [kept]
