"""Posting, reading by id, deleting, popping and purging."""

from __future__ import annotations

import re

import pytest

from tests.clock import START
from tests.contract.steps import (
    ILL_FORMED_IDS,
    GivenPost,
    RefusedPost,
    after,
    bodies,
    claim,
    everything,
    get_one,
    hold,
    ids,
    new_message,
    page,
    post,
    post_one,
    subscribe,
)
from zaqar_notify.clock import new_id
from zaqar_notify.errors import BodyInvalid, ClaimNotHeld, MessageIsClaimed, ValidationFailed
from zaqar_notify.models import JsonObject, Message, NewMessage, Queue, QueueRef
from zaqar_notify.storage.driver import Capability
from zaqar_notify.storage.planes import Storage

OPAQUE = re.compile(r"[A-Za-z0-9_-]+")


async def test_a_message_is_read_back_as_posted(storage: Storage, queue: QueueRef) -> None:
    sent = NewMessage(body=b'{"a" : 1.0}', ttl=300, checksum="MD5:0123")

    posted = await storage.post(queue, GivenPost([sent]), now=START)

    expected = Message(
        id=posted.ids[0],
        body=b'{"a" : 1.0}',
        ttl=300,
        posted_at=START,
        expires_at=after(300),
        claim_id=None,
        claim_count=0,
        checksum="MD5:0123",
    )
    assert (await page(storage, queue)).messages == [expected]
    assert await storage.messages.get(queue, posted.ids, now=START) == [expected]


@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b'""',
        b" [1 ,\t2]\n",
        b"1e400",
        b"123456789012345678901234567890.10",
        b'{"a":1,"a":2}',
        b'"\\u0000\\ud800"',
        '"ü€𝄞"'.encode(),
        b'"' + b"x" * 300_000 + b'"',
    ],
    ids=lambda body: repr(body[:20]),
)
async def test_a_body_comes_back_byte_for_byte(
    storage: Storage, queue: QueueRef, body: bytes
) -> None:
    await storage.post(queue, GivenPost([NewMessage(body=body, ttl=60)]), now=START)

    read = await page(storage, queue)

    assert [message.body for message in read.messages] == [body]


@pytest.mark.needs(Capability.FIFO)
async def test_a_post_keeps_the_order_of_its_messages(storage: Storage, queue: QueueRef) -> None:
    sent = [f"{number}" for number in range(500)]

    posted = await post(storage, queue, bodies=sent)

    stored = await everything(storage, queue)
    assert bodies(stored) == sent
    assert ids(stored) == posted.ids
    assert len(set(posted.ids)) == len(sent)


@pytest.mark.needs(Capability.FIFO)
async def test_posts_follow_each_other_in_the_order_of_their_return(
    storage: Storage, queue: QueueRef
) -> None:
    """The callers' clocks do not matter."""
    for number, seconds in enumerate([10, 0, 5, -60]):
        await post(storage, queue, bodies=[f"{number}"], now=after(seconds))

    assert bodies(await page(storage, queue, now=after(10))) == ["0", "1", "2", "3"]


async def test_ids_and_markers_are_opaque_and_safe_in_urls(
    storage: Storage, queue: QueueRef
) -> None:
    posted = await post(storage, queue, bodies=["a", "b"])
    marker = (await page(storage, queue)).marker

    assert marker is not None
    for opaque in [*posted.ids, marker]:
        assert OPAQUE.fullmatch(opaque)


async def test_a_post_without_subscriptions_owes_no_deliveries(
    storage: Storage, queue: QueueRef
) -> None:
    posted = await post(storage, queue, bodies=["a"])

    assert posted.owes_deliveries is False


async def test_a_post_creates_its_queue(storage: Storage, queue: QueueRef) -> None:
    await post(storage, queue, bodies=["a"], now=after(7))

    assert await storage.queues.get(queue) == Queue(queue, {}, after(7))


