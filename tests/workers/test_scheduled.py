"""Subscribers get a message that was posted for an instant to come at that instant."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from tests.workers.office import OUTBOX, QUEUE, Office
from tests.workers.test_cancelling import RECEIVER, WAYS, Way
from zaqar_notify.delivery import InternalPost
from zaqar_notify.delivery.poison import give_back, put_aside
from zaqar_notify.models import NewMessage
from zaqar_notify.storage.internal import POISON_REF

MONTHS = 200 * 86400


def later(office: Office) -> datetime:
    return office.clock.now() + timedelta(seconds=MONTHS)


async def test_it_is_delivered_at_its_instant_and_not_before(office: Office) -> None:
    await office.subscribe(RECEIVER, ttl=2 * MONTHS)
    await office.post(b'"later"', not_before=later(office))
    await office.post(b'"now"')

    office.clock.advance(seconds=MONTHS - 0.001)
    await office.work_off()
    early = office.sink.bodies(RECEIVER)
    office.clock.advance(seconds=0.001)
    await office.work_off()

    assert early == [b'"now"']
    assert office.sink.bodies(RECEIVER) == [b'"now"', b'"later"']
    assert await office.all_in(OUTBOX) == []


async def test_those_get_it_that_are_subscribed_at_its_instant(office: Office) -> None:
    gone = await office.subscribe("http://gone", ttl=MONTHS // 2)
    await office.post(b'"later"', not_before=later(office))
    office.clock.advance(seconds=MONTHS - 60)
    await office.subscribe(RECEIVER)

    office.clock.advance(seconds=60)
    await office.subscribe("http://too-late")
    office.clock.advance(seconds=60)
    await office.work_off()

    assert office.sink.bodies(RECEIVER) == [b'"later"']
    assert office.sink.bodies(gone.subscriber) == []


async def test_it_comes_later_although_delayed_messages_notify_at_once(office: Office) -> None:
    office.settings = office.settings.model_copy(update={"notify_delayed_at_once": True})
    await office.subscribe(RECEIVER, ttl=2 * MONTHS)
    await office.post(b'"later"', not_before=later(office))

    await office.work_off()

    assert office.sink.deliveries == []


@pytest.mark.parametrize("remove", WAYS)
async def test_a_message_removed_before_its_instant_is_not_notified(
    office: Office, remove: Way
) -> None:
    await office.subscribe(RECEIVER, ttl=2 * MONTHS)
    ids = await office.post(b'"a"', b'"b"', not_before=later(office))
    office.clock.advance(seconds=MONTHS - 0.001)

    await remove(office, ids)
    office.clock.advance(seconds=3600)
    await office.work_off()

    assert office.sink.deliveries == []
    assert await office.all_in(OUTBOX) == []


async def test_a_job_that_was_put_aside_still_knows_what_a_purge_cancelled(office: Office) -> None:
    await office.subscribe(RECEIVER, ttl=2 * MONTHS)
    await office.post(b'"a"', not_before=later(office))
    [job] = await office.all_in(OUTBOX)
    now = office.clock.now()
    await office.storage.messages.purge(QUEUE, now=now)
    await office.storage.messages.delete_many(OUTBOX, [job.id], claim_ids=None, now=now)
    await office.storage.post(
        POISON_REF, InternalPost([NewMessage(body=job.body, ttl=2 * MONTHS)]), now=now
    )
    office.clock.advance(seconds=MONTHS + 1)
    now = office.clock.now()
    async for what, message in put_aside(office.storage.store, job=None, now=now):
        await give_back(office.storage.store, what, message, settings=office.settings, now=now)

    await office.work_off()

    assert office.sink.deliveries == []
