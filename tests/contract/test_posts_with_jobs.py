"""A post also stores fan-out jobs, and the answer to its idempotency key."""

from __future__ import annotations

import json

import msgspec
import pytest

from tests.clock import START
from tests.contract.steps import (
    OUTBOX,
    GivenPost,
    RefusedPost,
    after,
    bodies,
    everything,
    hold,
    idempotency_key,
    new_message,
    page,
    post,
    post_one,
    subscribe,
)
from zaqar_notify.errors import IdempotencyKeyReused, ValidationFailed
from zaqar_notify.models import NewMessage, QueueRef
from zaqar_notify.storage.base import IdempotencyKey
from zaqar_notify.storage.planes import Storage


async def jobs(storage: Storage) -> list[list[str]]:
    """The message ids of each job in the outbox."""
    outbox = await everything(storage, OUTBOX)
    return [json.loads(job.body)["ids"] for job in outbox]


async def test_without_subscriptions_no_job_is_written(storage: Storage, queue: QueueRef) -> None:
    posted = await post(storage, queue, bodies=["a"])

    assert posted.owes_deliveries is False
    assert await jobs(storage) == []


async def test_with_a_subscription_the_post_writes_its_job(
    storage: Storage, queue: QueueRef
) -> None:
    await subscribe(storage, queue)

    posted = await post(storage, queue, bodies=["a", "b"])

    assert posted.owes_deliveries is True
    [job] = await everything(storage, OUTBOX)
    assert json.loads(job.body) == {"ids": posted.ids, "bodies": ['"a"', '"b"']}
    assert (job.ttl, job.posted_at, job.expires_at) == (86_400, START, after(86_400))


async def test_a_job_creates_its_queue(storage: Storage, queue: QueueRef) -> None:
    await subscribe(storage, queue)
    before = await storage.heads.internal(after="", limit=10)

    await post(storage, queue, bodies=["a"])

    assert OUTBOX.name not in before
    assert OUTBOX.name in await storage.heads.internal(after="", limit=10)


async def test_many_subscriptions_make_one_job(storage: Storage, queue: QueueRef) -> None:
    for number in range(5):
        await subscribe(storage, queue, f"http://{number}")

    posted = await post(storage, queue, bodies=["a"])

    assert await jobs(storage) == [posted.ids]


async def test_a_job_is_claimed_like_any_message(storage: Storage, queue: QueueRef) -> None:
    await subscribe(storage, queue)
    await post(storage, queue, bodies=["a"])

    held = await hold(storage, OUTBOX)
    await storage.messages.delete(OUTBOX, held.messages[0].id, claim_id=held.id, now=START)

    assert await jobs(storage) == []


async def test_a_job_survives_its_message(storage: Storage, queue: QueueRef) -> None:
    await subscribe(storage, queue)
    posted = await post(storage, queue, bodies=["a"])

    await storage.messages.delete(queue, posted.ids[0], claim_id=None, now=START)
    await storage.queues.delete(queue, now=START)

    assert await jobs(storage) == [posted.ids]


async def test_the_first_and_the_last_post_of_a_subscription_s_life_get_jobs(
    storage: Storage, queue: QueueRef
) -> None:
    before = await post(storage, queue, bodies=["before"])
    await subscribe(storage, queue, ttl=60)
    first = await post(storage, queue, bodies=["first"])
    last = await post(storage, queue, bodies=["last"], now=after(59.999))
    expired = await post(storage, queue, bodies=["expired"], now=after(60))

    assert await jobs(storage) == [first.ids, last.ids]
    owed = [posted.owes_deliveries for posted in (before, first, last, expired)]
    assert owed == [False, True, True, False]


async def test_a_subscription_whose_life_is_extended_goes_on_getting_jobs(
    storage: Storage, queue: QueueRef
) -> None:
    created = await subscribe(storage, queue, ttl=60)
    await storage.subscriptions.update(
        queue,
        created.id,
        lambda one: msgspec.structs.replace(one, ttl=120, expires_at=after(120)),
        now=START,
    )

    posted = await post(storage, queue, bodies=["a"], now=after(119.999))

    assert await jobs(storage) == [posted.ids]


async def test_a_post_on_a_subscription_s_life_cut_short_gets_no_job(
    storage: Storage, queue: QueueRef
) -> None:
    created = await subscribe(storage, queue, ttl=600)
    await storage.subscriptions.update(
        queue,
        created.id,
        lambda one: msgspec.structs.replace(one, ttl=60, expires_at=after(60)),
        now=START,
    )

    await post(storage, queue, bodies=["a"], now=after(60))

    assert await jobs(storage) == []


async def test_a_confirmed_subscription_gets_jobs_at_once(
    storage: Storage, queue: QueueRef
) -> None:
    created = await subscribe(storage, queue, confirmed=False)
    await storage.subscriptions.update(
        queue,
        created.id,
        lambda one: msgspec.structs.replace(one, confirmed=True),
        now=START,
    )

    posted = await post(storage, queue, bodies=["a"])

    assert await jobs(storage) == [posted.ids]