async def test_a_post_leaves_the_record_of_an_existing_queue(
    storage: Storage, queue: QueueRef
) -> None:
    await storage.queues.create(queue, metadata={"colour": "red"}, now=START)

    await post(storage, queue, bodies=["a"], now=after(7))

    assert await storage.queues.get(queue) == Queue(queue, {"colour": "red"}, START)


async def test_a_post_gets_the_present_rules_of_its_queue(
    storage: Storage, queue: QueueRef
) -> None:
    async def applied_rules() -> JsonObject:
        given = GivenPost([new_message("a")])
        await storage.post(queue, given, now=START)
        return given.applied_rules[-1]

    assert await applied_rules() == {}

    await storage.queues.update(queue, lambda _: {"_default_message_ttl": 60, "colour": "red"})
    assert await applied_rules() == {"_default_message_ttl": 60}

    await storage.queues.delete(queue, now=START)
    assert await applied_rules() == {}

    await storage.queues.delete(queue, now=START)
    await storage.queues.create(queue, metadata={"_max_claim_count": 1}, now=after(1))
    assert await applied_rules() == {"_max_claim_count": 1}


async def test_a_refused_post_stores_nothing_and_creates_no_queue(
    storage: Storage, queue: QueueRef
) -> None:
    with pytest.raises(BodyInvalid, match="too large"):
        await storage.post(queue, RefusedPost(BodyInvalid("too large")), now=START)

    assert await storage.queues.get(queue) is None
    assert await everything(storage, queue) == []


async def test_a_refused_post_leaves_an_existing_queue_usable(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["a"])

    with pytest.raises(ValidationFailed):
        await storage.post(queue, RefusedPost(ValidationFailed("no")), now=START)
    await post(storage, queue, bodies=["b"])

    assert bodies(await page(storage, queue)) == ["a", "b"]


async def test_a_message_expires_exactly_when_its_ttl_has_passed(
    storage: Storage, queue: QueueRef
) -> None:
    message_id = await post_one(storage, queue, "a", ttl=60)

    assert bodies(await everything(storage, queue, now=after(59.999))) == ["a"]
    assert bodies(await storage.messages.get(queue, [message_id], now=after(59.999))) == ["a"]

    assert await everything(storage, queue, now=after(60)) == []
    assert await storage.messages.get(queue, [message_id], now=after(60)) == []
    assert await storage.messages.pop(queue, limit=10, now=after(60)) == []
    assert await claim(storage, queue, now=after(60)) is None


async def test_ttl_runs_from_the_post_and_not_from_the_end_of_the_delay(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["never visible"], ttl=60, delay=60)

    assert bodies(await everything(storage, queue, now=after(59.999))) == ["never visible"]
    assert await claim(storage, queue, now=after(59.999)) is None
    assert await everything(storage, queue, now=after(60)) == []
    assert await claim(storage, queue, now=after(60)) is None


async def test_get_finds_claimed_and_delayed_messages_in_queue_order(
    storage: Storage, queue: QueueRef
) -> None:
    first = await post_one(storage, queue, "held")
    held = await hold(storage, queue)
    second = await post_one(storage, queue, "delayed", delay=60)
    third = await post_one(storage, queue, "free")

    found = await storage.messages.get(queue, [third, first, second], now=START)

    assert bodies(found) == ["held", "delayed", "free"]
    assert [message.claim_id for message in found] == [held.id, None, None]


async def test_get_gives_a_message_once_however_often_it_is_named(
    storage: Storage, queue: QueueRef
) -> None:
    message_id = await post_one(storage, queue, "a")

    assert bodies(await storage.messages.get(queue, [message_id, message_id], now=START)) == ["a"]


async def test_get_passes_over_what_does_not_exist(
    storage: Storage, queue: QueueRef, other_queue: QueueRef
) -> None:
    present = await post_one(storage, queue, "a")
    deleted = await post_one(storage, queue, "b")
    await storage.messages.delete(queue, deleted, claim_id=None, now=START)
    elsewhere = await post_one(storage, other_queue, "c")

    asked = [*ILL_FORMED_IDS, elsewhere, deleted, new_id(), present]

    assert bodies(await storage.messages.get(queue, asked, now=START)) == ["a"]
    assert await storage.messages.get(queue, [], now=START) == []


