"""A paused subscription: what is owed is held, and delivered in order when it is resumed."""

from __future__ import annotations

import asyncio
import json

import pytest
from msgspec.structs import replace

from tests.kinds import KINDS
from tests.workers.office import (
    DELIVERED,
    GONE,
    OUTBOX,
    QUEUE,
    TRY_LATER,
    Hanging,
    Office,
    always,
    until,
    until_stored,
)
from workers.disabling import Disabling
from workers.doorbell import LocalDoorbell
from zaqar_notify import subscriptions
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import DisabledReason, JsonObject, QueueRef, Subscription
from zaqar_notify.service import Service
from zaqar_notify.settings import Settings
from zaqar_notify.storage.internal import held_ref, parked_ref

HOOK = "http://hook"
OTHER = "http://other"
DAY = 86400
NOTIFY = Disabling._notify
PATIENT: JsonObject = {
    "_retry_policy": {
        "retries_with_no_delay": 0,
        "minimum_delay_retries": 10,
        "minimum_delay": 60,
        "maximum_delay": 120,
    }
}


@pytest.fixture(autouse=True)
def _engines_look_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of these tests does not tell the engine that it went on."""
    monkeypatch.setattr("workers.engine.LOOK_SECONDS", 0.02)
    monkeypatch.setattr("workers.replay_jobs.LOOK_SECONDS", 0.01)


@pytest.fixture
def office(office: Office) -> Office:
    office.settings = Settings(
        delivery_breaker_failures=3, delivery_concurrency_per_endpoint=1, retry_jitter=0
    )
    return office


def service(office: Office) -> Service:
    return Service(office.storage, office.settings, office.clock, LocalDoorbell(), KINDS)


async def pause(office: Office, subscription: Subscription) -> None:
    await subscriptions.pause(service(office), QUEUE, subscription.id)


async def resume(office: Office, subscription: Subscription) -> None:
    await subscriptions.resume(service(office), QUEUE, subscription.id)


async def current(office: Office, subscription: Subscription) -> Subscription:
    found = await office.storage.subscriptions.get(QUEUE, subscription.id, now=office.clock.now())
    assert found is not None
    return found


async def held(office: Office, subscription: Subscription) -> int:
    return len(await office.all_in(held_ref(subscription.id)))


async def delivered(office: Office, count: int) -> list[bytes]:
    """The bodies that were received, once there are so many."""
    await until(lambda: len(office.sink.deliveries) >= count)
    return office.sink.bodies(HOOK)


@pytest.mark.parametrize("options", [{}, {"_ordered": True}], ids=["plain", "ordered"])
async def test_deliveries_of_a_pause_are_made_in_order_and_before_later_ones(
    office: Office, options: JsonObject
) -> None:
    subscription = await office.subscribe(HOOK, options=options)
    await pause(office, subscription)
    async with office.open():
        for number in range(40):
            await office.post(b"%d" % number)
        await office.settled()
        assert office.sink.deliveries == []
        waiting = await subscriptions.waiting(service(office), await current(office, subscription))
        assert waiting == 40

        await resume(office, subscription)
        for number in range(40, 60):
            await office.post(b"%d" % number)

        assert await delivered(office, 60) == [b"%d" % number for number in range(60)]
        await office.settled()
    assert await held(office, subscription) == 0
    assert (await current(office, subscription)).replay_id is None


async def test_parked_deliveries_of_before_a_pause_come_first_and_begin_anew(
    office: Office,
) -> None:
    subscription = await office.subscribe(HOOK, options=PATIENT, ttl=100 * DAY)
    office.sink.answers[HOOK] = always(TRY_LATER)
    async with office.open():
        for number in range(10):
            await office.post(b"%d" % number)
        await office.settled()
        assert len(await office.all_in(parked_ref(subscription.id))) > 2
    await pause(office, subscription)
    tried = len(office.sink.deliveries)
    # Longer than a delivery may be owed: what was parked must not be given up for it.
    office.clock.advance(seconds=10 * DAY)
    async with office.open():
        await office.post(b"10")
        await office.settled()
        assert len(office.sink.deliveries) == tried
        del office.sink.answers[HOOK]

        office.clock.advance(seconds=1)
        await resume(office, subscription)
        office.clock.advance(seconds=1)
        await office.post(b"11")
        bodies = (await delivered(office, tried + 12))[tried:]
        await office.settled()

    assert sorted(bodies, key=int) == [b"%d" % number for number in range(12)]
    assert bodies[-1] == b"11"
    assert await office.undelivered(subscription) == []


async def test_a_retry_that_falls_due_in_a_pause_is_held(office: Office) -> None:
    subscription = await office.subscribe(HOOK, options=PATIENT)
    office.sink.answers[HOOK] = always(TRY_LATER)
    await office.post(b"1")
    await office.work_off()
    await pause(office, subscription)

    office.clock.advance(seconds=61)
    await office.work_off()

    assert len(office.sink.deliveries) == 1
    assert await held(office, subscription) == 1


async def test_a_pause_stops_a_batch_that_is_under_way(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.attempts.BELIEVED_SECONDS", -1)
    subscription = await office.subscribe(HOOK)
    hanging = Hanging()
    office.sink.answers[HOOK] = hanging
    await office.post(b"1", b"2", b"3")
    async with office.open():
        await office.sink.received(1)
        await pause(office, subscription)
        hanging.let_go.set()
        await office.settled()

    assert office.sink.bodies(HOOK) == [b"1"]
    assert await held(office, subscription) == 2


@pytest.mark.parametrize("pace", [{"_ordered": True}, {"_max_in_flight": 1}], ids=str)
@pytest.mark.parametrize("becomes", [{}, None], ids=["no pace", "the same pace"])
async def test_a_request_that_a_short_pause_finds_under_way_is_made_once(
    office: Office, monkeypatch: pytest.MonkeyPatch, pace: JsonObject, becomes: JsonObject | None
) -> None:
    monkeypatch.setattr("workers.pacing.round.LOOK_SECONDS", 0.02)
    subscription = await office.subscribe(HOOK, options=pace)
    await office.subscribe(OTHER)
    hanging = office.sink.answers[HOOK] = Hanging()
    async with office.open():
        await office.post(b"1", b"2")
        await office.sink.received(3)
        await pause(office, subscription)
        await until_stored(lambda: is_let_go(office, subscription))
        if becomes is not None:
            await subscriptions.change(
                service(office),
                QUEUE,
                subscription.id,
                options=becomes,
                confirm_at=lambda _: "",
            )
        await resume(office, subscription)
        await office.post(b"3")
        await until(lambda: len(office.sink.to(OTHER)) == 3)
        hanging.let_go.set()
        await office.settled()
        await until(lambda: len(office.sink.to(HOOK)) >= 3)

    assert sorted(office.sink.bodies(HOOK)) == [b"1", b"2", b"3"]
    assert office.sink.most_under_way_to[HOOK] == 1


async def is_let_go(office: Office, subscription: Subscription) -> bool:
    """Whether the job that delivers for the subscription has seen the pause."""
    return (await current(office, subscription)).replay_id is None


async def test_deliveries_of_a_batch_are_dropped_aloud_once_their_subscription_is_deleted(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.attempts.BELIEVED_SECONDS", -1)
    subscription = await office.subscribe(HOOK)
    hanging = Hanging()
    office.sink.answers[HOOK] = hanging
    await office.post(b"1", b"2", b"3")
    async with office.open():
        await office.sink.received(1)
        await office.storage.subscriptions.delete(QUEUE, subscription.id)
        hanging.let_go.set()
        await office.settled()

    assert office.sink.bodies(HOOK) == [b"1"]
    assert office.counts.dropped["gone"] == 2


async def test_a_replay_waits_for_the_request_that_ordered_it(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscription = await office.subscribe(HOOK)
    await pause(office, subscription)
    await office.post(b"1")
    await office.work_off()
    update, may_update = office.storage.subscriptions.update, asyncio.Event()

    async def slow(*args, **kwargs):  # type: ignore[no-untyped-def]
        await may_update.wait()
        return await update(*args, **kwargs)

    monkeypatch.setattr(office.storage.subscriptions, "update", slow)
    async with office.open():
        resuming = asyncio.create_task(resume(office, subscription))
        await office.settled()
        may_update.set()
        await resuming
        office.clock.advance(seconds=1)

        assert await delivered(office, 1) == [b"1"]


async def test_a_replay_whose_request_broke_off_ends_and_the_pause_goes_on(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscription = await office.subscribe(HOOK)
    await pause(office, subscription)
    with monkeypatch.context() as patch:
        patch.setattr(office.storage.subscriptions, "update", _dies)
        with pytest.raises(StorageUnavailable):
            await resume(office, subscription)
    await office.post(b"1")
    async with office.open():
        for _ in range(4):
            await office.settled()
            office.clock.advance(seconds=20)
        await until_stored(lambda: _nothing_in_outbox(office))
    assert await held(office, subscription) == 1

    await resume(office, subscription)
    await office.work_off()

    assert await delivered(office, 1) == [b"1"]


async def _dies(*_: object, **__: object) -> None:
    raise StorageUnavailable("the process died")


async def _notify_and_die(self: Disabling, subscription: Subscription) -> None:
    await NOTIFY(self, subscription)
    raise RuntimeError("killed")


async def _has_notice(office: Office) -> bool:
    return any(b"subscription.disabled" in job.body for job in await office.all_in(OUTBOX))


async def _nothing_in_outbox(office: Office) -> bool:
    return await office.all_in(OUTBOX) == []


async def test_a_subscription_that_only_fails_is_disabled_whichever_workers_see_it(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    subscription = await office.subscribe(HOOK, options=PATIENT)
    office.sink.answers[HOOK] = always(TRY_LATER)
    office.settings = Settings(disable_after_failing_seconds=120, retry_jitter=0)
    await office.post(b"1")

    for _ in range(4):  # Each with an engine that knows nothing of the others.
        await office.work_off()
        office.clock.advance(seconds=61)
    await office.work_off()

    now_disabled = await current(office, subscription)
    assert now_disabled.disabled_reason is DisabledReason.FAILING
    assert "every attempt has failed since" in now_disabled.disabled_detail
    assert await held(office, subscription) == 1
    told = [each for each in caplog.records if each.action == "subscription_disabled"]  # type: ignore[attr-defined]
    assert len(told) == 1


@pytest.mark.parametrize("where", ["option", "metadata"])
async def test_the_queue_that_the_project_names_is_told_once_that_a_subscription_is_disabled(
    office: Office, where: str
) -> None:
    key = {"_notify_of_disabling": "notices"}
    await office.storage.queues.create(
        QUEUE, metadata=key if where == "metadata" else {}, now=office.clock.now()
    )
    subscription = await office.subscribe(HOOK, options=key if where == "option" else {})
    office.sink.answers[HOOK] = always(GONE)
    async with office.open():
        await office.post(b"1")
        await office.post(b"2")
        await office.settled()

    [notice] = await office.all_in(QueueRef(QUEUE.project, "notices"))

    said = json.loads(notice.body)
    assert (said["event"], said["subscription_id"]) == ("subscription.disabled", subscription.id)
    assert (said["reason"], said["subscriber"]) == ("gone", "http://hook")


async def test_a_notice_of_what_never_came_about_is_dropped(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    key: JsonObject = {"_notify_of_disabling": "notices"}
    await office.subscribe(HOOK, options=key)
    office.sink.answers[HOOK] = always(GONE)
    await office.post(b"1")
    async with office.open():
        with monkeypatch.context() as patch:
            patch.setattr(Disabling, "_notify", _notify_and_die)
            await until(lambda: len(office.sink.deliveries) == 1)
            await until_stored(lambda: _has_notice(office))
        office.sink.answers[HOOK] = always(DELIVERED)
        for _ in range(5):
            office.clock.advance(seconds=20)
            await office.settled()

    assert await office.all_in(QueueRef(QUEUE.project, "notices")) == []


async def test_one_success_of_any_worker_begins_the_count_of_failures_anew(
    office: Office,
) -> None:
    subscription = await office.subscribe(HOOK, options=PATIENT)
    office.settings = Settings(disable_after_failing_seconds=120, retry_jitter=0)
    office.sink.answers[HOOK] = always(TRY_LATER)
    await office.post(b"1")
    await office.work_off()
    office.clock.advance(seconds=61)
    await office.work_off()
    assert (await current(office, subscription)).failing_since is not None

    office.sink.answers[HOOK] = always(DELIVERED)
    office.clock.advance(seconds=61)
    await office.work_off()

    assert (await current(office, subscription)).failing_since is None


async def test_a_success_of_another_worker_in_the_last_moment_counts(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscription = await office.subscribe(HOOK, options=PATIENT)
    office.sink.answers[HOOK] = always(TRY_LATER)
    office.settings = Settings(disable_after_failing_seconds=120, retry_jitter=0)
    successes: list[Subscription] = []

    async def succeed_elsewhere(_: Disabling, read: Subscription) -> None:
        successes.append(read)
        await office.storage.subscriptions.update(
            QUEUE, read.id, lambda one: replace(one, failing_since=None), now=office.clock.now()
        )

    monkeypatch.setattr(Disabling, "_notify", succeed_elsewhere)
    await office.post(b"1")
    for _ in range(5):
        await office.work_off()
        office.clock.advance(seconds=61)

    assert successes
    assert (await current(office, subscription)).disabled_at is None


async def test_a_change_enables_a_disabled_subscription_and_not_a_paused_one(
    office: Office,
) -> None:
    gone, paused = await office.subscribe(HOOK), await office.subscribe("http://other")
    office.sink.answers[HOOK] = always(GONE)
    await office.post(b"1")
    await office.work_off()
    await pause(office, paused)
    assert (await current(office, gone)).disabled_reason is DisabledReason.GONE

    for each in (gone, paused):
        await subscriptions.change(
            service(office), QUEUE, each.id, options={}, confirm_at=lambda _: ""
        )

    assert (await current(office, gone)).disabled_at is None
    assert (await current(office, paused)).is_paused
