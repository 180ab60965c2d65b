"""Leases of no time, and the lease of one message among those of a claim."""

from __future__ import annotations

import asyncio

import pytest

from tests.clock import START
from tests.contract.steps import (
    ILL_FORMED_IDS,
    after,
    bodies,
    claim,
    get_one,
    hold,
    ids,
    post,
    post_one,
)
from zaqar_notify.errors import ClaimNotHeld
from zaqar_notify.models import Claim, DeadLetter, QueueRef
from zaqar_notify.storage.driver import Capability
from zaqar_notify.storage.planes import Storage

pytestmark = pytest.mark.needs(Capability.CLAIMS)


async def renew_one(
    storage: Storage,
    queue: QueueRef,
    held: Claim,
    message_id: str,
    *,
    ttl: int,
    grace: int = 0,
    at: float = 0,
) -> None:
    await storage.claims.renew_message(
        queue, held.id, message_id, ttl=ttl, grace=grace, now=after(at)
    )


async def test_a_lease_of_no_time_counts_and_holds_nothing(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["a"])

    first = await hold(storage, queue, ttl=0)
    second = await hold(storage, queue, ttl=0)

    assert [message.claim_count for message in (*first.messages, *second.messages)] == [1, 2]
    assert await storage.claims.get(queue, first.id, now=START) is None
    await storage.messages.delete(queue, first.messages[0].id, claim_id=None, now=START)


async def test_a_lease_renewed_to_no_time_ends_at_once(storage: Storage, queue: QueueRef) -> None:
    await post(storage, queue, bodies=["a", "b"])
    held = await hold(storage, queue)

    await storage.claims.renew(queue, held.id, ttl=0, grace=0, now=after(1))

    assert bodies(await hold(storage, queue, now=after(1))) == ["a", "b"]


@pytest.mark.parametrize("ttl", [10, 300])
async def test_one_message_s_lease_is_renewed_and_the_others_keep_theirs(
    storage: Storage, queue: QueueRef, ttl: int
) -> None:
    await post(storage, queue, bodies=["one", "other"])
    held = await hold(storage, queue, ttl=60)
    one, other = ids(held)

    await renew_one(storage, queue, held, one, ttl=ttl, at=30)

    ends = {one: 30 + ttl, other: 60}
    for message_id, end in ends.items():
        before = await get_one(storage, queue, message_id, now=after(end - 0.001))
        at_end = await get_one(storage, queue, message_id, now=after(end))
        assert (before.claim_id, at_end.claim_id) == (held.id, None)
        assert before.claim_count == 1
    first = min(ends, key=lambda message_id: ends[message_id])
    assert ids(await hold(storage, queue, now=after(ends[first]))) == [first]


async def test_a_claim_lives_as_long_as_the_last_of_its_leases(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["one", "other"])
    held = await hold(storage, queue, ttl=60)
    one, _ = ids(held)

    await renew_one(storage, queue, held, one, ttl=300)

    for seconds, left in ((0, ["one", "other"]), (60, ["one"]), (299.999, ["one"])):
        found = await storage.claims.get(queue, held.id, now=after(seconds))
        assert found is not None
        assert (found.ttl, found.expires_at) == (60, after(300))
        assert bodies(found) == left
    assert await storage.claims.get(queue, held.id, now=after(300)) is None


async def test_a_message_whose_lease_was_renewed_is_deleted_under_its_claim(
    storage: Storage, queue: QueueRef
) -> None:
    message_id = await post_one(storage, queue, "a")
    held = await hold(storage, queue, ttl=60)

    await renew_one(storage, queue, held, message_id, ttl=300)
    await storage.messages.delete(queue, message_id, claim_id=held.id, now=after(200))

    assert await storage.messages.get(queue, [message_id], now=after(200)) == []


async def test_a_message_given_no_time_is_visible_at_once_and_counted(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["one", "other"])
    held = await hold(storage, queue)
    one, _ = ids(held)

    await renew_one(storage, queue, held, one, ttl=0)

    again = await hold(storage, queue)
    assert [(message.id, message.claim_count) for message in again.messages] == [(one, 2)]
    kept = await storage.claims.get(queue, held.id, now=START)
    assert kept is not None
    assert bodies(kept) == ["other"]


async def test_giving_the_last_message_no_time_ends_the_claim(
    storage: Storage, queue: QueueRef
) -> None:
    message_id = await post_one(storage, queue, "a")
    held = await hold(storage, queue)

    await renew_one(storage, queue, held, message_id, ttl=0)

    assert await storage.claims.get(queue, held.id, now=START) is None


async def test_a_message_given_no_time_wakes_a_consumer_who_waits(
    storage: Storage, queue: QueueRef
) -> None:
    message_id = await post_one(storage, queue, "a")
    held = await hold(storage, queue, ttl=3600)
    with storage.messages.watch(queue, exclusive=True) as watch:
        waiting = asyncio.create_task(watch.changed(timeout_seconds=30))
        await asyncio.sleep(0)

        await renew_one(storage, queue, held, message_id, ttl=0)

        assert await waiting


async def test_a_renewed_lease_extends_its_message_as_claiming_does(
    storage: Storage, queue: QueueRef
) -> None:
    message_id = await post_one(storage, queue, "a", ttl=100)
    held = await hold(storage, queue, ttl=60, grace=0)

    await renew_one(storage, queue, held, message_id, ttl=100, grace=70, at=50)

    message = await get_one(storage, queue, message_id, now=after(100))
    assert (message.expires_at, message.ttl) == (after(220), 100)


async def test_only_the_live_claim_that_holds_a_message_renews_its_lease(
    storage: Storage, queue: QueueRef, other_queue: QueueRef
) -> None:
    mine = await post_one(storage, queue, "mine")
    held = await hold(storage, queue, ttl=60)
    yours = await post_one(storage, queue, "yours")
    others = await hold(storage, queue, ttl=600)
    await post(storage, other_queue, bodies=["elsewhere"])

    refused = [
        (queue, held.id, yours, START),
        (queue, others.id, mine, START),
        (queue, "unknown", mine, START),
        (queue, held.id, mine, after(60)),
        (other_queue, held.id, mine, START),
        *((queue, held.id, ill_formed, START) for ill_formed in ILL_FORMED_IDS),
    ]
    for where, claim_id, message_id, now in refused:
        with pytest.raises(ClaimNotHeld):
            await storage.claims.renew_message(
                where, claim_id, message_id, ttl=60, grace=0, now=now
            )


async def test_a_deleted_message_s_lease_is_not_renewed(storage: Storage, queue: QueueRef) -> None:
    message_id = await post_one(storage, queue, "a")
    held = await hold(storage, queue)
    await storage.messages.delete(queue, message_id, claim_id=held.id, now=START)

    with pytest.raises(ClaimNotHeld):
        await renew_one(storage, queue, held, message_id, ttl=60)


async def test_the_lease_of_a_message_that_was_moved_is_renewed_on_its_new_queue(
    storage: Storage, queue: QueueRef, other_queue: QueueRef
) -> None:
    message_id = await post_one(storage, queue, "a")
    await claim(storage, queue, ttl=0)
    await claim(storage, queue, dead_letter=DeadLetter(other_queue, 1, None))
    held = await hold(storage, other_queue, ttl=60)

    await renew_one(storage, other_queue, held, message_id, ttl=300)

    assert await claim(storage, other_queue, now=after(299)) is None
    assert ids(await hold(storage, other_queue, now=after(300))) == [message_id]