async def test_a_message_is_of_its_queue_and_project_only(
    storage: Storage, queue: QueueRef, other_queue: QueueRef
) -> None:
    twin = QueueRef(project=f"{queue.project}-twin", name=queue.name)
    message_id = await post_one(storage, queue, "a")

    for elsewhere in (other_queue, twin):
        assert await storage.messages.get(elsewhere, [message_id], now=START) == []
        await storage.messages.delete(elsewhere, message_id, claim_id=None, now=START)
        await storage.messages.delete_many(elsewhere, [message_id], claim_ids=None, now=START)
        assert await storage.messages.pop(elsewhere, limit=10, now=START) == []

    assert bodies(await page(storage, queue)) == ["a"]


async def test_a_free_message_is_deleted(storage: Storage, queue: QueueRef) -> None:
    message_id = await post_one(storage, queue, "a")
    await post(storage, queue, bodies=["b"])

    await storage.messages.delete(queue, message_id, claim_id=None, now=START)

    assert bodies(await everything(storage, queue)) == ["b"]
    assert await storage.messages.get(queue, [message_id], now=START) == []


async def test_a_delayed_message_is_deleted(storage: Storage, queue: QueueRef) -> None:
    message_id = await post_one(storage, queue, "a", delay=60)

    await storage.messages.delete(queue, message_id, claim_id=None, now=START)

    assert await everything(storage, queue) == []


@pytest.mark.parametrize("claim_id", [None, "never-was", "", "ü", "x" * 5000])
async def test_deleting_what_does_not_exist_is_no_error(
    storage: Storage, queue: QueueRef, claim_id: str | None
) -> None:
    deleted = await post_one(storage, queue, "deleted")
    await storage.messages.delete(queue, deleted, claim_id=None, now=START)
    expired = await post_one(storage, queue, "expired", ttl=60)

    for message_id in [*ILL_FORMED_IDS, new_id(), deleted, expired]:
        await storage.messages.delete(queue, message_id, claim_id=claim_id, now=after(60))


async def test_deleting_an_absent_message_with_a_live_claim_is_no_error(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["a"])
    held = await hold(storage, queue)

    await storage.messages.delete(queue, "never-was", claim_id=held.id, now=START)

    assert bodies(await everything(storage, queue)) == ["a"]


async def test_a_claimed_message_is_deleted_by_its_claim_only(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["mine", "theirs"])
    mine = await hold(storage, queue, limit=1)
    theirs = await hold(storage, queue, limit=1)
    message_id = mine.messages[0].id

    with pytest.raises(MessageIsClaimed):
        await storage.messages.delete(queue, message_id, claim_id=None, now=START)
    with pytest.raises(MessageIsClaimed):
        await storage.messages.delete(queue, message_id, claim_id=theirs.id, now=START)
    for dead_claim in (new_id(), "", "ü"):
        with pytest.raises(ClaimNotHeld):
            await storage.messages.delete(queue, message_id, claim_id=dead_claim, now=START)
    assert bodies(await everything(storage, queue)) == ["mine", "theirs"]

    await storage.messages.delete(queue, message_id, claim_id=mine.id, now=START)

    assert bodies(await everything(storage, queue)) == ["theirs"]


async def test_a_claim_deletes_its_message_until_it_expires(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["a", "b"])
    held = await hold(storage, queue, ttl=60)
    first, second = ids(held)

    await storage.messages.delete(queue, first, claim_id=held.id, now=after(59.999))
    with pytest.raises(ClaimNotHeld):
        await storage.messages.delete(queue, second, claim_id=held.id, now=after(60))

    assert bodies(await everything(storage, queue, now=after(60))) == ["b"]


