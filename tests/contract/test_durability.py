"""Acknowledged writes are there after the store was closed and opened again."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.clock import START
from tests.contract.steps import (
    OUTBOX,
    after,
    bodies,
    claim,
    everything,
    hold,
    idempotency_key,
    ids,
    page,
    post,
    post_one,
    subscribe,
)
from zaqar_notify.errors import IdempotencyKeyReused, MessageIsClaimed, StorageUnavailable
from zaqar_notify.models import DeadLetter, Posted, Queue, QueueRef
from zaqar_notify.storage.driver import Capability
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import open_storage

pytestmark = pytest.mark.needs(Capability.DURABILITY)


async def reopen(storage: Storage, store_uri: str) -> Storage:
    await storage.close()
    return await open_storage(store_uri)


async def test_queues_messages_and_subscriptions_survive(store_uri: str, queue: QueueRef) -> None:
    storage = await open_storage(store_uri)
    await storage.queues.create(queue, metadata={"colour": "red"}, now=START)
    subscribed = await subscribe(storage, queue)
    posted = await post(storage, queue, bodies=["a", "b"], ttl=300)
    await post(storage, queue, bodies=["delayed"], delay=60)
    before = await everything(storage, queue)
    jobs_before = await everything(storage, OUTBOX)

    storage = await reopen(storage, store_uri)

    assert await storage.queues.get(queue) == Queue(queue, {"colour": "red"}, START)
    assert await everything(storage, queue) == before
    assert ids(await page(storage, queue)) == posted.ids
    assert await everything(storage, OUTBOX) == jobs_before
    assert len(jobs_before) == 2
    assert await storage.subscriptions.get(queue, subscribed.id, now=START) == subscribed
    assert (await post(storage, queue, bodies=["c"])).owes_deliveries is True
    await storage.close()


async def test_claims_and_claim_counts_survive(store_uri: str, queue: QueueRef) -> None:
    storage = await open_storage(store_uri)
    message_id = await post_one(storage, queue, "a")
    held = await hold(storage, queue, ttl=60)

    storage = await reopen(storage, store_uri)

    assert await storage.claims.get(queue, held.id, now=after(59.999)) == held
    with pytest.raises(MessageIsClaimed):
        await storage.messages.delete(queue, message_id, claim_id=None, now=after(59.999))
    assert await claim(storage, queue, now=after(59.999)) is None
    again = await hold(storage, queue, now=after(60))
    assert again.messages[0].claim_count == 2
    await storage.close()


async def test_deletions_and_releases_survive(store_uri: str, queue: QueueRef) -> None:
    storage = await open_storage(store_uri)
    posted = await post(storage, queue, bodies=["deleted", "released", "popped", "kept"])
    held = await hold(storage, queue, limit=2)
    await storage.messages.pop(queue, limit=1, now=START)
    await storage.messages.delete(queue, posted.ids[0], claim_id=held.id, now=START)
    await storage.claims.release(queue, held.id, now=START)

    storage = await reopen(storage, store_uri)

    assert bodies(await page(storage, queue)) == ["released", "kept"]
    assert await storage.claims.get(queue, held.id, now=START) is None
    await storage.close()


async def test_dead_letters_survive(store_uri: str, queue: QueueRef) -> None:
    storage = await open_storage(store_uri)
    rule = DeadLetter(queue=QueueRef(queue.project, "dead"), max_claim_count=0, ttl=None)
    message_id = await post_one(storage, queue, "a")
    await claim(storage, queue, dead_letter=rule)

    storage = await reopen(storage, store_uri)

    assert ids(await page(storage, rule.queue)) == [message_id]
    assert await everything(storage, queue) == []
    await storage.close()


async def test_idempotency_keys_survive(store_uri: str, queue: QueueRef) -> None:
    storage = await open_storage(store_uri)
    first = await post(storage, queue, bodies=["a"], key=idempotency_key(fingerprint=b"of a"))

    storage = await reopen(storage, store_uri)

    again = await post(storage, queue, bodies=["a"], key=idempotency_key(fingerprint=b"of a"))
    assert again.ids == first.ids
    with pytest.raises(IdempotencyKeyReused):
        await post(storage, queue, bodies=["b"], key=idempotency_key(fingerprint=b"of b"))
    assert bodies(await page(storage, queue)) == ["a"]
    await storage.close()


async def test_a_deleted_queue_stays_deleted(store_uri: str, queue: QueueRef) -> None:
    storage = await open_storage(store_uri)
    await post(storage, queue, bodies=["a"])
    await storage.queues.delete(queue, now=START)

    storage = await reopen(storage, store_uri)

    assert await storage.queues.get(queue) is None
    assert await everything(storage, queue) == []
    await storage.close()


async def test_a_purged_queue_stays_empty(store_uri: str, queue: QueueRef) -> None:
    storage = await open_storage(store_uri)
    await post(storage, queue, bodies=["a"])
    await storage.messages.purge(queue, now=START)

    storage = await reopen(storage, store_uri)

    assert await storage.queues.get(queue) is not None
    assert await everything(storage, queue) == []
    await storage.close()


async def test_positions_go_on_after_the_newest_messages_were_deleted(
    store_uri: str, queue: QueueRef
) -> None:
    storage = await open_storage(store_uri)
    posted = await post(storage, queue, bodies=["a", "b", "c"])
    marker = (await page(storage, queue)).marker
    await storage.messages.delete_many(queue, posted.ids, claim_ids=None, now=START)

    storage = await reopen(storage, store_uri)
    later = await post(storage, queue, bodies=["d"])

    assert bodies(await page(storage, queue, marker=marker)) == ["d"]
    assert bodies(await page(storage, queue, marker=posted.ids[-1])) == ["d"]
    assert set(later.ids).isdisjoint(posted.ids)
    await storage.close()


async def test_positions_go_on_after_the_queue_was_deleted_and_came_back(
    store_uri: str, queue: QueueRef
) -> None:
    storage = await open_storage(store_uri)
    posted = await post(storage, queue, bodies=["a", "b", "c"])
    marker = (await page(storage, queue)).marker
    await storage.queues.delete(queue, now=START)

    storage = await reopen(storage, store_uri)
    await storage.sweep(now=START, limit=1000)
    await post(storage, queue, bodies=["d"])

    assert bodies(await page(storage, queue, marker=marker)) == ["d"]
    assert bodies(await page(storage, queue, marker=posted.ids[-1])) == ["d"]
    await storage.close()


async def test_positions_go_on_over_many_openings(store_uri: str, queue: QueueRef) -> None:
    marker = None
    for number in range(5):
        storage = await open_storage(store_uri)
        message_id = await post_one(storage, queue, f"{number}")

        current = await page(storage, queue, marker=marker)

        assert bodies(current) == [f"{number}"]
        marker = current.marker
        await storage.messages.delete(queue, message_id, claim_id=None, now=START)
        await storage.close()


async def test_posts_under_way_when_the_store_closes_are_stored_if_they_returned(
    store_uri: str, queue: QueueRef
) -> None:
    storage = await open_storage(store_uri)
    posts = [
        asyncio.create_task(post(storage, queue, bodies=[f"{number}"] * 2)) for number in range(20)
    ]
    await asyncio.sleep(0)
    await storage.close()
    results = await asyncio.gather(*posts, return_exceptions=True)

    storage = await open_storage(store_uri)

    acknowledged = {f"{n}" for n, result in enumerate(results) if isinstance(result, Posted)}
    refused = [result for result in results if isinstance(result, StorageUnavailable)]
    counts = Counter(bodies(await everything(storage, queue)))
    assert len(acknowledged) + len(refused) == 20
    assert acknowledged <= counts.keys()
    assert set(counts.values()) <= {2}
    await storage.close()
