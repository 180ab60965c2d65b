"""Two stores on one database, as two processes have them."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace
from pymongo.errors import AutoReconnect

from tests.clock import START
from tests.contract.steps import (
    GivenPost,
    after,
    bodies,
    claim,
    everything,
    hold,
    ids,
    page,
    post,
    subscribe,
)
from tests.mongodb.opened import store_of
from tests.mongodb.stops import kill_in_insert, refuse_claimed, set_deadline
from zaqar_notify.errors import ClaimNotHeld, StorageUnavailable
from zaqar_notify.models import DeadLetter, NewMessage, Origin, Posted, QueueRef
from zaqar_notify.storage.mongodb import reserving
from zaqar_notify.storage.mongodb.leasing import Leasing
from zaqar_notify.storage.mongodb.posting import Posting
from zaqar_notify.storage.planes import Storage

SOON_SECONDS = 3.0
"""A look comes within a second; this leaves room for a busy machine."""
IN_TIME_SECONDS = 30.0


@pytest.mark.parametrize("exclusive", [True, False])
async def test_a_post_of_another_process_wakes(
    storage: Storage, other_storage: Storage, queue: QueueRef, exclusive: bool
) -> None:
    with storage.messages.watch(queue, exclusive=exclusive) as watch:
        assert bodies(await page(storage, queue)) == []
        waiting = asyncio.create_task(watch.changed(timeout_seconds=SOON_SECONDS))
        await asyncio.sleep(0)

        await post(other_storage, queue, bodies=["a"])

        assert await waiting is True
        assert bodies(await page(storage, queue)) == ["a"]


async def test_a_post_of_another_process_between_look_and_wait_is_not_missed(
    storage: Storage, other_storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["before"])
    await hold(storage, queue)
    with storage.messages.watch(queue, exclusive=True) as watch:
        assert await claim(storage, queue) is None

        await post(other_storage, queue, bodies=["a"])

        assert await watch.changed(timeout_seconds=SOON_SECONDS) is True


async def test_a_release_in_another_process_wakes(
    storage: Storage, other_storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["a"])
    held = await hold(other_storage, queue)
    with storage.messages.watch(queue, exclusive=True) as watch:
        assert await claim(storage, queue) is None

        await other_storage.claims.release(queue, held.id, now=START)

        assert await watch.changed(timeout_seconds=SOON_SECONDS) is True


async def test_the_end_of_another_process_s_delay_wakes(
    storage: Storage, other_storage: Storage, queue: QueueRef
) -> None:
    with storage.messages.watch(queue, exclusive=True) as watch:
        assert await claim(storage, queue, now=datetime.now(UTC)) is None
        waiting = asyncio.create_task(watch.changed(timeout_seconds=SOON_SECONDS))
        await asyncio.sleep(0)

        await post(other_storage, queue, bodies=["a"], delay=1, now=datetime.now(UTC))

        assert await waiting is True
        async with asyncio.timeout(SOON_SECONDS):
            while await claim(storage, queue, now=datetime.now(UTC)) is None:
                assert await watch.changed(timeout_seconds=SOON_SECONDS)


async def test_the_lapse_of_another_process_s_claim_wakes_a_consumer_that_lost_to_it(
    storage: Storage, other_storage: Storage, queue: QueueRef
) -> None:
    with storage.messages.watch(queue, exclusive=True) as watch:
        assert await claim(storage, queue, now=datetime.now(UTC)) is None
        waiting = asyncio.create_task(watch.changed(timeout_seconds=SOON_SECONDS))
        await asyncio.sleep(0)
        await post(other_storage, queue, bodies=["a"], now=datetime.now(UTC))
        await hold(other_storage, queue, ttl=1, now=datetime.now(UTC))

        assert await waiting is True
        async with asyncio.timeout(SOON_SECONDS):
            while await claim(storage, queue, now=datetime.now(UTC)) is None:
                assert await watch.changed(timeout_seconds=SOON_SECONDS)


async def test_claims_of_two_processes_are_exclusive_and_complete(
    storage: Storage, other_storage: Storage, queue: QueueRef
) -> None:
    sent = [f"{number}" for number in range(400)]
    await post(storage, queue, bodies=sent)
    held_now: set[str] = set()
    consumed: list[str] = []

    async def consume(seed: int) -> None:
        dice = random.Random(seed)
        mine = (storage, other_storage)[seed % 2]
        while len(consumed) < len(sent):
            held = await claim(mine, queue, limit=dice.randint(1, 10))
            if held is None:
                continue
            assert held_now.isdisjoint(ids(held))
            held_now.update(ids(held))
            await asyncio.sleep(0)
            held_now.difference_update(ids(held))
            if dice.random() < 0.2:
                await mine.claims.release(queue, held.id, now=START)
            else:
                consumed.extend(bodies(held))
                await mine.messages.delete_many(queue, ids(held), claim_ids=[held.id], now=START)

    async with asyncio.timeout(IN_TIME_SECONDS):
        await asyncio.gather(*(consume(seed) for seed in range(8)))

    assert sorted(consumed, key=int) == sent
    assert await everything(storage, queue) == []


async def test_pops_of_two_processes_take_every_message_once(
    storage: Storage, other_storage: Storage, queue: QueueRef
) -> None:
    sent = [f"{number}" for number in range(100)]
    await post(storage, queue, bodies=sent)

    popped: list[str] = []
    while len(popped) < len(sent):
        for some in await asyncio.gather(
            *(one.messages.pop(queue, limit=7, now=START) for one in (storage, other_storage))
        ):
            popped += bodies(some)

    assert sorted(popped, key=int) == sent


async def test_what_was_popped_is_answered_though_the_store_fails_then(
    storage: Storage, queue: QueueRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    await post(storage, queue, bodies=["expired"], ttl=60)
    await post(storage, queue, bodies=["a"])

    async def fail(*_: object, **__: object) -> None:
        raise AutoReconnect("the connection went")

    monkeypatch.setattr(Leasing, "remove_expired", fail)

    popped = await storage.messages.pop(queue, limit=2, now=after(61))

    assert bodies(popped) == ["a"]


async def test_a_setting_or_subscription_of_one_process_acts_on_the_next_post_of_another(
    storage: Storage, other_storage: Storage, queue: QueueRef
) -> None:
    before = await post(storage, queue, bodies=["before"])
    subscribed = await subscribe(other_storage, queue)
    during = await post(storage, queue, bodies=["during"])
    await other_storage.subscriptions.delete(queue, subscribed.id)
    later = await post(storage, queue, bodies=["later"])

    owed = [posted.owes_deliveries for posted in (before, during, later)]
    assert owed == [False, True, False]


async def test_a_queue_deleted_by_one_process_is_empty_for_the_other_at_once(
    storage: Storage, other_storage: Storage, queue: QueueRef
) -> None:
    for _ in range(5):
        await post(storage, queue, bodies=["a"])
        await other_storage.queues.delete(queue, now=START)

        assert await claim(storage, queue) is None
        assert bodies(await page(storage, queue)) == []


async def test_subscriptions_that_come_and_go_at_once_leave_the_queue_in_the_know(
    storage: Storage, other_storage: Storage, queue: QueueRef
) -> None:
    """A deletion that looks for remaining messages must not overlook one that is just being made."""
    for number in range(10):
        old = await subscribe(storage, queue, f"http://old/{number}")
        _, new = await asyncio.gather(
            storage.subscriptions.delete(queue, old.id),
            subscribe(other_storage, queue, f"http://new/{number}"),
        )

        assert (await post(storage, queue, bodies=["a"])).owes_deliveries is True
        await storage.subscriptions.delete(queue, new.id)
        assert (await post(storage, queue, bodies=["a"])).owes_deliveries is False


async def test_a_subscription_whose_process_died_right_after_storing_it_is_notified(
    storage: Storage,
    other_storage: Storage,
    queue: QueueRef,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    collection = store_of(storage).collections.subscriptions
    monkeypatch.setattr(collection, "insert_one", and_then_die(collection.insert_one))
    with pytest.raises(StorageUnavailable):
        await subscribe(storage, queue)

    assert (await post(other_storage, queue, bodies=["a"])).owes_deliveries is True


async def test_a_subscription_prolonged_by_a_process_that_died_right_after_is_notified(
    storage: Storage,
    other_storage: Storage,
    queue: QueueRef,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = await subscribe(storage, queue, ttl=60)
    collection = store_of(storage).collections.subscriptions
    monkeypatch.setattr(collection, "replace_one", and_then_die(collection.replace_one))
    with pytest.raises(StorageUnavailable):
        await storage.subscriptions.update(
            queue, made.id, lambda it: replace(it, ttl=600, expires_at=after(600)), now=START
        )

    posted = await post(other_storage, queue, bodies=["a"], now=after(61))
    assert posted.owes_deliveries is True


async def test_claims_that_won_are_answered_though_the_poison_can_not_be_put_away(
    storage: Storage, queue: QueueRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    await post(storage, queue, bodies=["poison"])
    await hold(storage, queue, ttl=1)
    await post(storage, queue, bodies=["good"])
    rule = DeadLetter(queue=QueueRef(queue.project, "dead"), max_claim_count=1, ttl=None)

    async def fail(*_: object, **__: object) -> None:
        raise StorageUnavailable("no answer")

    monkeypatch.setattr(Posting, "move", fail)

    held = await hold(storage, queue, dead_letter=rule, now=after(2))

    assert bodies(held) == ["good"]


async def test_a_move_whose_copy_was_never_sealed_is_made_anew(
    storage: Storage,
    other_storage: Storage,
    queue: QueueRef,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first reader of the dead-letter queue takes such a copy away."""
    set_deadline(monkeypatch, 200)
    rule = DeadLetter(queue=QueueRef(queue.project, "dead"), max_claim_count=0, ttl=None)
    await post(storage, queue, bodies=["poison"])
    messages = store_of(storage).collections.messages
    insert = messages.insert_many

    async def insert_the_copy(documents: list[dict[str, object]], **_: object) -> None:
        await insert(documents[:1])
        raise AutoReconnect("the connection went")

    with monkeypatch.context() as broken:
        broken.setattr(messages, "insert_many", insert_the_copy)
        with pytest.raises(StorageUnavailable):
            await claim(storage, queue, dead_letter=rule)
    await asyncio.sleep(0.3)  # Until the deadline of its block has passed.

    assert await claim(storage, queue, dead_letter=rule, now=after(60)) is None

    assert await everything(other_storage, queue, now=after(60)) == []
    assert bodies(await everything(other_storage, rule.queue, now=after(60))) == ["poison"]


