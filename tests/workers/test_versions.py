"""Records of a later release are left to that release."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from tests.api.conftest import CountingDoorbell
from tests.kinds import KINDS
from tests.workers.office import OUTBOX, QUEUE, REFUSED, RETRY, Office
from zaqar_notify.delivery import (
    InternalPost,
    outgoing_messages,
    records,
    say_written_later,
    undelivered_record,
)
from zaqar_notify.delivery.poison import MIN_POISON_CLAIMS
from zaqar_notify.models import NewMessage, QueueRef
from zaqar_notify.service import Service
from zaqar_notify.settings import Settings
from zaqar_notify.storage.internal import POISON_REF, later_ref, undelivered_ref
from zaqar_notify.subscriptions import undelivered

LATER = records.VERSION + 1
LONG_LEASES = Settings(delivery_lease_seconds=60)
"""With these a job is put aside after ten claims."""


@pytest.fixture(autouse=True)
def _nothing_was_said_before() -> Iterator[None]:
    say_written_later.cache_clear()
    yield
    say_written_later.cache_clear()


def of_later_version(body: bytes, **changes: object) -> bytes:
    return json.dumps({**json.loads(body), "version": LATER, **changes}).encode()


async def put(office: Office, ref: QueueRef, *bodies: bytes) -> None:
    messages = [NewMessage(body=body, ttl=3600) for body in bodies]
    await office.storage.post(ref, InternalPost(messages), now=office.clock.now())


async def later_job(office: Office, **changes: object) -> bytes:
    """The job of a post as the next release would write it, in place of ours."""
    await office.post(b'"a"')
    [job] = await office.all_in(OUTBOX)
    now = office.clock.now()
    await office.storage.messages.delete_many(OUTBOX, [job.id], claim_ids=None, now=now)
    return of_later_version(job.body, **changes)


@pytest.mark.parametrize(
    "changes", [{}, {"messages": {"in": "another form"}}, {"job": "of another kind"}]
)
async def test_a_job_of_a_later_version_is_put_aside_as_it_is_and_never_counted(
    office: Office, changes: dict[str, object]
) -> None:
    await office.subscribe("http://receiver")
    job = await later_job(office, **changes)
    await put(office, OUTBOX, job)
    await put(office, RETRY, job)

    office.settings = LONG_LEASES
    for _ in range(MIN_POISON_CLAIMS + 1):
        await office.work_off()
        office.clock.advance(seconds=office.settings.delivery_lease_seconds)

    assert [message.body for message in await office.all_in(later_ref(LATER))] == [job, job]
    assert {message.claim_count for message in await office.all_in(later_ref(LATER))} == {0}
    assert await office.all_in(POISON_REF) == []
    assert office.sink.deliveries == []


async def test_others_jobs_go_on_beside_it(office: Office) -> None:
    await office.subscribe("http://receiver")
    await put(office, OUTBOX, await later_job(office))
    await office.post(b'"b"')

    await office.work_off()

    assert office.sink.bodies("http://receiver") == [b'"b"']


async def test_it_is_said_once(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    await office.subscribe("http://receiver")
    job = await later_job(office)
    await put(office, OUTBOX, job, job, job)

    with caplog.at_level(logging.WARNING):
        await office.work_off()
        await put(office, OUTBOX, job)
        await office.work_off()

    said = [record.__dict__["version"] for record in caplog.records]
    assert said == [LATER]


async def test_a_worker_of_that_release_delivers_it(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    await office.subscribe("http://receiver")
    await put(office, OUTBOX, await later_job(office))
    await office.work_off()
    assert office.sink.deliveries == []
    monkeypatch.setattr(records, "VERSION", LATER)

    async with office.open():
        await office.sink.received(1)

    assert office.sink.bodies("http://receiver") == [b'"a"']
    assert await office.all_in(later_ref(LATER)) == []


async def test_a_record_of_a_later_version_hides_no_other_undelivered_message(
    office: Office,
) -> None:
    subscription = await office.subscribe("http://receiver")
    await office.post(b'"a"')
    [job] = await office.owed_jobs()
    [parcel] = outgoing_messages(job)
    now = office.clock.now()
    _, given_up = undelivered_record(parcel, subscription, outcome=REFUSED, attempts=1, now=now)
    await put(
        office,
        undelivered_ref(subscription.id),
        of_later_version(given_up.body, attempts="one"),
        of_later_version(given_up.body, and_more=True),
        given_up.body,
    )
    service = Service(office.storage, office.settings, office.clock, CountingDoorbell(), KINDS)

    shown = await undelivered(service, QUEUE, subscription.id, marker=None, limit=None)

    assert [(each.record.version, each.record.attempts) for each in shown] == [(LATER, 1), (1, 1)]
