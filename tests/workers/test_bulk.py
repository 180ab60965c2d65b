"""Replays and redrives: what was given up, delivered or dead-lettered comes again, once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import timedelta

import pytest

from tests.kinds import KINDS
from tests.workers.office import (
    DELIVERED,
    OUTBOX,
    QUEUE,
    REFUSED,
    Office,
    always,
    until_stored,
)
from workers.doorbell import LocalDoorbell
from workers.outages import Stop
from workers.redriving import Redriving
from workers.replaying import Replaying
from workers.store import RetryingStore
from zaqar_notify import claims, subscriptions
from zaqar_notify.clock import new_id
from zaqar_notify.delivery import InternalPost, delivery_id
from zaqar_notify.delivery.bulk import Bulk, Kind, Outcome, Selection, State, note
from zaqar_notify.delivery.letters import ATTEMPTS, ERROR, MESSAGE, SUBSCRIPTION
from zaqar_notify.delivery.letters import QUEUE as FROM_QUEUE
from zaqar_notify.errors import (
    IdempotencyKeyReused,
    StorageUnavailable,
    TooManyReplays,
    ValidationFailed,
)
from zaqar_notify.models import JsonObject, Message, NewMessage, QueueRef, Subscription
from zaqar_notify.rules.attributes import canonical, read_attributes
from zaqar_notify.service import Service
from zaqar_notify.storage.internal import bulk_ref

HOOK = "http://hook"
DEAD = QueueRef(QUEUE.project, "dead")
LETTERS: JsonObject = {"_dead_letter_queue": "dead", "_retry_policy": {"minimum_delay": 1}}


@pytest.fixture(autouse=True)
def _engines_look_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of these tests does not tell the engine that it went on."""
    monkeypatch.setattr("workers.engine.LOOK_SECONDS", 0.02)


def service(office: Office) -> Service:
    return Service(office.storage, office.settings, office.clock, LocalDoorbell(), KINDS)


async def refused(
    office: Office, *bodies: bytes, options: JsonObject | None = None
) -> Subscription:
    """A subscription whose receiver refused these messages for good, and takes all from now on."""
    subscription = await office.subscribe(HOOK, options=options)
    office.sink.answers[HOOK] = always(REFUSED)
    for body in bodies:
        await office.post(body)
        await office.work_off()
        office.clock.advance(seconds=1)
    office.sink.answers[HOOK] = always(DELIVERED)
    office.sink.deliveries.clear()
    return subscription


async def replay(
    office: Office, subscription: Subscription, selection: Selection | None = None
) -> Bulk:
    """Order a replay, and have it done."""
    ordered = await subscriptions.replay(
        service(office), QUEUE, subscription.id, selection or Selection(), per_second=1000
    )
    return await done(office, ordered)


async def redrive(office: Office, target: str | None = None, ref: QueueRef = DEAD) -> Bulk:
    ordered = await subscriptions.redrive(service(office), ref, target=target, per_second=1000)
    return await done(office, ordered)


async def done(office: Office, ordered: Bulk) -> Bulk:
    async with office.open():
        await until_stored(lambda: is_over(office, ordered))
        await office.settled()
    return await subscriptions.replay_of_id(service(office), QUEUE.project, ordered.id)


async def is_over(office: Office, ordered: Bulk) -> bool:
    found = await subscriptions.replay_of_id(service(office), QUEUE.project, ordered.id)
    return found.is_over


async def on_queue(office: Office, ref: QueueRef) -> Sequence[Message]:
    return await office.all_in(ref)


def retrying(office: Office) -> RetryingStore:
    return RetryingStore(office.storage, clock=office.clock, stop=Stop())


@pytest.mark.parametrize("pace", [{}, {"_ordered": True}], ids=["plain", "ordered"])
async def test_what_was_given_up_is_delivered_in_order_and_its_records_go(
    office: Office, pace: JsonObject
) -> None:
    subscription = await refused(office, b"1", b"2", b"3", options=LETTERS | pace)
    assert len(await on_queue(office, DEAD)) == 3

    end = await replay(office, subscription)
    await office.sink.received(3)

    assert office.sink.bodies(HOOK) == [b"1", b"2", b"3"]
    assert await office.undelivered(subscription) == []
    assert (end.state, end.total, end.moved) == (State.DONE, 3, 3)


async def test_a_replay_takes_the_ids_and_the_time_that_it_names(office: Office) -> None:
    subscription = await refused(office, b"1", b"2", b"3", b"4")
    records = await office.undelivered(subscription)
    wanted = Selection(
        delivery_ids=frozenset({records[0].delivery_id, records[1].delivery_id}),
        message_ids=frozenset({records[2].message_id}),
        since=records[1].given_up_at,
    )

    await replay(office, subscription, wanted)

    assert office.sink.bodies(HOOK) == [b"2", b"3"]
    assert len(await office.undelivered(subscription)) == 2


