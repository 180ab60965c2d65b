"""Leases, a store that gives no answer, and the periodic duties."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import ParamSpec, TypeVar

import pytest

from tests.workers.office import (
    DEADLINE_SECONDS,
    OUTBOX,
    RETRY,
    TRY_LATER,
    Hanging,
    Office,
    always,
    until,
    until_stored,
)
from workers import outages
from workers.outages import Stop
from workers.periodic import SWEEP_ROWS, sweep
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.operations.logs import facts
from zaqar_notify.settings import Settings
from zaqar_notify.storage.planes import Storage

P = ParamSpec("P")
T = TypeVar("T")


def failing_first(operation: Callable[P, Awaitable[T]], times: int) -> Callable[P, Awaitable[T]]:
    left = times

    async def attempt(*args: P.args, **kwargs: P.kwargs) -> T:
        nonlocal left
        if left:
            left -= 1
            raise StorageUnavailable("no answer")
        return await operation(*args, **kwargs)

    return attempt


@pytest.fixture
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "FIRST_PAUSE_SECONDS", 0)


async def lease_end(office: Office) -> datetime | None:
    [job] = await office.all_in(OUTBOX)
    if job.claim_id is None:
        return None
    claim = await office.storage.claims.get(OUTBOX, job.claim_id, now=office.clock.now())
    return None if claim is None else claim.expires_at


async def test_a_lease_is_renewed_while_the_work_runs(office: Office) -> None:
    office.settings = Settings(delivery_lease_seconds=1)
    await office.subscribe("http://slow")
    hanging = office.sink.answers["http://slow"] = Hanging()
    assert isinstance(hanging, Hanging)
    await office.post(b"1")
    started_at = office.clock.now()

    async with office.open():
        await office.sink.received(1)
        office.clock.advance(seconds=0.9)

        async def is_renewed() -> bool:
            return await lease_end(office) == started_at + timedelta(seconds=1.9)

        await until_stored(is_renewed)
        hanging.let_go.set()

    assert len(office.sink.deliveries) == 1


async def test_a_lapsed_lease_repeats_the_job_without_harm(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    await office.subscribe("http://slow")
    first, second = Hanging(), Hanging()
    office.sink.answers["http://slow"] = first
    await office.post(b"1")

    async with office.open() as late:
        await office.sink.received(1)
        office.sink.answers["http://slow"] = second
        office.clock.advance(seconds=office.settings.delivery_lease_seconds)
        async with office.open():
            await office.sink.received(2)
            first.let_go.set()
            await until(lambda: late.in_hand == 0)
            assert len(await office.all_in(OUTBOX)) == 1
            second.let_go.set()

    assert await office.all_in(OUTBOX) == []
    assert "lease_lost" in {record.__dict__["action"] for record in caplog.records}


async def test_what_waits_when_its_lease_lapses_is_not_begun(office: Office) -> None:
    office.settings = Settings(delivery_concurrency=2, delivery_concurrency_per_endpoint=1)
    await office.subscribe("http://slow")
    hanging = office.sink.answers["http://slow"] = Hanging()
    await office.post(b"1")
    await office.post(b"2")

    async with office.open() as late:
        await until(lambda: late.in_hand == 2)
        await office.sink.received(1)
        office.clock.advance(seconds=office.settings.delivery_lease_seconds)
        hanging.let_go.set()
        await until(lambda: late.in_hand == 0)

        assert office.sink.bodies("http://slow") == [b"1"]
        await office.settled()

    assert office.sink.bodies("http://slow") == [b"1", b"1", b"2"]


@pytest.mark.parametrize("bodies", [[b"1"], [b"1", b"2"]])
async def test_what_fails_when_the_lease_has_lapsed_is_not_recorded_and_the_rest_not_tried(
    office: Office, bodies: list[bytes]
) -> None:
    office.settings = Settings(delivery_concurrency=1)
    await office.subscribe("http://ill")
    hanging = office.sink.answers["http://ill"] = Hanging(TRY_LATER)
    await office.post(*bodies)

    async with office.open() as late:
        await office.sink.received(1)
        office.clock.advance(seconds=office.settings.delivery_lease_seconds)
        hanging.let_go.set()
        await until(lambda: late.in_hand == 0)

        assert office.sink.bodies("http://ill") == [b"1"]
        assert office.counts.written.total() == 0


async def test_what_waits_too_long_is_not_put_off_when_its_lease_has_lapsed(
    office: Office,
) -> None:
    office.settings = Settings(delivery_concurrency=2, delivery_concurrency_per_endpoint=1)
    await office.subscribe("http://slow")
    hanging = office.sink.answers["http://slow"] = Hanging()
    await office.post(b"1")
    await office.post(b"2")

    async with office.open() as late:
        await until(lambda: late.in_hand == 2)
        await office.sink.received(1)
        office.clock.advance(seconds=office.settings.delivery_lease_seconds)
        await until(lambda: late.in_hand == 1)

        assert office.counts.written.total() == 0
        hanging.let_go.set()


@pytest.mark.usefixtures("_no_pause")
async def test_what_is_owed_is_recorded_when_the_store_answers_again(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    await office.subscribe("http://ill")
    office.sink.answers["http://ill"] = always(TRY_LATER)
    await office.post(b"1")
    storage = office.storage
    for store, method in (
        (storage.messages, "post"),
        (storage.messages, "delete_many"),
        (storage.claims, "create"),
        (storage.subscriptions, "list"),
        (storage.subscriptions, "get"),
        (storage.queues, "get"),
    ):
        monkeypatch.setattr(store, method, failing_first(getattr(store, method), times=3))

    await office.work_off()

    assert [each.attempt for each in office.sink.deliveries] == [1, 2, 3, 4]
    [owed] = await office.owed_deliveries()
    assert owed.attempt == 5
    assert await office.all_in(OUTBOX) == []


async def test_a_worker_stops_while_the_store_gives_no_answer(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    await office.subscribe("http://ill")
    office.sink.answers["http://ill"] = always(TRY_LATER)
    await office.post(b"1")
    never = failing_first(office.storage.messages.post, times=10**9)

    async with office.open():
        monkeypatch.setattr(office.storage.messages, "post", never)
        await office.sink.received(1)

    monkeypatch.undo()
    office.clock.advance(seconds=office.settings.delivery_lease_seconds)
    del office.sink.answers["http://ill"]
    await office.work_off()
    assert len(office.sink.deliveries) == 2


async def test_a_worker_stops_while_what_it_finished_can_not_be_deleted(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    await office.subscribe("http://receiver")
    hanging = office.sink.answers["http://receiver"] = Hanging()
    await office.post(b"1")
    messages = office.storage.messages
    monkeypatch.setattr(messages, "delete", failing_first(messages.delete, times=10**9))

    async with office.open() as engine:
        await office.sink.received(1)
        drain = asyncio.create_task(engine.drain(DEADLINE_SECONDS))
        await asyncio.sleep(0)
        hanging.let_go.set()
        await drain
        assert engine.in_hand == 0

    assert len(await office.all_in(OUTBOX)) == 1


async def test_the_engine_sweeps_what_has_expired(storage: Storage, office: Office) -> None:
    await office.post(*[b"%d" % number for number in range(3)])
    office.clock.advance(seconds=3600)

    async def nothing_is_left_to_sweep() -> bool:
        return await storage.sweep(now=office.clock.now(), limit=SWEEP_ROWS) == 0

    async with office.open():
        await until_stored(nothing_is_left_to_sweep)


async def test_a_sweep_goes_on_while_batches_are_full(storage: Storage, office: Office) -> None:
    await office.post(*[b"1"] * (2 * SWEEP_ROWS + 1))
    office.clock.advance(seconds=3600)

    removed = await sweep(storage, clock=office.clock, stop=Stop())

    assert removed == 2 * SWEEP_ROWS + 1
    assert await sweep(storage, clock=office.clock, stop=Stop()) == 0


async def test_a_stopped_sweep_ends(storage: Storage, office: Office) -> None:
    await office.post(b"1")
    office.clock.advance(seconds=3600)
    stop = Stop()
    stop.set()

    assert await sweep(storage, clock=office.clock, stop=stop) == 0


async def test_owed_deliveries_do_not_expire_with_their_messages(office: Office) -> None:
    await office.subscribe("http://receiver", ttl=86400)
    await office.post(b"1")
    office.clock.advance(seconds=7200)

    await office.work_off()

    assert len(office.sink.deliveries) == 1
    assert await office.all_in(RETRY) == []


async def test_a_pause_ends_with_the_stop() -> None:
    stop = Stop()
    pause = asyncio.ensure_future(stop.pause(3600))

    stop.set()

    await asyncio.wait_for(pause, timeout=5)


async def test_the_expiry_of_a_subscription_is_logged_without_the_secrets_of_its_address(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    subscription = await office.subscribe("http://user:pw@receiver:8080/secret?token=1", ttl=60)
    await office.subscribe("http://kept", ttl=61)
    office.clock.advance(seconds=60)

    assert await sweep(office.storage, clock=office.clock, stop=Stop()) == 1

    [told] = [one for one in caplog.records if getattr(one, "action", "") == "subscription_expired"]
    assert facts(told) == {
        "action": "subscription_expired",
        "subscription_id": subscription.id,
        "project": "project1",
        "queue": "orders",
        "subscriber": "http://receiver",
        "ttl": 60,
    }


@pytest.mark.usefixtures("_no_pause")
async def test_an_outage_of_the_store_is_told_once_and_so_is_its_end(
    office: Office, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.settings = Settings(sweep_seconds=3600)
    await office.subscribe("http://receiver")
    for number in range(5):
        await office.post(b"%d" % number)
    away = failing_first(office.storage.claims.create, 20)
    monkeypatch.setattr(office.storage.claims, "create", away)

    async with office.open():
        await office.sink.received(5)
        await office.settled()

    told = [facts(record) for record in caplog.records if record.levelname == "WARNING"]
    actions = [record["action"] for record in told]
    assert actions.count("storage_unavailable") == actions.count("storage_available") <= 3
    assert actions[0] == "storage_unavailable"
    assert actions[-1] == "storage_available"