@pytest.mark.parametrize("at_once", [True, False], ids=["delete_all", "delete"])
async def test_after_the_last_subscription_is_deleted_no_job_is_written(
    storage: Storage, queue: QueueRef, at_once: bool
) -> None:
    created = [await subscribe(storage, queue, f"http://{number}") for number in range(2)]
    with_both = await post(storage, queue, bodies=["a"])

    await storage.subscriptions.delete(queue, created[0].id)
    with_one = await post(storage, queue, bodies=["b"])
    if at_once:
        await storage.subscriptions.delete_all(queue)
    else:
        await storage.subscriptions.delete(queue, created[1].id)
    with_none = await post(storage, queue, bodies=["c"])

    assert await jobs(storage) == [with_both.ids, with_one.ids]
    assert with_none.owes_deliveries is False


async def test_one_live_subscription_among_expired_ones_is_enough(
    storage: Storage, queue: QueueRef
) -> None:
    await subscribe(storage, queue, "http://long", ttl=600)
    await subscribe(storage, queue, "http://short", ttl=60)

    posted = await post(storage, queue, bodies=["a"], now=after(60))

    assert await jobs(storage) == [posted.ids]


async def test_subscriptions_act_on_their_own_queue_only(
    storage: Storage, queue: QueueRef, other_queue: QueueRef
) -> None:
    twin = QueueRef(project=f"{queue.project}-twin", name=queue.name)
    await subscribe(storage, queue)

    await post(storage, other_queue, bodies=["a"])
    await post(storage, twin, bodies=["b"])

    assert await jobs(storage) == []


async def test_subscriptions_act_again_after_their_queue_was_deleted(
    storage: Storage, queue: QueueRef
) -> None:
    await subscribe(storage, queue)
    await storage.queues.delete(queue, now=START)

    posted = await post(storage, queue, bodies=["a"])

    assert await jobs(storage) == [posted.ids]


async def test_a_refused_post_writes_no_job(storage: Storage, queue: QueueRef) -> None:
    await subscribe(storage, queue)

    with pytest.raises(ValidationFailed):
        await storage.post(queue, RefusedPost(ValidationFailed("no")), now=START)

    assert await jobs(storage) == []


async def test_jobs_can_be_several_on_several_queues_and_delayed(
    storage: Storage, queue: QueueRef
) -> None:
    retry = QueueRef("", "retry")

    class SplitPost(GivenPost):
        def jobs(self, *_: object) -> list[tuple[QueueRef, NewMessage]]:
            return [
                (OUTBOX, new_message("one")),
                (retry, new_message("two", ttl=60, delay=10)),
                (OUTBOX, new_message("three")),
            ]

    await subscribe(storage, queue)

    await storage.post(queue, SplitPost([new_message("a")]), now=START)

    assert bodies(await page(storage, OUTBOX)) == ["one", "three"]
    assert bodies(await page(storage, retry, now=after(9.999))) == []
    assert bodies(await page(storage, retry, now=after(10))) == ["two"]


async def test_a_repeated_post_answers_as_the_first_and_stores_nothing(
    storage: Storage, queue: QueueRef
) -> None:
    await subscribe(storage, queue)
    key = idempotency_key()

    first = await post(storage, queue, bodies=["a", "b"], key=key)
    again = await post(storage, queue, bodies=["a", "b"], key=key, now=after(5))

    assert again.ids == first.ids
    assert bodies(await everything(storage, queue)) == ["a", "b"]
    assert await jobs(storage) == [first.ids]


async def test_a_key_is_forgotten_exactly_when_its_time_has_passed(
    storage: Storage, queue: QueueRef
) -> None:
    key = idempotency_key(keep_seconds=60)

    first = await post(storage, queue, bodies=["a"], key=key)
    just_before = await post(storage, queue, bodies=["a"], key=key, now=after(59.999))
    forgotten = await post(storage, queue, bodies=["a"], key=key, now=after(60))

    assert just_before.ids == first.ids
    assert forgotten.ids != first.ids
    assert len(await everything(storage, queue, now=after(60))) == 2


async def test_a_key_used_anew_is_remembered_anew(storage: Storage, queue: QueueRef) -> None:
    key = idempotency_key(keep_seconds=60)
    await post(storage, queue, bodies=["a"], key=key)

    second = await post(storage, queue, bodies=["a"], key=key, now=after(60))
    third = await post(storage, queue, bodies=["a"], key=key, now=after(119.999))
    fourth = await post(storage, queue, bodies=["a"], key=key, now=after(120))

    assert third.ids == second.ids
    assert fourth.ids != second.ids


async def test_a_repetition_does_not_make_a_key_last_longer(
    storage: Storage, queue: QueueRef
) -> None:
    key = idempotency_key(keep_seconds=60)
    first = await post(storage, queue, bodies=["a"], key=key)
    await post(storage, queue, bodies=["a"], key=key, now=after(30))

    later = await post(storage, queue, bodies=["a"], key=key, now=after(60))

    assert later.ids != first.ids


