"""The delivery log on every store: pages, markers, filters, and tenants that don't see one another."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from msgspec.structs import replace

from tests.clock import START, ManualClock
from tests.contract.steps import subscribe
from tests.delivery_logs import FAILED, write
from tests.kinds import KINDS
from workers.delivery_counts import DeliveryCounts
from workers.doorbell import LocalDoorbell
from zaqar_notify import subscriptions
from zaqar_notify.clock import new_id
from zaqar_notify.delivery.attempts import GROUP_ATTEMPTS, Attempt
from zaqar_notify.models import QueueRef, Verdict
from zaqar_notify.service import Service
from zaqar_notify.settings import Settings
from zaqar_notify.storage.planes import Storage
from zaqar_notify.subscriptions import Wanted, Where
from zaqar_notify.subscriptions import log as reading
from zaqar_notify.subscriptions.deliveries import AttemptPage

ALL = Wanted()


@pytest.fixture
def service(storage: Storage, clock: ManualClock) -> Service:
    return Service(storage, Settings(), clock, LocalDoorbell(), KINDS)


def numbered(count: int) -> list[Attempt]:
    return [
        replace(FAILED, message_id=f"m{number}", at=START + timedelta(seconds=number))
        for number in range(count)
    ]


async def look(
    service: Service,
    where: Where,
    wanted: Wanted = ALL,
    *,
    marker: str | None = None,
    limit: int = 20,
) -> AttemptPage:
    return await subscriptions.attempts(service, where, wanted, marker=marker, limit=limit)


async def every_page(service: Service, where: Where, *, limit: int = 3) -> list[str]:
    """The messages of all pages."""
    found: list[str] = []
    marker: str | None = None
    while True:
        page = await look(service, where, marker=marker, limit=limit)
        found += messages(page)
        marker = page.marker
        if marker is None:
            return found


def messages(page: AttemptPage) -> Sequence[str]:
    return [each.attempt.message_id for each in page.attempts]


async def test_pages_follow_one_another_without_gap_over_records_and_subscriptions(
    service: Service, queue: QueueRef, other_queue: QueueRef
) -> None:
    first = await subscribe(service.storage, queue, "http://a")
    silent = await subscribe(service.storage, queue, "http://silent")
    other = await subscribe(service.storage, other_queue, "http://b")
    attempts = numbered(GROUP_ATTEMPTS + 5)
    await write(service, first, *attempts)
    await write(service, other, *attempts[:2])

    found = await every_page(service, Where(queue.project))

    of_first = [each.message_id for each in attempts]
    assert found == [*of_first[:2], *of_first]  # "invoices" comes before "orders".
    assert await every_page(service, Where(queue.project, queue.name)) == of_first
    assert await every_page(service, Where(queue.project, queue.name, silent.id)) == []


async def test_a_marker_follows_a_subscription_s_log(service: Service, queue: QueueRef) -> None:
    subscription = await subscribe(service.storage, queue, "http://a")
    where = Where(queue.project, queue.name, subscription.id)
    before, after = numbered(2)
    await write(service, subscription, before)
    marker = (await look(service, where)).marker

    assert messages(await look(service, where, marker=marker)) == []
    await write(service, subscription, after)

    assert messages(await look(service, where, marker=marker)) == [after.message_id]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Wanted(message_id="m1"), ["m1"]),
        (Wanted(verdicts=(Verdict.DELIVERED,)), ["m3"]),
        (Wanted(since=START + timedelta(seconds=2)), ["m2", "m3"]),
        (Wanted(until=START + timedelta(seconds=1)), ["m0"]),
        (Wanted(delivery_id="msg_0"), []),
    ],
)
async def test_a_page_has_what_is_asked_for(
    service: Service, queue: QueueRef, wanted: Wanted, found: list[str]
) -> None:
    subscription = await subscribe(service.storage, queue, "http://a")
    attempts = numbered(3)
    delivered = replace(
        FAILED, message_id="m3", verdict=Verdict.DELIVERED, at=START + timedelta(seconds=3)
    )
    await write(service, subscription, *attempts, delivered)

    assert messages(await look(service, Where(queue.project), wanted)) == found


async def test_a_request_looks_at_a_bounded_number_of_logs_and_says_where_to_go_on(
    service: Service, queue: QueueRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "LOGS_AT_ONCE", 2)
    made = [await subscribe(service.storage, queue, f"http://{each}") for each in "abcde"]
    await write(service, made[-1], FAILED)

    page = await look(service, Where(queue.project))

    assert (page.attempts, page.marker is not None) == ([], True)
    assert await every_page(service, Where(queue.project)) == ["m1"]


async def test_no_project_sees_another_s_log_whatever_it_names(
    service: Service, queue: QueueRef
) -> None:
    subscription = await subscribe(service.storage, queue, "http://a")
    await write(service, subscription, *numbered(2))
    marker = (await look(service, Where(queue.project), limit=1)).marker
    own = QueueRef(f"project-{new_id()}", queue.name)
    await subscribe(service.storage, own, "http://a")

    for where in (
        Where(own.project),
        Where(own.project, own.name),
        Where(own.project, subscription_id=subscription.id),
        Where(own.project, own.name, subscription.id),
    ):
        for named in (None, marker):
            assert messages(await look(service, where, marker=named)) == []


async def test_the_deliveries_of_a_message_are_one_for_each_subscription(
    service: Service, queue: QueueRef
) -> None:
    made = [await subscribe(service.storage, queue, f"http://{each}") for each in "abc"]
    for number, subscription in enumerate(made[:2]):
        await write(service, subscription, replace(FAILED, delivery_id=f"msg_{number}"))

    first = await subscriptions.deliveries_of_message(service, queue, "m1", marker=None, limit=1)
    second = await subscriptions.deliveries_of_message(
        service, queue, "m1", marker=first.marker, limit=10
    )

    assert [each.id for each in first.deliveries] == ["msg_0"]
    assert [each.id for each in second.deliveries] == ["msg_1"]
    assert [each.attempt.status for each in second.deliveries[0].attempts] == [503]


async def test_numbers_of_several_processes_are_added_whatever_was_written_twice(
    service: Service, queue: QueueRef
) -> None:
    subscription = await subscribe(service.storage, queue, "http://a")
    for delivered in (1, 2):
        counts = DeliveryCounts(service.storage, clock=service.clock, keep_seconds=3600)
        counts.of(subscription).delivered = delivered
        [tally] = counts.all_changed()
        await counts.write(tally)
        tally.written_id = None  # As if the answer of the store had been lost.
        counts.of(subscription).delivered += 10
        await counts.write(tally)

    found = await subscriptions.statistics(service, queue, subscription.id)

    assert found.delivered == 23
    assert found.since == _now(service)


def _now(service: Service) -> datetime:
    return service.clock.host_now()
