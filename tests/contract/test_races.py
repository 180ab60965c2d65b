"""Many tasks at once: nothing twice, nothing lost, nothing half done."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Awaitable
from functools import partial

import msgspec
import pytest

from tests.clock import START
from tests.contract.steps import (
    OUTBOX,
    GivenPost,
    RefusedPost,
    after,
    bodies,
    claim,
    everything,
    hold,
    idempotency_key,
    ids,
    new_message,
    page,
    post,
    post_one,
    subscribe,
    together,
)
from zaqar_notify.clock import new_id
from zaqar_notify.errors import IdempotencyKeyReused, SubscriptionExists, ValidationFailed
from zaqar_notify.models import (
    Claim,
    DeadLetter,
    JsonObject,
    NewMessage,
    Posted,
    QueueRef,
    Subscription,
)
from zaqar_notify.storage.driver import Capability
from zaqar_notify.storage.planes import Storage


@pytest.mark.needs(Capability.CLAIMS)
async def test_claims_are_exclusive_and_complete(storage: Storage, queue: QueueRef) -> None:
    """Eight consumers; now and then one gives its claim back, so that others meet its messages."""
    sent = [f"{number}" for number in range(500)]
    await post(storage, queue, bodies=sent)
    held_now: set[str] = set()
    consumed: list[str] = []

    async def consume(seed: int) -> None:
        dice = random.Random(seed)
        while len(consumed) < len(sent):
            held = await claim(storage, queue, limit=dice.randint(1, 10))
            if held is None:
                await asyncio.sleep(0)
                continue
            assert held_now.isdisjoint(ids(held))
            held_now.update(ids(held))
            await asyncio.sleep(0)  # Others have their turn while this one holds.
            held_now.difference_update(ids(held))
            if dice.random() < 0.2:
                await storage.claims.release(queue, held.id, now=START)
            else:
                consumed.extend(bodies(held))
                for message in held.messages:
                    await storage.messages.delete(queue, message.id, claim_id=held.id, now=START)

    await together(*(consume(seed) for seed in range(8)))

    assert sorted(consumed, key=int) == sent
    assert await everything(storage, queue) == []


@pytest.mark.needs(Capability.FIFO)
async def test_one_consumer_among_producers_takes_messages_in_order(
    storage: Storage, queue: QueueRef
) -> None:
    consumed: list[str] = []

    async def produce(name: str) -> None:
        for number in range(30):
            await post(storage, queue, bodies=[f"{name}{number}"])

    async def consume() -> None:
        while len(consumed) < 90:
            held = await claim(storage, queue, limit=4)
            if held is None:
                await asyncio.sleep(0)
            else:
                consumed.extend(bodies(held))
                await storage.messages.delete_many(queue, ids(held), claim_ids=[held.id], now=START)

    await together(produce("a"), produce("b"), produce("c"), consume())

    for name in "abc":
        mine = [body for body in consumed if body.startswith(name)]
        assert mine == [f"{name}{number}" for number in range(30)]


async def test_an_observer_that_pages_misses_nothing_and_sees_each_producer_in_order(
    storage: Storage, queue: QueueRef
) -> None:
    observed: list[str] = []
    producing = 6

    async def produce(name: int) -> None:
        nonlocal producing
        dice = random.Random(name)
        for number in range(40):
            parts = [f"{name}/{number}/{part}" for part in range(dice.randint(1, 3))]
            await post(storage, queue, bodies=parts)
            acknowledged[name] += parts
        producing -= 1

    async def observe() -> None:
        marker = None
        while True:
            is_last_look = producing == 0
            current = await page(storage, queue, marker=marker, limit=7)
            observed.extend(bodies(current))
            marker = current.marker or marker
            if is_last_look and not current.messages:
                return
            await asyncio.sleep(0)

    acknowledged: dict[int, list[str]] = defaultdict(list)
    await together(observe(), *(produce(name) for name in range(producing)))

    for name, sent in acknowledged.items():
        assert [body for body in observed if body.startswith(f"{name}/")] == sent
    assert len(observed) == sum(map(len, acknowledged.values()))
    assert observed == bodies(await everything(storage, queue))


async def test_a_page_asked_for_after_a_post_has_it_however_many_read_meanwhile(
    storage: Storage, queue: QueueRef
) -> None:
    posting = True

    async def read() -> None:
        while posting:
            await page(storage, queue)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as readers:
        for _ in range(8):
            readers.create_task(read())
        for number in range(20):
            await post_one(storage, queue, body=f"{number}")
            assert len((await page(storage, queue, limit=20)).messages) == number + 1
        posting = False


async def test_a_reader_sees_a_post_whole_or_not_at_all(storage: Storage, queue: QueueRef) -> None:
    done = False

    async def produce() -> None:
        nonlocal done
        for number in range(40):
            await post(storage, queue, bodies=[f"{number}"] * 5)
        done = True

    async def observe() -> None:
        while not done:
            seen = Counter(bodies(await everything(storage, queue)))
            assert set(seen.values()) <= {5}
            await asyncio.sleep(0)

    await together(produce(), observe())


async def test_an_observer_of_claimed_messages_misses_none_while_they_change_hands(
    storage: Storage, queue: QueueRef
) -> None:
    """A page that reads free and held messages one after the other could lose one in between."""
    sent = ["a", "b", "c"]
    await post(storage, queue, bodies=sent)
    observing = True

    async def change_hands() -> None:
        while observing:
            held = await claim(storage, queue, limit=3)
            if held is None:
                await asyncio.sleep(0)
            else:
                await storage.claims.release(queue, held.id, now=START)

    async def observe() -> None:
        nonlocal observing
        try:
            for _ in range(500):
                assert bodies(await page(storage, queue, include_claimed=True)) == sent
                await asyncio.sleep(0)
        finally:
            observing = False

    await together(observe(), change_hands(), change_hands())


async def test_concurrent_pops_take_every_message_once(storage: Storage, queue: QueueRef) -> None:
    sent = [f"{number}" for number in range(200)]
    await post(storage, queue, bodies=sent)

    popped = await asyncio.gather(
        *(storage.messages.pop(queue, limit=7, now=START) for _ in range(40))
    )

    assert sorted((body for some in popped for body in bodies(some)), key=int) == sent


async def test_pops_and_claims_do_not_share_a_message(storage: Storage, queue: QueueRef) -> None:
    sent = [f"{number}" for number in range(100)]
    await post(storage, queue, bodies=sent)

    claims = [claim(storage, queue, limit=5) for _ in range(10)]
    pops = [storage.messages.pop(queue, limit=5, now=START) for _ in range(10)]
    claimed, popped = await asyncio.gather(asyncio.gather(*claims), asyncio.gather(*pops))

    taken = [body for held in claimed if held is not None for body in bodies(held)]
    taken += [body for some in popped for body in bodies(some)]
    assert sorted(taken, key=int) == sent


@pytest.mark.needs(Capability.AOD)
async def test_an_expired_claim_goes_to_one_new_holder(storage: Storage, queue: QueueRef) -> None:
    await post(storage, queue, bodies=["a"])
    await hold(storage, queue, ttl=60)

    claims = await asyncio.gather(*(claim(storage, queue, now=after(60)) for _ in range(8)))

    assert [bodies(held) for held in claims if held is not None] == [["a"]]


async def test_poison_moves_once_however_many_claim(storage: Storage, queue: QueueRef) -> None:
    rule = DeadLetter(queue=QueueRef(queue.project, "dead"), max_claim_count=0, ttl=None)
    sent = [f"{number}" for number in range(60)]
    await post(storage, queue, bodies=sent)

    for _ in range(8):
        await asyncio.gather(*(claim(storage, queue, limit=20, dead_letter=rule) for _ in range(8)))

    assert sorted(bodies(await everything(storage, rule.queue)), key=int) == sent
    assert await everything(storage, queue) == []


async def test_concurrent_posts_with_one_key_store_once(storage: Storage, queue: QueueRef) -> None:
    await subscribe(storage, queue)
    key = idempotency_key()

    posts = await asyncio.gather(
        *(post(storage, queue, bodies=["a", "b"], key=key) for _ in range(20))
    )

    assert len({tuple(posted.ids) for posted in posts}) == 1
    assert bodies(await everything(storage, queue)) == ["a", "b"]
    assert len(await everything(storage, OUTBOX)) == 1


async def test_of_concurrent_posts_with_one_key_and_many_fingerprints_one_wins(
    storage: Storage, queue: QueueRef
) -> None:
    results = await asyncio.gather(
        *(
            post(storage, queue, bodies=[f"{n}"], key=idempotency_key(fingerprint=bytes([n])))
            for n in range(10)
        ),
        return_exceptions=True,
    )

    winners = [result for result in results if isinstance(result, Posted)]
    losers = [result for result in results if isinstance(result, IdempotencyKeyReused)]
    assert (len(winners), len(losers)) == (1, 9)
    assert ids(await everything(storage, queue)) == winners[0].ids


async def test_a_refused_post_does_not_touch_those_in_the_same_moment(
    storage: Storage, queue: QueueRef, other_queue: QueueRef
) -> None:
    refused = RefusedPost(ValidationFailed("refused"))
    good: list[Awaitable[object]] = [
        post(storage, queue, bodies=[f"{number}"]) for number in range(10)
    ]
    good.insert(5, storage.post(queue, refused, now=START))
    good.insert(0, storage.post(other_queue, refused, now=START))

    results = await asyncio.gather(*good, return_exceptions=True)

    assert sum(isinstance(result, Posted) for result in results) == 10
    assert sum(isinstance(result, ValidationFailed) for result in results) == 2
    assert sorted(bodies(await everything(storage, queue))) == [f"{n}" for n in range(10)]
    assert await storage.queues.get(other_queue) is None


async def test_a_post_that_fails_by_a_fault_does_not_touch_those_in_the_same_moment(
    storage: Storage, queue: QueueRef
) -> None:
    class Fault(Exception):
        pass

    class FaultyJobs(GivenPost):
        """Fails after its messages were asked for, when a driver may have written them."""

        def jobs(self, *_: object) -> list[tuple[QueueRef, NewMessage]]:
            raise Fault

    await subscribe(storage, queue)
    good: list[Awaitable[object]] = [
        post(storage, queue, bodies=[f"{number}"]) for number in range(10)
    ]
    good.insert(5, storage.post(queue, FaultyJobs([new_message("faulty")]), now=START))

    results = await asyncio.gather(*good, return_exceptions=True)

    assert sum(isinstance(result, Fault) for result in results) == 1
    assert sorted(bodies(await everything(storage, queue))) == [f"{n}" for n in range(10)]
    assert len(await everything(storage, OUTBOX)) == 10


async def test_a_queue_is_created_once(storage: Storage, queue: QueueRef) -> None:
    results = await asyncio.gather(
        *(storage.queues.create(queue, metadata={"by": n}, now=START) for n in range(10))
    )

    assert sorted(results) == [False] * 9 + [True]
    record = await storage.queues.get(queue)
    assert record is not None
    assert record.metadata == {"by": results.index(True)}


async def test_concurrent_updates_of_a_queue_all_count(storage: Storage, queue: QueueRef) -> None:
    def increment(metadata: JsonObject) -> JsonObject:
        return {"count": metadata["count"] + 1}

    await storage.queues.create(queue, metadata={"count": 0}, now=START)

    results = await asyncio.gather(*(storage.queues.update(queue, increment) for _ in range(20)))

    assert sorted(result["count"] for result in results) == list(range(1, 21))
    record = await storage.queues.get(queue)
    assert record is not None
    assert record.metadata == {"count": 20}


async def test_concurrent_unconfirmed_subscriptions_of_one_subscriber_are_one(
    storage: Storage, queue: QueueRef
) -> None:
    created = await asyncio.gather(*(subscribe(storage, queue, confirmed=False) for _ in range(10)))

    assert len({one.id for one in created}) == 1
    listed = await storage.subscriptions.list(queue, marker=None, limit=100, now=START)
    assert [one.id for one in listed] == [created[0].id]


async def test_of_concurrent_confirmed_subscriptions_of_one_subscriber_one_is_created(
    storage: Storage, queue: QueueRef
) -> None:
    results = await asyncio.gather(
        *(subscribe(storage, queue) for _ in range(10)), return_exceptions=True
    )

    created = [result for result in results if isinstance(result, Subscription)]
    refused = [result for result in results if isinstance(result, SubscriptionExists)]
    assert (len(created), len(refused)) == (1, 9)
    listed = await storage.subscriptions.list(queue, marker=None, limit=100, now=START)
    assert listed == created


async def test_concurrent_updates_of_a_subscription_all_count(
    storage: Storage, queue: QueueRef
) -> None:
    created = await subscribe(storage, queue)

    def rotate(one: Subscription) -> Subscription:
        return msgspec.structs.replace(one, secret_generation=one.secret_generation + 1)

    await asyncio.gather(
        *(storage.subscriptions.update(queue, created.id, rotate, now=START) for _ in range(20))
    )

    found = await storage.subscriptions.get(queue, created.id, now=START)
    assert found is not None
    assert found.secret_generation == 20


async def test_a_post_after_a_subscription_was_acknowledged_gets_its_job(
    storage: Storage, queue: QueueRef
) -> None:
    """However busy the queue is at that moment."""

    async def post_in_the_background() -> None:
        for _ in range(50):
            await post(storage, queue, bodies=["noise"])

    async def subscribe_and_post() -> Posted:
        for _ in range(20):
            await asyncio.sleep(0)
        await subscribe(storage, queue)
        return await post(storage, queue, bodies=["mine"])

    _, mine = await asyncio.gather(post_in_the_background(), subscribe_and_post())

    assert mine.owes_deliveries is True
    assert any(mine.ids[0] in body.body.decode() for body in await everything(storage, OUTBOX))


async def test_a_new_setting_acts_on_the_very_next_post(storage: Storage, queue: QueueRef) -> None:
    def change_to(version: int, _metadata: JsonObject) -> JsonObject:
        return {"_max_claim_count": version}

    await storage.queues.create(queue, metadata={"_max_claim_count": 0}, now=START)

    async def noise() -> None:
        for _ in range(30):
            await post(storage, queue, bodies=["noise"])

    async def change_and_post() -> None:
        for version in range(1, 20):
            await storage.queues.update(queue, partial(change_to, version))
            given = GivenPost([new_message("a")])
            await storage.post(queue, given, now=START)
            assert given.applied_rules[-1] == {"_max_claim_count": version}

    await asyncio.gather(noise(), noise(), change_and_post())


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 13])
async def test_a_cancelled_post_is_done_or_not_done(
    storage: Storage, queue: QueueRef, turns: int
) -> None:
    await subscribe(storage, queue)
    posts = [
        asyncio.create_task(post(storage, queue, bodies=[f"{number}"] * 3)) for number in range(12)
    ]
    for _ in range(turns):
        await asyncio.sleep(0)

    for task in posts[::2]:
        task.cancel()
    results = await asyncio.gather(*posts, return_exceptions=True)
    await post(storage, queue, bodies=["still works"] * 3)

    counts = Counter(bodies(await everything(storage, queue)))
    assert set(counts.values()) == {3}
    acknowledged = [f"{n}" for n, result in enumerate(results) if isinstance(result, Posted)]
    assert {*acknowledged, "still works"} <= counts.keys()
    assert len(acknowledged) >= 6
    assert len(await everything(storage, OUTBOX)) == len(counts)


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 13])
async def test_a_cancelled_claim_is_done_or_not_done(
    storage: Storage, queue: QueueRef, turns: int
) -> None:
    sent = [f"{number}" for number in range(20)]
    await post(storage, queue, bodies=sent)
    claim_ids = [new_id() for _ in range(4)]
    claims = [
        asyncio.create_task(
            storage.claim(queue, claim_id=claim_id, ttl=60, grace=60, limit=5, now=START)
        )
        for claim_id in claim_ids
    ]
    for _ in range(turns):
        await asyncio.sleep(0)

    for task in claims[::2]:
        task.cancel()
    await asyncio.gather(*claims, return_exceptions=True)

    held = [await storage.claims.get(queue, claim_id, now=START) for claim_id in claim_ids]
    done = [one for one in held if isinstance(one, Claim)]
    assert [len(one.messages) for one in done] == [5] * len(done)
    assert len(done) >= 2
    free = bodies(await page(storage, queue))
    taken = [body for one in done for body in bodies(one)]
    assert sorted(free + taken, key=int) == sent
    rest = await claim(storage, queue, limit=20)
    assert (bodies(rest) if rest else []) == free


async def test_deletes_of_one_message_at_once_all_succeed(
    storage: Storage, queue: QueueRef
) -> None:
    message_id = await post_one(storage, queue, "a")
    held = await hold(storage, queue)

    await asyncio.gather(
        *(
            storage.messages.delete(queue, message_id, claim_id=held.id, now=START)
            for _ in range(10)
        )
    )

    assert await everything(storage, queue) == []


async def test_posts_during_a_purge_are_purged_or_stay_whole(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["before"])

    posts = [post(storage, queue, bodies=[f"{number}"] * 2) for number in range(10)]
    await asyncio.gather(*posts[:5], storage.messages.purge(queue, now=START), *posts[5:])
    await post(storage, queue, bodies=["later"])

    left = Counter(bodies(await everything(storage, queue)))
    assert left.pop("later") == 1
    assert set(left.values()) <= {2}
    assert "before" not in left


async def test_posts_during_a_deletion_are_stored_on_a_queue_that_exists_or_not_at_all(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["before"])

    posts = [post(storage, queue, bodies=[f"{number}"]) for number in range(10)]
    await asyncio.gather(*posts[:5], storage.queues.delete(queue, now=START), *posts[5:])

    left = bodies(await everything(storage, queue))
    assert "before" not in left
    if left:
        assert await storage.queues.get(queue) is not None
    await post(storage, queue, bodies=["later"])
    assert bodies(await everything(storage, queue)) == [*left, "later"]
