"""Pause, replay, dead letters and redrive with a running engine, on every driver."""

from __future__ import annotations

import pytest

from tests.clock import ManualClock
from tests.kinds import KINDS
from tests.workers.office import DELIVERED, OUTBOX, QUEUE, REFUSED, Office, always, until_stored
from workers.doorbell import LocalDoorbell
from zaqar_notify import claims, subscriptions
from zaqar_notify.delivery import InternalPost
from zaqar_notify.delivery.bulk import Bulk, Selection
from zaqar_notify.delivery.letters import SUBSCRIPTION
from zaqar_notify.models import JsonObject, NewMessage, QueueRef
from zaqar_notify.rules.attributes import read_attributes
from zaqar_notify.service import Service
from zaqar_notify.settings import Settings
from zaqar_notify.storage.driver import Capability
from zaqar_notify.storage.planes import Storage

pytestmark = pytest.mark.needs(Capability.CLAIMS)

HOOK, UNDERTAKER = "http://hook", "http://undertaker"
DEAD = QueueRef(QUEUE.project, "dead")
LETTERS: JsonObject = {"_dead_letter_queue": "dead", "_retry_policy": {"minimum_delay": 1}}
CLAIMED: JsonObject = {"_dead_letter_queue": "dead", "_max_claim_count": 1}


@pytest.fixture(autouse=True)
def _engines_look_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.engine.LOOK_SECONDS", 0.02)


@pytest.fixture
def office(storage: Storage, clock: ManualClock) -> Office:
    return Office(storage, clock, Settings(retry_jitter=0, delivery_concurrency_per_endpoint=1))


@pytest.fixture
def desk(office: Office) -> Service:
    return Service(office.storage, office.settings, office.clock, LocalDoorbell(), KINDS)


async def done(office: Office, desk: Service, ordered: Bulk) -> Bulk:
    async def is_over() -> bool:
        return (await subscriptions.replay_of_id(desk, QUEUE.project, ordered.id)).is_over

    async with office.open():
        await until_stored(is_over)
        await office.settled()
    return await subscriptions.replay_of_id(desk, QUEUE.project, ordered.id)


async def claim_to_death(office: Office, desk: Service, *bodies: bytes) -> None:
    await office.storage.queues.create(QUEUE, metadata=CLAIMED, now=office.clock.now())
    await office.post(*bodies)
    await claims.create(desk, QUEUE, ttl=60, grace=60)
    office.clock.advance(seconds=61)
    assert await claims.create(desk, QUEUE) is None


async def test_a_paused_subscription_misses_nothing_and_gets_it_in_order(
    office: Office, desk: Service
) -> None:
    subscription = await office.subscribe(HOOK)
    await subscriptions.pause(desk, QUEUE, subscription.id, why="moving")
    async with office.open():
        await office.post(b"1")
        await office.post(b"2")
        await office.settled()
        present = await subscriptions.get(desk, QUEUE, subscription.id)
        assert await subscriptions.waiting(desk, present) == 2

        await subscriptions.resume(desk, QUEUE, subscription.id)
        await office.post(b"3")
        await office.sink.received(3)
        await office.settled()

    assert office.sink.bodies(HOOK) == [b"1", b"2", b"3"]


async def test_a_delivery_that_was_given_up_is_a_letter_and_comes_again_by_replay_and_redrive(
    office: Office, desk: Service
) -> None:
    subscription = await office.subscribe(HOOK, options=LETTERS)
    office.sink.answers[HOOK] = always(REFUSED)
    await office.post(b'{"a":1}')
    await office.work_off()
    office.sink.answers[HOOK] = always(DELIVERED)
    office.clock.advance(seconds=1)
    [letter] = await office.all_in(DEAD)
    assert letter.body == b'{"a":1}'
    assert read_attributes(letter.attributes)[SUBSCRIPTION].value == subscription.id

    replayed = await done(
        office, desk, await subscriptions.replay(desk, QUEUE, subscription.id, Selection())
    )
    redriven = await done(office, desk, await subscriptions.redrive(desk, DEAD))

    assert (replayed.moved, redriven.moved) == (1, 1)
    assert office.sink.bodies(HOOK) == [b'{"a":1}'] * 3
    assert await office.all_in(DEAD) == []


async def test_subscribers_of_a_dead_letter_queue_are_notified_once_of_a_claimed_message(
    office: Office, desk: Service
) -> None:
    await office.subscribe(UNDERTAKER, queue=DEAD)
    await claim_to_death(office, desk, b"1")
    [job] = await office.all_in(OUTBOX)

    await office.work_off()
    # The worker died before it deleted the job.
    again = InternalPost([NewMessage(job.body, job.ttl)], project=QUEUE.project)
    await office.storage.messages.post(OUTBOX, again, now=office.clock.now())
    await office.work_off()

    assert office.sink.bodies(UNDERTAKER) == [b"1"]
    [letter] = await office.all_in(DEAD)
    assert (letter.body, letter.claim_count) == (b"1", 0)


async def test_without_subscribers_a_claim_moves_messages_itself(
    office: Office, desk: Service
) -> None:
    expired = await office.subscribe(UNDERTAKER, queue=DEAD, ttl=1)
    assert expired
    await claim_to_death(office, desk, b"1")

    assert await office.all_in(OUTBOX) == []
    assert [one.body for one in await office.all_in(DEAD)] == [b"1"]


async def test_claimed_messages_go_back_to_their_queue_and_its_subscribers_hear_nothing(
    office: Office, desk: Service
) -> None:
    await claim_to_death(office, desk, b"1", b"2")
    await office.subscribe(HOOK)

    end = await done(office, desk, await subscriptions.redrive(desk, DEAD))
    await office.work_off()

    assert (end.moved, end.left) == (2, 0)
    assert [one.body for one in await office.all_in(QUEUE)] == [b"1", b"2"]
    assert await office.all_in(DEAD) == []
    assert office.sink.deliveries == []