async def test_a_key_with_another_fingerprint_is_refused(storage: Storage, queue: QueueRef) -> None:
    await subscribe(storage, queue)
    first = await post(storage, queue, bodies=["a"], key=idempotency_key(fingerprint=b"of a"))

    with pytest.raises(IdempotencyKeyReused):
        await post(storage, queue, bodies=["b"], key=idempotency_key(fingerprint=b"of b"))

    assert bodies(await everything(storage, queue)) == ["a"]
    assert await jobs(storage) == [first.ids]
    again = await post(storage, queue, bodies=["a"], key=idempotency_key(fingerprint=b"of a"))
    assert again.ids == first.ids


async def test_a_forgotten_key_takes_another_fingerprint(storage: Storage, queue: QueueRef) -> None:
    first = idempotency_key(fingerprint=b"of a", keep_seconds=60)
    second = idempotency_key(fingerprint=b"of b", keep_seconds=60)
    await post(storage, queue, bodies=["a"], key=first)

    await post(storage, queue, bodies=["b"], key=second, now=after(60))

    assert bodies(await everything(storage, queue, now=after(60))) == ["a", "b"]


async def test_a_repeated_post_answers_the_same_after_its_message_was_deleted(
    storage: Storage, queue: QueueRef
) -> None:
    key = idempotency_key()
    first = await post(storage, queue, bodies=["a"], key=key)
    await storage.messages.delete(queue, first.ids[0], claim_id=None, now=START)

    again = await post(storage, queue, bodies=["a"], key=key)

    assert again.ids == first.ids
    assert await everything(storage, queue) == []


async def test_a_repeated_post_answers_the_same_after_its_message_expired(
    storage: Storage, queue: QueueRef
) -> None:
    key = idempotency_key(keep_seconds=600)
    first = await post(storage, queue, bodies=["a"], ttl=60, key=key)

    again = await post(storage, queue, bodies=["a"], ttl=60, key=key, now=after(60))

    assert again.ids == first.ids
    assert await everything(storage, queue, now=after(60)) == []


async def test_keys_are_of_one_queue_of_one_project(
    storage: Storage, queue: QueueRef, other_queue: QueueRef
) -> None:
    twin = QueueRef(project=f"{queue.project}-twin", name=queue.name)

    for number, where in enumerate((queue, other_queue, twin)):
        key = idempotency_key(fingerprint=bytes([number]))
        await post(storage, where, bodies=["a"], key=key)

    for where in (queue, other_queue, twin):
        assert bodies(await everything(storage, where)) == ["a"]


async def test_different_keys_are_different_posts(storage: Storage, queue: QueueRef) -> None:
    for name in ("k", "K", "k ", "ü", "x" * 255):
        await post(storage, queue, bodies=[name], key=idempotency_key(name))

    assert bodies(await everything(storage, queue)) == ["k", "K", "k ", "ü", "x" * 255]


async def test_posts_without_a_key_are_never_the_same(storage: Storage, queue: QueueRef) -> None:
    first = await post_one(storage, queue, "a")
    second = await post_one(storage, queue, "a")

    assert first != second


async def test_a_refused_post_does_not_use_up_its_key(storage: Storage, queue: QueueRef) -> None:
    key = idempotency_key()
    with pytest.raises(ValidationFailed):
        await storage.post(queue, RefusedPost(ValidationFailed("no"), key=key), now=START)

    await post(storage, queue, bodies=["a"], key=key)

    assert bodies(await everything(storage, queue)) == ["a"]


def unkept(*texts: str, key: IdempotencyKey | None = None) -> GivenPost:
    post = GivenPost([new_message(text) for text in texts], key=key)
    post.is_kept = False
    return post


async def test_messages_that_are_not_kept_leave_their_job_alone(
    storage: Storage, queue: QueueRef
) -> None:
    await subscribe(storage, queue)

    posted = await storage.post(queue, unkept("a", "b"), now=START)

    assert posted.owes_deliveries is True
    assert await jobs(storage) == [posted.ids]
    assert await everything(storage, queue) == []
    assert (await storage.queues.stats(queue, now=START)).total == 0
    assert await storage.store.messages.get(queue, posted.ids, now=START) == []


async def test_messages_that_are_not_kept_have_ids_of_their_own(
    storage: Storage, queue: QueueRef
) -> None:
    await subscribe(storage, queue)
    kept = await post_one(storage, queue, "kept")

    ids = [
        one_id
        for _ in range(3)
        for one_id in (await storage.post(queue, unkept("a", "b"), now=START)).ids
    ]

    last = await post_one(storage, queue, "last")
    assert len({kept, last, *ids}) == 8
    assert bodies(await page(storage, queue)) == ["kept", "last"]


async def test_a_repeated_post_that_is_not_kept_is_answered_as_the_first(
    storage: Storage, queue: QueueRef
) -> None:
    await subscribe(storage, queue)
    first = await storage.post(queue, unkept("a", "b", key=idempotency_key()), now=START)

    again = await storage.post(queue, unkept("a", "b", key=idempotency_key()), now=START)

    assert again.ids == first.ids
    assert await jobs(storage) == [first.ids]