async def test_a_move_that_is_larger_than_a_block_is_given_a_larger_one(
    storage: Storage, queue: QueueRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reserving, "BLOCK_POSITIONS", 4)
    rule = DeadLetter(queue=QueueRef(queue.project, "dead"), max_claim_count=0, ttl=None)
    sent = [f"{number}" for number in range(6)]
    await post(storage, queue, bodies=sent)

    assert await claim(storage, queue, dead_letter=rule) is None

    assert bodies(await everything(storage, rule.queue)) == sent


async def test_a_move_that_was_broken_off_brings_its_message_once(
    storage: Storage, queue: QueueRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = DeadLetter(queue=QueueRef(queue.project, "dead"), max_claim_count=0, ttl=None)
    await post(storage, queue, bodies=["poison"])
    await break_off_a_move(storage, queue, rule, monkeypatch)

    assert await claim(storage, queue, dead_letter=rule, now=after(59.999)) is None
    assert await claim(storage, queue, dead_letter=rule, now=after(60)) is None

    assert await everything(storage, queue, now=after(60)) == []
    dead = bodies(await everything(storage, rule.queue, now=after(60)))
    assert Counter(dead) == {"poison": 1}


@pytest.mark.parametrize(("name", "most"), [("another", 0), ("dead", 9), ("none", None)])
async def test_a_move_that_was_broken_off_goes_where_its_copy_is_under_any_later_rule(
    storage: Storage,
    queue: QueueRef,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    most: int | None,
) -> None:
    rule = DeadLetter(QueueRef(queue.project, "dead"), max_claim_count=0, ttl=500)
    other = QueueRef(queue.project, name)
    later = None if most is None else DeadLetter(other, most, ttl=None)
    await post(storage, queue, bodies=["poison"])
    await break_off_a_move(storage, queue, rule, monkeypatch)

    assert await claim(storage, queue, dead_letter=later, now=after(60)) is None

    assert await everything(storage, queue, now=after(60)) == []
    [copy] = await everything(storage, rule.queue, now=after(60))
    assert (bodies([copy]), copy.ttl) == (["poison"], 500)
    if other != rule.queue:
        assert await everything(storage, other, now=after(60)) == []


async def test_a_message_whose_move_was_broken_off_is_not_popped_and_can_be_deleted(
    storage: Storage, queue: QueueRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = DeadLetter(QueueRef(queue.project, "dead"), max_claim_count=0, ttl=None)
    [message_id] = (await post(storage, queue, bodies=["poison"])).ids
    await break_off_a_move(storage, queue, rule, monkeypatch)

    assert await storage.messages.pop(queue, limit=1, now=after(60)) == []
    await storage.messages.delete_many(queue, [message_id], claim_ids=[], now=after(60))
    assert await everything(storage, queue, now=after(60)) == []


async def test_a_post_whose_place_is_taken_fails_alone(storage: Storage, queue: QueueRef) -> None:
    """A message of another store whose id is on the queue still."""
    origin = Origin("0123456789abcdef0123456789abcdef", START)
    carried = GivenPost([NewMessage(b'"carried"', ttl=300, origin=origin)])
    await post(storage, queue, bodies=["first"])
    await storage.post(queue, carried, now=START)

    refused, posted = await asyncio.gather(
        storage.post(queue, carried, now=START),
        post(storage, queue, bodies=["beside"]),
        return_exceptions=True,
    )

    assert isinstance(refused, StorageUnavailable)
    assert isinstance(posted, Posted)
    assert bodies(await everything(storage, queue)) == ["first", "carried", "beside"]


async def break_off_a_move(
    storage: Storage, queue: QueueRef, rule: DeadLetter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy is made; the connection goes before the original is removed."""
    messages = store_of(storage).collections.messages
    with monkeypatch.context() as broken:
        broken.setattr(messages, "delete_many", refuse_claimed(messages.delete_many))
        with pytest.raises(StorageUnavailable):
            await claim(storage, queue, dead_letter=rule)


async def test_no_process_removes_copies_that_another_move_relies_on(
    storage: Storage,
    other_storage: Storage,
    queue: QueueRef,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither the writer that sleeps after their insert, nor a reader that ends its block."""
    set_deadline(monkeypatch, 200)
    dead = QueueRef(queue.project, "dead")
    await storage.queues.create(dead, metadata={}, now=START)
    await post(storage, queue, bodies=["poison"])
    held = await store_of(storage).collections.messages.find({"client": "producer"}).to_list()
    moving = store_of(storage)._posting.move(dead, held, ttl=None, now=START)
    await kill_in_insert(storage, moving, behind=len(held))
    copies = (
        await store_of(storage).collections.messages.find({"moved_id": {"$exists": True}}).to_list()
    )

    await store_of(other_storage)._posting.move(dead, held, ttl=None, now=START)
    await store_of(storage)._posting._remove(copies)

    assert bodies(await everything(storage, dead)) == ["poison"]


async def test_a_deletion_that_stops_halfway_holds_nobody_up(
    storage: Storage,
    other_storage: Storage,
    queue: QueueRef,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    posted = await post(storage, queue, bodies=["a", "b", "c"])
    has_stopped = asyncio.Event()

    async def stop(*_: object, **__: object) -> None:
        has_stopped.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(store_of(storage).collections.messages, "delete_many", stop)
    deletion = asyncio.create_task(
        storage.messages.delete_many(queue, posted.ids[:2], claim_ids=[], now=START)
    )
    await has_stopped.wait()
    deletion.cancel()

    assert bodies(await hold(other_storage, queue, ttl=300)) == ["c"]
    assert await claim(other_storage, queue, now=after(59.999)) is None
    assert bodies(await hold(other_storage, queue, now=after(60))) == ["a", "b"]


async def test_of_a_deletion_and_a_claim_at_the_same_time_one_has_all(
    storage: Storage, other_storage: Storage, queue: QueueRef
) -> None:
    for _ in range(20):
        posted = await post(storage, queue, bodies=["a", "b", "c"])

        refused, claimed = await asyncio.gather(
            storage.messages.delete_many(queue, posted.ids, claim_ids=[], now=START),
            claim(other_storage, queue, limit=1),
            return_exceptions=True,
        )

        there = bodies(await everything(storage, queue))
        if claimed is None:
            assert (refused, there) == (None, [])
        else:
            assert isinstance(refused, ClaimNotHeld)
            assert there == ["a", "b", "c"]
        await storage.messages.purge(queue, now=START)


def and_then_die(step: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
    """The step is made, and nothing after it."""

    async def made(*arguments: object, **options: object) -> object:
        await step(*arguments, **options)
        raise StorageUnavailable("the process has ended")

    return made
