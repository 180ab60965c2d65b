"""One engine works off what is owed on several message stores; records go to the store of their queue."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tests.kinds import KINDS
from tests.pools import open_pooled, put_on
from tests.workers.office import (
    AT_ONCE,
    GONE,
    OUTBOX,
    QUEUE,
    REFUSED,
    TRY_LATER,
    Office,
    always,
    until_stored,
)
from workers import leftovers
from workers.doorbell import LocalDoorbell
from workers.outages import Stop
from zaqar_notify import subscriptions
from zaqar_notify.delivery import InternalPost, fan_out_jobs
from zaqar_notify.delivery.backlog import count_owed
from zaqar_notify.delivery.partitions import partitions_in_use
from zaqar_notify.delivery.poison import give_back, put_aside
from zaqar_notify.models import JsonObject, NewMessage, Outcome, QueueRef
from zaqar_notify.service import Service
from zaqar_notify.storage.base import MessageStore
from zaqar_notify.storage.internal import (
    ATTEMPTS_PREFIX,
    COUNTS_PREFIX,
    ENDPOINTS_REF,
    POISON_REF,
    Partition,
    held_ref,
    outbox_ref,
    parked_ref,
    queues_of_subscription,
    retry_ref,
)
from zaqar_notify.storage.planes import Storage

OTHER = Partition("other", 0)
FOREIGN = QueueRef(QUEUE.project, "foreign")
"""A queue that is placed in the other pool."""

RECEIVER = "http://receiver"

MANY = 100


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[Storage]:
    pools = {OTHER.pool: f"sqlite:///{tmp_path}/other.db"}
    storage = await open_pooled(f"sqlite:///{tmp_path}/store.db", pools)
    await put_on(storage, FOREIGN, OTHER.pool)
    yield storage
    await storage.close()


@pytest.fixture
def other(storage: Storage) -> MessageStore:
    """The message store of the second pool."""
    return storage.pools[OTHER.pool]


async def owe(office: Office, store: MessageStore, *bodies: bytes, queue: QueueRef = QUEUE) -> None:
    """Have a job for each body in the store's outbox."""
    for body in bodies:
        message = NewMessage(body=body, ttl=3600)
        [(ref, job)] = fan_out_jobs(queue, [body.decode()], [message], settings=office.settings)
        await put(office, store, ref, job)


async def put(office: Office, store: MessageStore, ref: QueueRef, *messages: NewMessage) -> None:
    await store.messages.post(ref, InternalPost(messages), now=office.clock.now())


async def count(office: Office, store: MessageStore, ref: QueueRef) -> int:
    return (await store.messages.stats(ref, now=office.clock.now())).total


async def internal(office: Office, store: MessageStore) -> dict[str, int]:
    """How many messages are on each internal queue of the store that is not empty, but for the states of endpoints and
    the delivery log."""
    left_out = (ENDPOINTS_REF.name, ATTEMPTS_PREFIX, COUNTS_PREFIX)
    names = await store.heads.internal(after="", limit=1000)
    counts = {
        name: await count(office, store, QueueRef("", name))
        for name in names
        if not name.startswith(left_out)
    }
    return {name: number for name, number in counts.items() if number}


async def is_empty(office: Office, store: MessageStore) -> bool:
    return not await internal(office, store)


async def all_on(office: Office, store: MessageStore, ref: QueueRef) -> Sequence[bytes]:
    page = await store.messages.page(ref, marker=None, limit=100, now=office.clock.now())
    return [message.body for message in page.messages]


async def work_off(office: Office, store: MessageStore) -> None:
    """Run an engine until nothing that is due is on the store's outbox and retry queue."""

    async def nothing_is_due() -> bool:
        for ref in (outbox_ref(OTHER), retry_ref(OTHER)):
            page = await store.messages.page(
                ref, marker=None, limit=1, now=office.clock.now(), include_claimed=True
            )
            if page.messages:
                return False
        return True

    async with office.open():
        await until_stored(nothing_is_due)


async def test_an_engine_takes_jobs_of_all_pools(office: Office, other: MessageStore) -> None:
    await office.subscribe(RECEIVER)
    await owe(office, other, b'"other"')
    await office.post(b'"default"')

    async with office.open():
        await office.sink.received(2)
        await until_stored(lambda: is_empty(office, other))

    assert sorted(office.sink.bodies(RECEIVER)) == [b'"default"', b'"other"']
    assert await office.all_in(OUTBOX) == []


@pytest.mark.parametrize(
    ("outcome", "options", "jobs", "left"),
    [
        (TRY_LATER, {}, 1, {"retry"}),
        (GONE, {}, 1, {"held"}),
        (REFUSED, AT_ONCE, 1, {"undelivered"}),
        (TRY_LATER, {}, MANY, {"retry", "parked", "outbox"}),
    ],
    ids=["retry", "held", "undelivered", "parked"],
)
async def test_records_and_replays_are_in_the_pool_of_their_queue(
    office: Office,
    other: MessageStore,
    outcome: Outcome,
    options: JsonObject,
    jobs: int,
    left: set[str],
) -> None:
    """More deliveries than a failing receiver takes in a minute are parked, with a replay in the outbox."""
    office.sink.answers[RECEIVER] = always(outcome)
    await office.subscribe(RECEIVER, queue=FOREIGN, options=options)
    bodies = [b"%d" % number for number in range(jobs)]
    # As of a queue that was moved: jobs of its former pool are done there, and leave nothing behind.
    await owe(office, office.storage.store, *bodies, queue=FOREIGN)

    await work_off(office, office.storage.store)

    assert {name.partition(".")[0] for name in await internal(office, other)} == left
    assert await internal(office, office.storage.store) == {}