async def test_a_message_is_deleted_without_a_claim_once_its_claim_has_expired(
    storage: Storage, queue: QueueRef
) -> None:
    message_id = await post_one(storage, queue, "a")
    await hold(storage, queue, ttl=60)

    with pytest.raises(MessageIsClaimed):
        await storage.messages.delete(queue, message_id, claim_id=None, now=after(59.999))
    await storage.messages.delete(queue, message_id, claim_id=None, now=after(60))

    assert await everything(storage, queue, now=after(60)) == []


async def test_an_expired_claim_cannot_delete_what_another_holds_now(
    storage: Storage, queue: QueueRef
) -> None:
    message_id = await post_one(storage, queue, "a")
    expired = await hold(storage, queue, ttl=60)
    await hold(storage, queue, ttl=60, now=after(60))

    with pytest.raises(ClaimNotHeld):
        await storage.messages.delete(queue, message_id, claim_id=expired.id, now=after(60))

    assert bodies(await everything(storage, queue, now=after(60))) == ["a"]


async def test_a_released_claim_cannot_delete(storage: Storage, queue: QueueRef) -> None:
    message_id = await post_one(storage, queue, "a")
    released = await hold(storage, queue)
    await storage.claims.release(queue, released.id, now=START)

    with pytest.raises(ClaimNotHeld):
        await storage.messages.delete(queue, message_id, claim_id=released.id, now=START)

    assert bodies(await everything(storage, queue)) == ["a"]


async def test_a_live_claim_cannot_delete_a_free_message(storage: Storage, queue: QueueRef) -> None:
    await post(storage, queue, bodies=["held"])
    held = await hold(storage, queue)
    free = await post_one(storage, queue, "free")

    with pytest.raises(ClaimNotHeld):
        await storage.messages.delete(queue, free, claim_id=held.id, now=START)

    assert bodies(await everything(storage, queue)) == ["held", "free"]


async def test_a_bulk_delete_removes_what_exists_claimed_or_not(
    storage: Storage, queue: QueueRef, other_queue: QueueRef
) -> None:
    held = await post_one(storage, queue, "held")
    await hold(storage, queue)
    free = await post_one(storage, queue, "free")
    delayed = await post_one(storage, queue, "delayed", delay=60)
    await post(storage, queue, bodies=["unnamed"])
    elsewhere = await post_one(storage, other_queue, "elsewhere")

    named = [free, *ILL_FORMED_IDS, delayed, elsewhere, held, held]
    await storage.messages.delete_many(queue, named, claim_ids=None, now=START)

    assert bodies(await everything(storage, queue)) == ["unnamed"]
    assert bodies(await everything(storage, other_queue)) == ["elsewhere"]


async def test_a_bulk_delete_with_claims_removes_what_is_free_or_under_them(
    storage: Storage, queue: QueueRef
) -> None:
    posted = await post(storage, queue, bodies=["a", "b", "c", "d"])
    first = await hold(storage, queue, limit=1)
    second = await hold(storage, queue, limit=1)

    await storage.messages.delete_many(
        queue,
        [*posted.ids[:3], new_id(), *ILL_FORMED_IDS],
        claim_ids=[first.id, "never-was", second.id],
        now=START,
    )

    assert bodies(await everything(storage, queue)) == ["d"]


@pytest.mark.parametrize("other_claims", [[], ["never-was"]])
async def test_a_bulk_delete_with_claims_is_refused_whole(
    storage: Storage, queue: QueueRef, other_claims: list[str]
) -> None:
    posted = await post(storage, queue, bodies=["mine", "theirs", "free"])
    mine = await hold(storage, queue, limit=1)
    await hold(storage, queue, limit=1)

    with pytest.raises(ClaimNotHeld):
        await storage.messages.delete_many(
            queue, posted.ids, claim_ids=[mine.id, *other_claims], now=START
        )
    with pytest.raises(ClaimNotHeld):
        await storage.messages.delete_many(queue, posted.ids, claim_ids=other_claims, now=START)

    assert bodies(await everything(storage, queue)) == ["mine", "theirs", "free"]