async def test_messages_that_are_on_the_queue_are_delivered_anew_as_the_filter_permits(
    office: Office,
) -> None:
    options: JsonObject = {
        "_filter_policy": {"a": [1]},
        "_filter_policy_scope": "MessageBody",
    }
    subscription = await office.subscribe(HOOK, options=options)
    [first, _] = await office.post(b'{"a":1}', b'{"a":2}')
    await office.work_off()
    office.clock.advance(seconds=1)

    end = await replay(office, subscription, Selection(outcome=Outcome.DELIVERED))

    assert office.sink.bodies(HOOK) == [b'{"a":1}'] * 2
    assert {each.id for each in office.sink.deliveries} == {delivery_id(subscription.id, first)}
    assert (end.seen, end.moved) == (2, 1)


async def test_a_replay_does_not_take_what_it_brought_back_itself(office: Office) -> None:
    subscription = await refused(office, b"1")
    office.sink.answers[HOOK] = always(REFUSED)
    replaying = Replaying(retrying(office), clock=office.clock, settings=office.settings)
    bulk = Bulk(
        new_id(), Kind.REPLAY, QUEUE.project, QUEUE.name, 1, office.clock.now(), subscription.id
    )

    bulk = await replaying.step(bulk, 1)
    await office.work_off()
    end = await replaying.step(bulk, 1)

    assert (end.seen, end.moved) == (2, 1)
    assert len(office.sink.deliveries) == 1
    assert len(await office.undelivered(subscription)) == 1


async def test_a_paused_subscription_s_replay_is_held(office: Office) -> None:
    subscription = await refused(office, b"1")
    await subscriptions.pause(service(office), QUEUE, subscription.id)

    await replay(office, subscription)
    assert office.sink.deliveries == []

    await subscriptions.resume(service(office), QUEUE, subscription.id)
    await office.work_off()
    assert office.sink.bodies(HOOK) == [b"1"]