async def test_a_replay_empties_the_queues_of_its_pool_and_ends(
    office: Office, other: MessageStore
) -> None:
    office.sink.answers[RECEIVER] = always(TRY_LATER)
    await office.subscribe(RECEIVER, queue=FOREIGN, options={})
    await owe(office, other, *(b"%d" % number for number in range(MANY)), queue=FOREIGN)
    await work_off(office, other)

    del office.sink.answers[RECEIVER]
    for _ in range(10):
        office.clock.advance(seconds=60)
        await work_off(office, other)

    delivered = set(office.sink.bodies(RECEIVER))
    assert delivered == {b"%d" % number for number in range(MANY)}
    for store in office.storage.pools.values():
        assert await internal(office, store) == {}


async def test_a_removed_subscription_leaves_nothing_in_any_pool(
    office: Office, other: MessageStore
) -> None:
    subscription = await office.subscribe(RECEIVER)
    for store in office.storage.pools.values():
        for ref in queues_of_subscription(subscription.id):
            await put(office, store, ref, NewMessage(b"{}", ttl=60))

    await office.storage.subscriptions.delete(QUEUE, subscription.id)

    for store in office.storage.pools.values():
        assert await internal(office, store) == {}


async def test_leftovers_of_a_removed_subscription_are_found_in_any_pool(
    office: Office, other: MessageStore
) -> None:
    office.sink.answers[RECEIVER] = always(GONE)
    subscription = await office.subscribe(RECEIVER, queue=FOREIGN)
    await owe(office, other, b"1", queue=FOREIGN)
    await work_off(office, other)
    [held] = await all_on(office, other, held_ref(subscription.id))
    await office.storage.subscriptions.delete(FOREIGN, subscription.id)
    await put(office, other, held_ref(subscription.id), NewMessage(held, ttl=60))
    forgotten = []

    async def forget(queue: QueueRef, subscription_id: str) -> None:
        forgotten.append(subscription_id)

    await leftovers.remove(office.storage, forget, clock=office.clock, stop=Stop())

    assert forgotten == [subscription.id]


async def test_the_backlog_counts_what_is_owed_in_all_pools(
    office: Office, other: MessageStore
) -> None:
    subscription = await office.subscribe(RECEIVER)
    for store in office.storage.pools.values():
        await owe(office, store, b"1")
        for ref in (parked_ref(subscription.id), held_ref(subscription.id), POISON_REF):
            await put(office, store, ref, NewMessage(b"{}", ttl=60))

    backlog = await count_owed(office.storage, office.settings, office.clock.now())

    assert (backlog.parked, backlog.held, backlog.poison) == (2, 2, 2)
    assert sum(part.count for part in backlog.owed) == 2
    partitions = await partitions_in_use(office.storage, office.settings)
    parts = [(part.queue, part.partition) for part in backlog.owed]
    assert len(parts) == len(set(parts)) == len({each.number for each in partitions}) * 2


async def test_what_the_service_leaves_for_a_subscription_is_in_the_pool_of_its_queue(
    office: Office, other: MessageStore
) -> None:
    rung = LocalDoorbell()
    bell = rung.bell(Partition(OTHER.pool, 0))
    service = Service(office.storage, office.settings, office.clock, rung, KINDS)
    subscription = await office.subscribe(RECEIVER, queue=FOREIGN)

    await subscriptions.change(
        service, FOREIGN, subscription.id, ttl=600, confirm_at=lambda _: "/confirm"
    )

    assert await internal(office, other) == {outbox_ref(OTHER).name: 1}
    assert await internal(office, office.storage.store) == {}
    assert bell.is_set()


async def test_jobs_put_aside_are_given_back_to_their_own_pool(
    office: Office, other: MessageStore
) -> None:
    await owe(office, other, b"1")
    [job] = await all_on(office, other, outbox_ref(OTHER))
    await other.heads.drop_internal([outbox_ref(OTHER)])
    await put(office, other, POISON_REF, NewMessage(job, ttl=60))
    now = office.clock.now()

    async for what, message in put_aside(other, job=None, now=now):
        await give_back(other, what, message, settings=office.settings, now=now)

    assert await internal(office, other) == {outbox_ref(OTHER).name: 1}
    assert await internal(office, office.storage.store) == {}


async def test_undelivered_messages_are_listed_from_the_pool_of_the_queue(
    office: Office, other: MessageStore
) -> None:
    subscription = await office.subscribe(RECEIVER, queue=FOREIGN)
    office.sink.answers[RECEIVER] = always(REFUSED)
    message = NewMessage(body=b"1", ttl=3600)
    [(ref, job)] = fan_out_jobs(FOREIGN, ["1"], [message], settings=office.settings)
    await put(office, other, ref, job)
    await work_off(office, other)
    service = Service(office.storage, office.settings, office.clock, LocalDoorbell(), KINDS)

    given_up = await subscriptions.undelivered(
        service, FOREIGN, subscription.id, marker=None, limit=None
    )

    assert [each.record.message_id for each in given_up] == ["1"]