async def test_a_bulk_delete_takes_messages_of_an_expired_claim_for_free(
    storage: Storage, queue: QueueRef
) -> None:
    posted = await post(storage, queue, bodies=["a"])
    await hold(storage, queue, ttl=60)

    with pytest.raises(ClaimNotHeld):
        await storage.messages.delete_many(queue, posted.ids, claim_ids=[], now=after(59.999))
    await storage.messages.delete_many(queue, posted.ids, claim_ids=[], now=after(60))

    assert await everything(storage, queue, now=after(60)) == []


async def test_pop_removes_the_oldest_visible_messages_and_returns_them(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["held"])
    await hold(storage, queue, ttl=600)
    await post(storage, queue, bodies=["expired"], ttl=60)
    await post(storage, queue, bodies=["delayed"], delay=120)
    posted = await post(storage, queue, bodies=["a", "b", "c"])

    popped = await storage.messages.pop(queue, limit=2, now=after(60))

    assert bodies(popped) == ["a", "b"]
    assert ids(popped) == posted.ids[:2]
    assert bodies(await everything(storage, queue, now=after(60))) == ["held", "delayed", "c"]
    assert bodies(await storage.messages.pop(queue, limit=2, now=after(60))) == ["c"]
    assert await storage.messages.pop(queue, limit=2, now=after(60)) == []


async def test_pop_takes_a_message_exactly_when_its_delay_ends(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["a"], delay=60)

    assert await storage.messages.pop(queue, limit=1, now=after(59.999)) == []
    assert bodies(await storage.messages.pop(queue, limit=1, now=after(60))) == ["a"]


async def test_pop_takes_a_message_exactly_when_its_claim_expires_and_raises_no_count(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["a"])
    await hold(storage, queue, ttl=60)

    assert await storage.messages.pop(queue, limit=1, now=after(59.999)) == []
    [popped] = await storage.messages.pop(queue, limit=1, now=after(60))

    assert popped.claim_count == 1
    assert popped.claim_id is None


async def test_reading_and_paging_raise_no_claim_count(storage: Storage, queue: QueueRef) -> None:
    message_id = await post_one(storage, queue, "a")

    await page(storage, queue)
    await get_one(storage, queue, message_id)

    assert (await get_one(storage, queue, message_id)).claim_count == 0


async def test_purge_removes_every_message_and_keeps_the_rest(
    storage: Storage, queue: QueueRef, other_queue: QueueRef
) -> None:
    await storage.queues.create(queue, metadata={"colour": "red"}, now=START)
    await post(storage, queue, bodies=["held"])
    held = await hold(storage, queue)
    await post(storage, queue, bodies=["free"])
    await post(storage, queue, bodies=["delayed"], delay=60)
    await post(storage, other_queue, bodies=["elsewhere"])
    subscribed = await subscribe(storage, queue)

    await storage.messages.purge(queue, now=START)

    assert await everything(storage, queue) == []
    assert await storage.claims.get(queue, held.id, now=START) is None
    assert await storage.queues.get(queue) == Queue(queue, {"colour": "red"}, START)
    assert await storage.subscriptions.get(queue, subscribed.id, now=START) == subscribed
    assert bodies(await everything(storage, other_queue)) == ["elsewhere"]


async def test_a_marker_from_before_a_purge_hides_nothing_posted_later(
    storage: Storage, queue: QueueRef
) -> None:
    posted = await post(storage, queue, bodies=["a", "b"])
    marker = (await page(storage, queue)).marker

    await storage.messages.purge(queue, now=START)
    await post(storage, queue, bodies=["c"])

    assert bodies(await page(storage, queue, marker=marker)) == ["c"]
    assert bodies(await page(storage, queue, marker=posted.ids[-1])) == ["c"]
