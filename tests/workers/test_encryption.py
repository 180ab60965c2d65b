"""The engine on a store that encrypts: no clear body at any stage of a delivery, and deliveries that wait for a key."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.clock import ManualClock
from tests.contract.conftest import DRIVERS
from tests.contract.raw import whole_store
from tests.keys import K1, K2, K2_AND_K1, reopening
from tests.workers.office import (
    AT_ONCE,
    GONE,
    QUEUE,
    REFUSED,
    TRY_LATER,
    Answer,
    Hanging,
    Office,
    always,
    until,
)
from workers.outages import Stop
from workers.store import RetryingStore
from zaqar_notify.delivery import InternalPost
from zaqar_notify.delivery.backlog import count_owed
from zaqar_notify.metadata import ENCRYPT
from zaqar_notify.models import JsonObject, NewMessage, QueueRef
from zaqar_notify.rules.encryption import Keyring
from zaqar_notify.settings import Settings
from zaqar_notify.storage import sealing
from zaqar_notify.storage.internal import (
    POISON_REF,
    held_ref,
    parked_ref,
)

BODY = b'"clear text of the client"'
WORDS = b"clear text"
DEAD = QueueRef(QUEUE.project, "dead")
LETTERS: JsonObject = AT_ONCE | {"_dead_letter_queue": DEAD.name}

Reopen = Callable[[Keyring], Awaitable[Office]]


@pytest.fixture(params=DRIVERS)
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return DRIVERS[request.param](tmp_path)


@pytest.fixture
async def reopen(uri: str, clock: ManualClock) -> AsyncIterator[Reopen]:
    """An office on the store with these keys, once it is closed with those of before."""
    async with reopening(uri) as reopen:

        async def reopen_office(keys: Keyring) -> Office:
            return Office(await reopen(keys), clock, Settings(retry_jitter=0))

        yield reopen_office


@pytest.fixture
async def office(reopen: Reopen) -> Office:
    """With the key k1, and a queue that encrypts."""
    office = await reopen(K1)
    await office.storage.queues.create(QUEUE, metadata={ENCRYPT: True}, now=office.clock.now())
    return office


async def test_no_clear_body_is_stored_at_any_stage_of_a_delivery(office: Office) -> None:
    hanging = Hanging()
    answers: dict[str, Answer] = {
        "hangs": hanging,
        "later": always(TRY_LATER),
        "refuses": always(REFUSED),
        "gone": always(GONE),
    }
    subscriptions = {}
    for name, answer in answers.items():
        options = LETTERS if name == "refuses" else {}
        subscriptions[name] = await office.subscribe(f"http://{name}", options=options)
        office.sink.answers[f"http://{name}"] = answer

    await office.post(BODY, BODY, delay=0)
    await office.post(BODY, delay=600)
    assert WORDS not in await whole_store(office.storage)
    async with office.open():
        await until(lambda: all(office.sink.to(f"http://{name}") for name in answers))
        assert WORDS not in await whole_store(office.storage)
        hanging.let_go.set()
        await office.settled()
        await office.post(BODY)
        await office.settled()

    assert WORDS not in await whole_store(office.storage)
    assert set(office.sink.bodies("http://hangs")) == {BODY}
    assert await office.undelivered(subscriptions["refuses"])
    assert {letter.body for letter in await office.all_in(DEAD)} == {BODY}
    assert await office.all_in(held_ref(subscriptions["gone"].id))
    assert await office.owed_deliveries() or await office.all_in(
        parked_ref(subscriptions["later"].id)
    )


async def test_a_delivery_waits_for_its_key_without_spending_an_attempt_and_others_do_not(
    reopen: Reopen, office: Office
) -> None:
    await office.subscribe("http://receiver", options=AT_ONCE)
    await office.post(b'"locked"')
    office = await reopen(K2)
    await office.storage.subscriptions.delete_all(QUEUE)
    await office.subscribe("http://other", options=AT_ONCE)
    await office.post(b'"open"')

    async with office.open():
        await office.sink.received(1)
        await office.settled()

    assert office.sink.bodies("http://other") == [b'"open"']
    assert (await count_owed(office.storage, office.settings, office.clock.now())).missing_keys == 1

    office = await reopen(K2_AND_K1)
    await office.work_off()
    assert office.sink.bodies("http://other") == [b'"locked"']
    assert [delivery.attempt for delivery in office.sink.deliveries] == [1]


async def test_a_subscription_that_waits_for_its_key_holds_up_no_other_and_is_told_once(
    reopen: Reopen,
    office: Office,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sealing, "_told_at", {})
    await office.subscribe("http://locked", options=AT_ONCE)
    other = QueueRef("project2", "orders")
    office = await reopen(K2)
    await office.subscribe("http://open", options=AT_ONCE, queue=other)
    await office.post(b'"waits"')
    await office.post(b'"goes"', queue=other)

    def told() -> list[str]:
        return [getattr(record, "action", "") for record in caplog.records]

    async with office.open(drain_seconds=0):
        await office.sink.received(1)
        await until(lambda: "decryption_failed" in told())

    assert office.sink.bodies("http://open") == [b'"goes"']
    assert office.sink.bodies("http://locked") == []
    assert told().count("decryption_failed") == 1
    assert "storage_unavailable" not in told()
    office = await reopen(K2_AND_K1)
    office.clock.advance(seconds=3600)
    await office.work_off()
    [late] = office.sink.to("http://locked")
    assert (late.message.body, late.attempt) == (b'"waits"', 1)


async def test_parked_deliveries_that_wait_for_their_key_are_not_forgotten(
    reopen: Reopen, office: Office
) -> None:
    parked = parked_ref("s1")
    record = InternalPost([NewMessage(BODY, 3600)], project="project1")
    await office.storage.store.messages.post(parked, record, now=office.clock.now())

    office = await reopen(K2)
    store = RetryingStore(office.storage, clock=office.clock, stop=Stop())

    assert await store.is_any_on(QUEUE, parked)
    assert not await store.is_any_on(QUEUE, parked_ref("s2"))


async def test_the_backlog_is_counted_while_the_oldest_job_waits_for_its_key(
    reopen: Reopen, office: Office
) -> None:
    await office.subscribe("http://receiver")
    await office.post(BODY)
    office = await reopen(K2)
    office.clock.advance(seconds=90)

    backlog = await count_owed(office.storage, office.settings, office.clock.now())

    [owed] = [each for each in backlog.owed if each.count]
    assert (owed.queue, owed.overdue_seconds) == ("outbox", 90.0)


async def test_a_poison_job_stays_encrypted(office: Office) -> None:
    owed = InternalPost([NewMessage(BODY, 3600)], project="project1")

    await office.storage.store.messages.post(POISON_REF, owed, now=office.clock.now())

    assert WORDS not in await whole_store(office.storage)
    [job] = await office.all_in(POISON_REF)
    assert job.body == BODY
