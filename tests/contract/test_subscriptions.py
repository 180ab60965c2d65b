"""Subscriptions: unique by queue and subscriber, gone when expired, listed in order of creation."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from tests.clock import START
from tests.contract.steps import ILL_FORMED_IDS, after, subscribe, subscription
from zaqar_notify.clock import new_id
from zaqar_notify.errors import SubscriptionDoesNotExist, SubscriptionExists
from zaqar_notify.models import DisabledReason, KeptSecret, Queue, QueueRef, Subscription
from zaqar_notify.storage.planes import Storage

HOOK = "http://example.com/hook"
FOR_EVER = datetime(9999, 1, 1, tzinfo=UTC)


async def listed(
    storage: Storage,
    queue: QueueRef,
    *,
    marker: str | None = None,
    limit: int = 100,
    now: datetime = START,
) -> list[str]:
    """The subscribers of one page."""
    found = await storage.subscriptions.list(queue, marker=marker, limit=limit, now=now)
    return [one.subscriber for one in found]


def unchanged(subscription: Subscription) -> Subscription:
    return subscription


async def test_a_subscription_is_read_back_whole(storage: Storage, queue: QueueRef) -> None:
    wanted = Subscription(
        id=new_id(),
        queue=queue,
        subscriber="http://user:pw@example.com:8080/ü?a=1",
        ttl=3600,
        options={"post_data": '{"a": "$zaqar_message$"}', "nested": {"list": [1, None, True]}},
        created_at=START,
        expires_at=after(3600),
        confirmed=True,
        disabled_at=after(1),
        disabled_reason=DisabledReason.PAUSED,
        disabled_detail="moving house, ü",
        failing_since=after(0.5),
        secret_generation=3,
        secret_rotations=(after(2), after(2.5)),
        kept_secrets=(KeptSecret(0, after(3)), KeptSecret(1, FOR_EVER, "sealed")),
    )

    created = await storage.subscriptions.create(wanted, renew=unchanged, now=START)

    assert created == wanted
    assert await storage.subscriptions.get(queue, created.id, now=START) == created
    assert await storage.subscriptions.list(queue, marker=None, limit=10, now=START) == [created]


async def test_a_subscription_creates_its_queue(storage: Storage, queue: QueueRef) -> None:
    await subscribe(storage, queue, now=after(7))

    assert await storage.queues.get(queue) == Queue(queue, {}, after(7))


async def test_a_subscription_leaves_an_existing_queue_s_record(
    storage: Storage, queue: QueueRef
) -> None:
    await storage.queues.create(queue, metadata={"colour": "red"}, now=START)

    await subscribe(storage, queue, now=after(7))

    assert await storage.queues.get(queue) == Queue(queue, {"colour": "red"}, START)


async def test_a_subscription_ends_exactly_when_its_ttl_has_passed(
    storage: Storage, queue: QueueRef
) -> None:
    created = await subscribe(storage, queue, ttl=60)

    assert await storage.subscriptions.get(queue, created.id, now=after(59.999)) == created
    assert await listed(storage, queue, now=after(59.999)) == [HOOK]

    assert await storage.subscriptions.get(queue, created.id, now=after(60)) is None
    assert await listed(storage, queue, now=after(60)) == []
    with pytest.raises(SubscriptionDoesNotExist):
        await storage.subscriptions.update(queue, created.id, unchanged, now=after(60))


async def test_an_unconfirmed_duplicate_renews_the_first(storage: Storage, queue: QueueRef) -> None:
    first = await subscribe(storage, queue, HOOK, ttl=60, options={"version": 1}, confirmed=False)

    again = await subscribe(
        storage, queue, HOOK, ttl=600, options={"version": 2}, confirmed=False, now=after(10)
    )

    expected = msgspec.structs.replace(
        first, ttl=600, expires_at=after(610), options={"version": 2}
    )
    assert again == expected
    assert await storage.subscriptions.get(queue, first.id, now=after(10)) == expected
    assert await listed(storage, queue, now=after(10)) == [HOOK]


async def test_the_caller_s_rule_says_which_fields_a_repeated_subscription_changes(
    storage: Storage, queue: QueueRef
) -> None:
    first = await subscribe(storage, queue, HOOK, ttl=60, confirmed=True)
    first = await storage.subscriptions.update(
        queue, first.id, lambda one: msgspec.structs.replace(one, disabled_at=START), now=START
    )
    wanted = subscription(queue, HOOK, ttl=600, now=after(10))

    def renew(existing: Subscription) -> Subscription:
        return msgspec.structs.replace(existing, options={"renewed": True})

    again = await storage.subscriptions.create(wanted, renew=renew, now=after(10))

    assert again == msgspec.structs.replace(first, options={"renewed": True})
    assert await storage.subscriptions.list(queue, marker=None, limit=10, now=START) == [again]


async def test_a_confirmed_duplicate_is_refused_and_changes_nothing(
    storage: Storage, queue: QueueRef
) -> None:
    first = await subscribe(storage, queue, HOOK, options={"version": 1}, confirmed=True)

    with pytest.raises(SubscriptionExists):
        await subscribe(storage, queue, HOOK, options={"version": 2}, confirmed=True)
    with pytest.raises(SubscriptionExists):
        await subscribe(storage, queue, HOOK, options={"version": 2}, confirmed=False)

    assert await storage.subscriptions.list(queue, marker=None, limit=10, now=START) == [first]


async def test_a_confirmation_turns_renewal_into_refusal(storage: Storage, queue: QueueRef) -> None:
    first = await subscribe(storage, queue, HOOK, confirmed=False)
    await storage.subscriptions.update(
        queue,
        first.id,
        lambda one: msgspec.structs.replace(one, confirmed=True),
        now=START,
    )

    with pytest.raises(SubscriptionExists):
        await subscribe(storage, queue, HOOK, confirmed=False)


@pytest.mark.parametrize("confirmed", [True, False])
async def test_an_expired_subscription_does_not_stand_in_the_way(
    storage: Storage, queue: QueueRef, confirmed: bool
) -> None:
    first = await subscribe(storage, queue, HOOK, ttl=60, confirmed=confirmed)

    second = await subscribe(storage, queue, HOOK, ttl=60, confirmed=True, now=after(60))

    assert second.id != first.id
    assert await storage.subscriptions.get(queue, first.id, now=after(60)) is None
    assert await storage.subscriptions.list(queue, marker=None, limit=10, now=after(60)) == [second]


async def test_a_confirmed_subscription_stands_in_the_way_until_just_before_it_expires(
    storage: Storage, queue: QueueRef
) -> None:
    await subscribe(storage, queue, HOOK, ttl=60, confirmed=True)

    with pytest.raises(SubscriptionExists):
        await subscribe(storage, queue, HOOK, now=after(59.999))


async def test_subscribers_are_unique_per_queue_only(
    storage: Storage, queue: QueueRef, other_queue: QueueRef
) -> None:
    twin = QueueRef(project=f"{queue.project}-twin", name=queue.name)

    mine, other, theirs = [
        await subscribe(storage, where, HOOK) for where in (queue, other_queue, twin)
    ]

    assert len({mine.id, other.id, theirs.id}) == 3
    assert await storage.subscriptions.get(other_queue, mine.id, now=START) is None
    assert await storage.subscriptions.get(twin, mine.id, now=START) is None
    await storage.subscriptions.delete(twin, mine.id)
    await storage.subscriptions.delete(other_queue, mine.id)
    with pytest.raises(SubscriptionDoesNotExist):
        await storage.subscriptions.update(twin, mine.id, unchanged, now=START)
    assert await storage.subscriptions.get(queue, mine.id, now=START) == mine


async def test_subscriptions_are_listed_in_order_of_their_ids(
    storage: Storage, queue: QueueRef
) -> None:
    subscribers = [f"http://example.com/{name}" for name in ("c", "a", "d", "b", "e")]
    created = [subscription(queue, subscriber) for subscriber in subscribers]
    for one in reversed(created):
        await storage.subscriptions.create(one, renew=unchanged, now=START)

    assert await listed(storage, queue) == subscribers
    assert await listed(storage, queue, limit=2) == subscribers[:2]
    assert await listed(storage, queue, marker=created[1].id, limit=2) == subscribers[2:4]
    assert await listed(storage, queue, marker=created[4].id) == []


async def test_renewing_and_updating_keep_a_subscription_s_place(
    storage: Storage, queue: QueueRef
) -> None:
    first = await subscribe(storage, queue, "http://a", confirmed=False)
    second = await subscribe(storage, queue, "http://b", confirmed=False)
    await subscribe(storage, queue, "http://c", confirmed=False)

    await subscribe(storage, queue, "http://b", ttl=60, confirmed=False)
    await storage.subscriptions.update(
        queue, first.id, lambda one: msgspec.structs.replace(one, subscriber="http://z"), now=START
    )

    assert await listed(storage, queue) == ["http://z", "http://b", "http://c"]
    assert await listed(storage, queue, marker=second.id) == ["http://c"]


async def test_the_marker_of_a_deleted_subscription_keeps_its_place(
    storage: Storage, queue: QueueRef
) -> None:
    created = [await subscribe(storage, queue, f"http://{name}") for name in "abcd"]

    await storage.subscriptions.delete(queue, created[1].id)
    await storage.subscriptions.delete(queue, created[3].id)

    assert await listed(storage, queue, marker=created[1].id) == ["http://c"]
    assert await listed(storage, queue, marker=created[3].id) == []

    await subscribe(storage, queue, "http://e")
    assert await listed(storage, queue, marker=created[3].id) == ["http://e"]


async def test_a_list_is_full_however_many_expired_ones_it_passes_over(
    storage: Storage, queue: QueueRef
) -> None:
    for number in range(3):
        for filler in range(15):
            await subscribe(storage, queue, f"http://expired-{number}-{filler}", ttl=60)
        await subscribe(storage, queue, f"http://wanted-{number}", ttl=61)

    found = await storage.subscriptions.list(queue, marker=None, limit=2, now=after(60))

    assert [one.subscriber for one in found] == ["http://wanted-0", "http://wanted-1"]
    assert await listed(storage, queue, marker=found[-1].id, now=after(60)) == ["http://wanted-2"]


async def test_ill_formed_ids_name_nothing(storage: Storage, queue: QueueRef) -> None:
    created = await subscribe(storage, queue)

    for ill_formed in [*ILL_FORMED_IDS, new_id()]:
        assert await storage.subscriptions.get(queue, ill_formed, now=START) is None
        await storage.subscriptions.delete(queue, ill_formed)
        with pytest.raises(SubscriptionDoesNotExist):
            await storage.subscriptions.update(queue, ill_formed, unchanged, now=START)

    assert await storage.subscriptions.get(queue, created.id, now=START) == created


async def test_an_update_replaces_the_subscription_and_returns_it(
    storage: Storage, queue: QueueRef
) -> None:
    created = await subscribe(storage, queue, confirmed=False)

    def change(one: Subscription) -> Subscription:
        return msgspec.structs.replace(
            one,
            subscriber="https://example.com/new",
            ttl=7200,
            expires_at=after(7200),
            options={"changed": True},
            confirmed=True,
            disabled_at=after(1),
            secret_generation=1,
            secret_rotations=(after(2),),
        )

    updated = await storage.subscriptions.update(queue, created.id, change, now=START)

    assert updated == change(created)
    assert await storage.subscriptions.get(queue, created.id, now=START) == updated
    assert await listed(storage, queue) == ["https://example.com/new"]


async def test_an_update_cannot_take_another_subscription_s_subscriber(
    storage: Storage, queue: QueueRef
) -> None:
    await subscribe(storage, queue, "http://taken", confirmed=False)
    mine = await subscribe(storage, queue, "http://mine")

    with pytest.raises(SubscriptionExists):
        await storage.subscriptions.update(
            queue,
            mine.id,
            lambda one: msgspec.structs.replace(one, subscriber="http://taken", ttl=1),
            now=START,
        )

    assert await storage.subscriptions.get(queue, mine.id, now=START) == mine


async def test_an_update_can_keep_its_subscriber_or_take_that_of_an_expired_one(
    storage: Storage, queue: QueueRef
) -> None:
    await subscribe(storage, queue, "http://expired", ttl=60)
    mine = await subscribe(storage, queue, "http://mine")

    async def rename(subscriber: str) -> Subscription:
        return await storage.subscriptions.update(
            queue,
            mine.id,
            lambda one: msgspec.structs.replace(one, subscriber=subscriber),
            now=after(60),
        )

    assert await rename("http://mine") == mine
    assert (await rename("http://expired")).subscriber == "http://expired"
    assert await listed(storage, queue, now=after(60)) == ["http://expired"]


async def test_the_old_subscriber_is_free_after_an_update(
    storage: Storage, queue: QueueRef
) -> None:
    first = await subscribe(storage, queue, "http://old")
    await storage.subscriptions.update(
        queue,
        first.id,
        lambda one: msgspec.structs.replace(one, subscriber="http://new"),
        now=START,
    )

    await subscribe(storage, queue, "http://old")

    assert await listed(storage, queue) == ["http://new", "http://old"]


async def test_an_update_whose_change_raises_stores_nothing(
    storage: Storage, queue: QueueRef
) -> None:
    class Unwanted(Exception):
        pass

    def change(one: Subscription) -> Subscription:
        raise Unwanted

    created = await subscribe(storage, queue)

    with pytest.raises(Unwanted):
        await storage.subscriptions.update(queue, created.id, change, now=START)

    assert await storage.subscriptions.get(queue, created.id, now=START) == created


async def test_a_deleted_subscription_is_gone_and_its_subscriber_free(
    storage: Storage, queue: QueueRef
) -> None:
    created = await subscribe(storage, queue, HOOK)

    await storage.subscriptions.delete(queue, created.id)
    await storage.subscriptions.delete(queue, created.id)

    assert await storage.subscriptions.get(queue, created.id, now=START) is None
    assert (await subscribe(storage, queue, HOOK)).id != created.id


async def test_delete_all_removes_every_subscription_of_its_queue(
    storage: Storage, queue: QueueRef, other_queue: QueueRef
) -> None:
    for number in range(25):
        await subscribe(storage, queue, f"http://{number}")
    await subscribe(storage, other_queue, HOOK)

    await storage.subscriptions.delete_all(queue)
    await storage.subscriptions.delete_all(queue)

    assert await listed(storage, queue) == []
    assert await listed(storage, other_queue) == [HOOK]
    assert await storage.queues.get(queue) is not None


async def test_a_subscription_that_was_ended_keeps_no_queue_subscribed_to(
    storage: Storage, queue: QueueRef
) -> None:
    await subscribe(storage, queue)

    await storage.control.subscriptions.end(queue)

    assert await storage.control.subscriptions.longest(queue) is None