async def test_a_step_that_broke_off_before_it_was_noted_brings_nothing_twice(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscription = await refused(office, b"1", b"2")
    bulk = Bulk(
        new_id(), Kind.REPLAY, QUEUE.project, QUEUE.name, 100, office.clock.now(), subscription.id
    )
    replaying = Replaying(retrying(office), clock=office.clock, settings=office.settings)
    with monkeypatch.context() as patch:
        patch.setattr(replaying, "_remove", _dies)
        with pytest.raises(RuntimeError):
            await replaying.step(bulk, 10)

    again = await replaying.step(bulk, 10)
    after_that = await replaying.step(bulk, 10)

    assert (again.moved, after_that.moved) == (2, 0)
    assert len(await office.owed_deliveries()) == 2


async def _dies(*_: object) -> None:
    raise RuntimeError("killed")


async def test_a_step_takes_no_more_than_a_second_s_worth(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscription = await refused(office, b"1", b"2", b"3")
    pauses: list[float] = []

    async def pause(self: Stop, seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.sleep(0)

    monkeypatch.setattr(Stop, "pause", pause)

    ordered = await subscriptions.replay(
        service(office), QUEUE, subscription.id, Selection(), per_second=1
    )
    end = await done(office, ordered)

    assert end.moved == 3
    assert len([seconds for seconds in pauses if 0 < seconds <= 1]) >= 2


async def test_a_replay_that_is_cancelled_leaves_the_rest(office: Office) -> None:
    subscription = await refused(office, b"1", b"2", b"3")
    ordered = await subscriptions.replay(
        service(office), QUEUE, subscription.id, Selection(), per_second=1
    )
    await subscriptions.cancel_replay(service(office), ordered)

    end = await done(office, ordered)

    assert end.state is State.CANCELLED
    assert len(await office.undelivered(subscription)) == 3


async def test_a_replay_of_a_subscription_that_is_gone_fails_with_a_reason(office: Office) -> None:
    subscription = await refused(office, b"1")
    ordered = await subscriptions.replay(service(office), QUEUE, subscription.id, Selection())
    await office.storage.subscriptions.delete(QUEUE, subscription.id)

    end = await done(office, ordered)

    assert (end.state, end.reason) == (State.FAILED, "the subscription is gone")


async def test_a_job_whose_request_broke_off_ends_by_itself(office: Office) -> None:
    subscription = await refused(office, b"1")
    desk = service(office)
    ordered = await subscriptions.replay(desk, QUEUE, subscription.id, Selection())
    await office.storage.heads.drop_internal([bulk_ref(QUEUE.project)])
    async with office.open():
        for _ in range(4):
            await office.settled()
            office.clock.advance(seconds=20)
        await office.settled()

    assert await office.all_in(OUTBOX) == []
    assert await subscriptions.replays(desk, QUEUE.project) == []
    assert ordered.id
    assert len(await office.undelivered(subscription)) == 1


async def test_a_replay_waits_for_a_store_that_is_away(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscription = await refused(office, b"1")
    ordered = await subscriptions.replay(service(office), QUEUE, subscription.id, Selection())

    async def away(*_: object) -> Bulk:
        raise StorageUnavailable("its pool is away")

    with monkeypatch.context() as patch:
        patch.setattr(Replaying, "step", away)
        await office.work_off()
    assert not await is_over(office, ordered)

    office.clock.advance(seconds=30)
    end = await done(office, ordered)

    assert (end.state, end.moved) == (State.DONE, 1)


async def test_an_order_under_one_key_is_one_replay_and_others_are_refused(office: Office) -> None:
    subscription = await refused(office, b"1")
    desk = service(office)

    first = await subscriptions.replay(desk, QUEUE, subscription.id, Selection(), key="k")
    second = await subscriptions.replay(desk, QUEUE, subscription.id, Selection(), key="k")

    assert first == second
    with pytest.raises(IdempotencyKeyReused):
        await subscriptions.replay(
            desk, QUEUE, subscription.id, Selection(outcome=Outcome.ANY), key="k"
        )


async def test_a_project_has_so_many_replays_at_once_and_a_bounded_list_of_ended_ones(
    office: Office,
) -> None:
    subscription = await refused(office, b"1")
    desk = service(office)
    now = office.clock.now()
    for number in range(230):
        ended = Bulk(
            *(f"{number:032d}", Kind.REPLAY, QUEUE.project, QUEUE.name, 100),
            now + timedelta(milliseconds=number),
            state=State.DONE,
        )
        await note(office.storage.store, ended, now=now)
    for _ in range(20):
        await subscriptions.replay(desk, QUEUE, subscription.id, Selection())

    with pytest.raises(TooManyReplays):
        await subscriptions.replay(desk, QUEUE, subscription.id, Selection())
    listed = await subscriptions.replays(desk, QUEUE.project)
    assert len(listed) == 200
    assert sum(not each.is_over for each in listed) == 20


# Dead letters of deliveries.


async def test_a_delivery_that_is_given_up_becomes_a_message_that_says_why(office: Office) -> None:
    subscription = await refused(office, b'{"a": 1}', options=LETTERS)

    [letter] = await on_queue(office, DEAD)

    [record] = await office.undelivered(subscription)
    said = {name: each.value for name, each in read_attributes(letter.attributes).items()}
    assert letter.body == b'{"a": 1}'
    assert said == {
        FROM_QUEUE: QUEUE.name,
        SUBSCRIPTION: subscription.id,
        MESSAGE: record.message_id,
        ATTEMPTS: 1,
        ERROR: "not here",
    }


async def test_a_letter_is_stored_once_however_often_its_job_is_done(office: Office) -> None:
    await office.subscribe(HOOK, options=LETTERS)
    office.sink.answers[HOOK] = always(REFUSED)
    await office.post(b"1")
    [job] = await office.all_in(OUTBOX)
    await office.work_off()
    await _post_again(office, job)  # The worker died before it deleted the job.
    await office.work_off()

    assert len(office.sink.deliveries) == 2
    assert len(await on_queue(office, DEAD)) == 1


async def _post_again(office: Office, job: Message) -> None:
    post = InternalPost([NewMessage(job.body, job.ttl)], project=QUEUE.project)
    await office.storage.messages.post(OUTBOX, post, now=office.clock.now())


async def test_subscribers_of_the_dead_letter_queue_are_notified_of_a_letter(
    office: Office,
) -> None:
    await office.subscribe("http://undertaker", queue=DEAD)
    await office.subscribe(HOOK, options=LETTERS)
    office.sink.answers[HOOK] = always(REFUSED)

    await office.post(b"1")
    await office.work_off()

    assert office.sink.bodies("http://undertaker") == [b"1"]


async def test_a_letter_does_not_go_round_in_circles(office: Office) -> None:
    office.sink.answers[HOOK] = always(REFUSED)
    await office.subscribe(HOOK, options=LETTERS)
    back = LETTERS | {"_dead_letter_queue": QUEUE.name}
    await office.subscribe(HOOK, options=back, queue=DEAD)

    await office.post(b"1")
    await office.work_off()
    await office.work_off()

    assert len(await on_queue(office, DEAD)) == 1
    assert len(await on_queue(office, QUEUE)) == 1


async def test_the_own_queue_is_no_dead_letter_queue(office: Office) -> None:
    with pytest.raises(ValidationFailed, match="another queue"):
        await subscriptions.create(
            service(office),
            DEAD,
            subscriber=HOOK,
            options=LETTERS,
            confirm_at=lambda _: "",
        )


# Redrives.


async def test_given_up_deliveries_go_back_to_their_subscription_alone(office: Office) -> None:
    await office.subscribe("http://other")
    await refused(office, b"1", b"2", options=LETTERS)

    end = await redrive(office)

    assert office.sink.bodies(HOOK) == [b"1", b"2"]
    assert office.sink.bodies("http://other") == []
    assert read_attributes(office.sink.deliveries[0].message.attributes) == {}
    assert (end.state, end.moved, await on_queue(office, DEAD)) == (State.DONE, 2, [])


async def test_a_letter_that_is_given_up_again_is_a_letter_again(office: Office) -> None:
    await refused(office, b"1", options=LETTERS)
    office.sink.answers[HOOK] = always(REFUSED)

    await redrive(office)

    assert len(await on_queue(office, DEAD)) == 1


async def claimed_to_death(office: Office, *bodies: bytes, source: QueueRef = QUEUE) -> None:
    """Messages of a queue that a claim moved to its dead-letter queue."""
    rules: JsonObject = {"_dead_letter_queue": "dead", "_max_claim_count": 1}
    await office.storage.queues.create(source, metadata=rules, now=office.clock.now())
    await office.post(*bodies, queue=source)
    desk = service(office)
    await claims.create(desk, source, ttl=60, grace=60)
    office.clock.advance(seconds=61)
    assert await claims.create(desk, source) is None


async def test_claimed_messages_go_back_to_their_own_queues(office: Office) -> None:
    other = QueueRef(QUEUE.project, "other")
    await claimed_to_death(office, b"1", b"2")
    await claimed_to_death(office, b"3", source=other)

    end = await redrive(office)

    assert end.moved == 3
    assert [one.body for one in await on_queue(office, QUEUE)] == [b"1", b"2"]
    assert [one.body for one in await on_queue(office, other)] == [b"3"]
    assert await on_queue(office, DEAD) == []


async def test_a_target_takes_all_and_its_subscribers_are_notified(office: Office) -> None:
    await claimed_to_death(office, b"1")
    await office.subscribe(HOOK, queue=QueueRef(QUEUE.project, "again"))

    await redrive(office, "again")
    await office.work_off()

    assert office.sink.bodies(HOOK) == [b"1"]
    assert len(await on_queue(office, QueueRef(QUEUE.project, "again"))) == 1


async def test_letters_of_unknown_origin_are_left_and_counted(office: Office) -> None:
    await claimed_to_death(office, b"1")
    await claimed_to_death(office, b"2", source=QueueRef(QUEUE.project, "other"))
    await office.post(b"posted by a client", queue=DEAD)

    end = await redrive(office)

    assert (end.state, end.moved, end.left) == (State.DONE, 2, 1)
    assert "name a target" in end.reason
    [left] = await on_queue(office, DEAD)
    assert (left.body, left.claim_id) == (b"posted by a client", None)


async def test_a_letter_whose_id_is_no_id_is_of_unknown_origin(office: Office) -> None:
    subscription = await office.subscribe(HOOK)
    forged = {
        FROM_QUEUE: QUEUE.name,
        SUBSCRIPTION: subscription.id,
        MESSAGE: "1\r\nX-Project-Id: victim",
    }
    letter = NewMessage(b"1", 3600, attributes=canonical(json.dumps(forged).encode()))
    await office.post_messages([letter], queue=DEAD)

    end = await redrive(office)

    assert (end.state, end.moved, end.left) == (State.DONE, 0, 1)
    assert office.sink.deliveries == []


async def test_a_redrive_that_broke_off_sends_no_letter_twice(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    await claimed_to_death(office, b"1", b"2")
    bulk = Bulk(new_id(), Kind.REDRIVE, DEAD.project, DEAD.name, 100, office.clock.now())
    redriving = Redriving(retrying(office), clock=office.clock, settings=office.settings)
    with monkeypatch.context() as patch:
        patch.setattr(redriving, "_remove", _dies)
        with pytest.raises(RuntimeError):
            await redriving.step(bulk, 10)
    office.clock.advance(seconds=61)

    end = await redriving.step(bulk, 10)

    assert end.moved == 2
    assert [one.body for one in await on_queue(office, QUEUE)] == [b"1", b"2"]
    assert await on_queue(office, DEAD) == []


async def test_a_confined_caller_s_redrive_leaves_letters_of_other_queues(office: Office) -> None:
    await claimed_to_death(office, b"1")
    ordered = await subscriptions.redrive(service(office), DEAD, queues="dead*")

    end = await done(office, ordered)

    assert (end.moved, end.left) == (0, 1)
