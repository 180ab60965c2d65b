"""Deliveries and the quotas of their project."""

from __future__ import annotations

from sinks.queue import OURS_PAUSE_SECONDS
from tests.clock import ManualClock
from tests.workers.office import QUEUE, Hanging, Office
from tests.workers.test_queue_loops import relaying
from zaqar_notify.models import QueueRef
from zaqar_notify.settings import Settings

BODY = b'"' + b"x" * 98 + b'"'
COPIES = QueueRef(QUEUE.project, "copies")


async def test_a_project_has_no_more_deliveries_under_way_than_its_quota(office: Office) -> None:
    office.settings = Settings(quota_deliveries=3)
    hanging = Hanging()
    for number in range(6):
        subscriber = f"http://example.com/{number}"
        office.sink.answers[subscriber] = hanging
        await office.subscribe(subscriber)

    async with office.open():
        await office.post(b"1", b"2")
        await office.sink.received(3)
        hanging.let_go.set()
        await office.sink.received(12)
        await office.settled()

    assert office.sink.most_under_way == 3


async def test_a_quota_of_the_project_s_own_is_obeyed(office: Office) -> None:
    await office.storage.control.quotas.change(QUEUE.project, {"deliveries": 1})
    for number in range(6):
        await office.subscribe(f"http://example.com/{number}")

    async with office.open():
        await office.post(b"1", b"2")
        await office.sink.received(12)
        await office.settled()

    assert office.sink.most_under_way == 1


async def test_a_copy_for_a_queue_waits_while_its_project_has_no_room_and_is_not_lost(
    office: Office, clock: ManualClock
) -> None:
    office.settings = Settings(quota_stored_bytes=250)
    subscription = await office.subscribe(f"queue:{COPIES.name}")

    async with relaying(office, clock):
        posted = await office.post(BODY, BODY)
        await office.settled()
        copied = len(await office.all_in(COPIES))
        waiting = await office.owed_deliveries()

    await office.storage.messages.delete_many(QUEUE, posted, claim_ids=None, now=clock.now())
    clock.advance(seconds=OURS_PAUSE_SECONDS)
    async with relaying(office, clock):
        await office.settled()

    assert copied == 0
    assert [each.attempt for each in waiting] == [1, 1]
    assert len(await office.all_in(COPIES)) == 2
    assert await office.undelivered(subscription) == []
