"""A change of keys: `zaqar-notify rekey` on a store that is in use."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import msgspec
import pytest

from tests.clock import START
from tests.contract.raw import change_bodies, change_subscriptions, stored_bodies, whole_store
from tests.contract.steps import (
    OUTBOX,
    after,
    bodies,
    claim,
    everything,
    hold,
    ids,
    post,
    subscribe,
    subscription,
)
from tests.keys import K1, K2, K2_AND_K1, SECRET, Reopen, reopening
from zaqar_notify.errors import SubscriptionExists, SubscriptionLocked
from zaqar_notify.findings import Level
from zaqar_notify.metadata import ENCRYPT
from zaqar_notify.models import DeadLetter, QueueRef
from zaqar_notify.rules.encryption import NO_KEYS, Keyring, is_envelope, read_envelope
from zaqar_notify.storage import rekeying
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.rekeying import Rekeyed, key_ids, rekey
from zaqar_notify.subscriptions import renewal


@pytest.fixture
async def reopen(store_uri: str) -> AsyncIterator[Reopen]:
    async with reopening(store_uri) as reopen:
        yield reopen


@pytest.fixture
async def storage(reopen: Reopen, queue: QueueRef) -> Storage:
    """A store with the former key alone, and a queue that encrypts."""
    storage = await reopen(K1)
    await storage.queues.create(queue, metadata={ENCRYPT: True}, now=START)
    return storage


async def change_keys(storage: Storage) -> Rekeyed:
    return await rekey(storage.encrypted, storage.keys, progress=lambda _: None)


async def keys_of_bodies(storage: Storage) -> set[str | None]:
    return {
        read_envelope(body).key_id if is_envelope(body) else None
        for body in await stored_bodies(storage.store)
    }


async def test_everything_is_under_the_first_key_and_the_former_can_be_forgotten(
    reopen: Reopen, storage: Storage, queue: QueueRef
) -> None:
    await subscribe(storage, queue, options={"post_headers": {"Authorization": "secret"}})
    await post(storage, queue, bodies=["a", "b", "c"])
    await hold(storage, queue, limit=1)
    await post(storage, queue, bodies=["d"], delay=60)

    storage = await reopen(K2_AND_K1)
    done = await change_keys(storage)

    # Four messages, two jobs, a subscription.
    assert (done.done, done.unused, done.missing, done.locked) == (7, ["k1"], [], 0)
    assert await keys_of_bodies(storage) == {"k2"}
    storage = await reopen(K2)
    assert bodies(await everything(storage, queue)) == ["a", "b", "c", "d"]
    [one] = await storage.subscriptions.list(queue, marker=None, limit=10, now=START)
    assert one.options == {"post_headers": {"Authorization": "secret"}}
    assert len(await everything(storage, OUTBOX)) == 2


async def test_a_second_run_finds_nothing_to_do(
    reopen: Reopen, storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["a"])
    storage = await reopen(K2_AND_K1)

    assert (await change_keys(storage)).done == 1
    assert (await change_keys(storage)).done == 0


async def test_messages_keep_their_places_their_claims_and_their_lives(
    reopen: Reopen, storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["held", "free"])
    held = await hold(storage, queue, limit=1)
    before = await everything(storage, queue)

    storage = await reopen(K2_AND_K1)
    await change_keys(storage)

    assert await everything(storage, queue) == before
    assert await storage.claims.get(queue, held.id, now=START) == held


async def test_clear_messages_stay_clear(
    reopen: Reopen, storage: Storage, queue: QueueRef, other_queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["a"])
    await post(storage, other_queue, bodies=["clear"])

    storage = await reopen(K2_AND_K1)
    await change_keys(storage)

    assert await keys_of_bodies(storage) == {None, "k2"}


async def test_more_than_one_write_takes_is_encrypted_anew(
    reopen: Reopen, storage: Storage, queue: QueueRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rekeying, "AT_ONCE", 3)
    await post(storage, queue, bodies=["a"] * 10)
    for number in range(4):
        await subscribe(storage, queue, f"http://example.com/{number}")

    storage = await reopen(K2_AND_K1)

    assert (await change_keys(storage)).done == 14


async def test_what_is_damaged_or_lacks_its_key_is_told_and_left_as_it_is(
    reopen: Reopen, storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["damaged"])
    await change_bodies(storage, lambda body: body[:-1] + bytes((body[-1] ^ 1,)))
    await post(storage, queue, bodies=["whole"])
    storage = await reopen(Keyring({"k0": os.urandom(32), **SECRET}))
    await post(storage, queue, bodies=["later"])

    storage = await reopen(K2_AND_K1)
    done = await change_keys(storage)

    assert (done.done, done.unused, done.missing, done.locked) == (1, [], ["k0"], 1)
    assert await keys_of_bodies(storage) == {"k0", "k1", "k2"}


async def test_messages_that_are_claimed_deleted_and_moved_meanwhile_are_neither_lost_nor_brought_back(
    reopen: Reopen,
    storage: Storage,
    queue: QueueRef,
    other_queue: QueueRef,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rekeying, "AT_ONCE", 5)
    monkeypatch.setattr(rekeying, "PAUSE", 0.1)
    await post(storage, queue, bodies=[str(number) for number in range(300)])
    rule = DeadLetter(other_queue, max_claim_count=1, ttl=None)
    await hold(storage, queue, limit=20, ttl=1)
    storage = await reopen(K2_AND_K1)
    deleted: set[str] = set()

    async def consume() -> None:
        for _ in range(10):
            held = await claim(storage, queue, limit=20, dead_letter=rule, now=after(2))
            assert held is not None
            for message in held.messages[::2]:
                await storage.messages.delete(queue, message.id, claim_id=held.id, now=after(2))
                deleted.add(message.id)

    done, _ = await asyncio.gather(change_keys(storage), consume())

    left = await everything(storage, queue, now=after(2))
    letters = await everything(storage, other_queue, now=after(2))
    assert len(deleted) == 100
    assert len(letters) == 20
    assert len(left) == 180
    assert not deleted & set(ids(left))
    assert await keys_of_bodies(storage) - {None} == {"k2"}
    assert done.unused == ["k1"]


async def test_the_doctor_names_the_keys_in_use_and_one_that_is_missing(
    reopen: Reopen, storage: Storage, queue: QueueRef
) -> None:
    assert await of_encryption(storage) == []
    await post(storage, queue, bodies=["a"])
    storage = await reopen(K2_AND_K1)

    [(level, sentence)] = await of_encryption(storage)
    assert level is Level.OK
    assert "'k1'" in sentence
    assert "rekey" in sentence

    storage = await reopen(K2)
    [(level, sentence)] = await of_encryption(storage)
    assert level is Level.PROBLEM
    assert "'k1'" in sentence


async def of_encryption(storage: Storage) -> list[tuple[Level, str]]:
    return [
        (finding.level, finding.sentence)
        for finding in await storage.diagnose()
        if finding.check == "encryption"
    ]


# Subscriptions


async def test_subscribers_and_options_are_not_in_the_store(
    storage: Storage, queue: QueueRef
) -> None:
    await subscribe(
        storage,
        queue,
        "https://user:password@example.com/T0KEN",
        options={"post_headers": {"Authorization": "h1dden"}},
    )

    stored = await whole_store(storage)

    assert not [word for word in (b"T0KEN", b"password", b"h1dden") if word in stored]


@pytest.mark.parametrize("before", [NO_KEYS, K1], ids=["no key", "the former key"])
async def test_a_subscriber_is_known_again_under_every_key(
    reopen: Reopen, queue: QueueRef, before: Keyring
) -> None:
    storage = await reopen(before)
    first = await subscribe(storage, queue, confirmed=False)
    storage = await reopen(K2_AND_K1)

    again = await subscribe(storage, queue, ttl=7200)

    assert again.id == first.id
    assert again.ttl == 7200
    assert await keys_of_subscriptions(storage) == ["k2"]


async def keys_of_subscriptions(storage: Storage) -> list[str]:
    return await key_ids(storage.control.encrypted)


async def test_a_confirmed_subscriber_is_refused_a_second_time(
    reopen: Reopen, storage: Storage, queue: QueueRef
) -> None:
    await subscribe(storage, queue, confirmed=True)
    storage = await reopen(K2_AND_K1)
    wanted = subscription(queue)

    with pytest.raises(SubscriptionExists):
        await storage.subscriptions.create(wanted, renew=renewal(wanted), now=START)


async def test_a_subscription_can_be_changed_and_found_by_its_new_subscriber(
    storage: Storage, queue: QueueRef
) -> None:
    one = await subscribe(storage, queue, "http://example.com/1")
    await subscribe(storage, queue, "http://example.com/2")

    await storage.subscriptions.update(
        queue,
        one.id,
        lambda present: msgspec.structs.replace(present, subscriber="http://example.com/3"),
        now=START,
    )

    with pytest.raises(SubscriptionExists):
        await storage.subscriptions.update(
            queue,
            one.id,
            lambda present: msgspec.structs.replace(present, subscriber="http://example.com/2"),
            now=START,
        )
    found = await storage.subscriptions.get(queue, one.id, now=START)
    assert found is not None
    assert found.subscriber == "http://example.com/3"


async def test_a_subscription_without_its_key_is_locked_and_still_ends(
    reopen: Reopen, storage: Storage, queue: QueueRef
) -> None:
    one = await subscribe(storage, queue, ttl=60)
    storage = await reopen(K2)

    with pytest.raises(SubscriptionLocked, match="'k1'"):
        await storage.subscriptions.get(queue, one.id, now=START)
    with pytest.raises(SubscriptionLocked, match="'k1'"):
        await storage.subscriptions.list(queue, marker=None, limit=10, now=START)

    [gone] = await storage.subscriptions.remove_expired(now=after(60), limit=10)
    assert gone.id == one.id
    assert await storage.subscriptions.list(queue, marker=None, limit=10, now=START) == []


@pytest.mark.parametrize("present", [NO_KEYS, K2], ids=["no key", "another key"])
async def test_without_the_key_of_a_queue_s_subscriptions_none_is_added_to_it(
    reopen: Reopen, storage: Storage, queue: QueueRef, other_queue: QueueRef, present: Keyring
) -> None:
    one = await subscribe(storage, queue, confirmed=False)
    storage = await reopen(present)

    with pytest.raises(SubscriptionLocked, match="'k1'"):
        await subscribe(storage, queue)
    other = await subscribe(storage, other_queue)

    storage = await reopen(K2_AND_K1)
    [listed] = await storage.subscriptions.list(queue, marker=None, limit=10, now=START)
    assert listed == one
    assert await storage.subscriptions.get(other_queue, other.id, now=START) == other


async def test_a_subscription_takes_no_subscriber_that_another_without_its_key_may_have(
    reopen: Reopen, storage: Storage, queue: QueueRef
) -> None:
    await subscribe(storage, queue, "http://example.com/1")
    storage = await reopen(K2_AND_K1)
    two = await subscribe(storage, queue, "http://example.com/2")
    storage = await reopen(K2)

    longer = await storage.subscriptions.update(
        queue, two.id, lambda present: msgspec.structs.replace(present, ttl=7200), now=START
    )
    with pytest.raises(SubscriptionLocked, match="'k1'"):
        await storage.subscriptions.update(
            queue,
            two.id,
            lambda present: msgspec.structs.replace(present, subscriber="http://example.com/1"),
            now=START,
        )

    assert await storage.subscriptions.get(queue, two.id, now=START) == longer


async def test_expired_subscriptions_without_their_key_hinder_no_other(
    reopen: Reopen, storage: Storage, queue: QueueRef
) -> None:
    await subscribe(storage, queue, ttl=60)
    storage = await reopen(K2)

    await subscribe(storage, queue, now=after(60))


@pytest.mark.parametrize(
    "damage",
    [
        {"options": '{"forged": true}'},
        {"options": ""},
        {"subscriber": "http://example.com/forged"},
        {"subscriber": "http://example.com/forged", "options": "{}"},
    ],
    ids=repr,
)
async def test_a_subscription_that_is_no_longer_encrypted_is_locked_and_still_ends(
    reopen: Reopen, storage: Storage, queue: QueueRef, damage: dict[str, str]
) -> None:
    one = await subscribe(storage, queue, ttl=60)
    await change_subscriptions(storage, **damage)

    with pytest.raises(SubscriptionLocked, match="is damaged"):
        await storage.subscriptions.get(queue, one.id, now=START)
    with pytest.raises(SubscriptionLocked, match="is damaged"):
        await storage.subscriptions.list(queue, marker=None, limit=10, now=START)
    storage = await reopen(K2_AND_K1)
    assert (await change_keys(storage)).locked == 1

    [gone] = await storage.subscriptions.remove_expired(now=after(60), limit=10)
    assert gone.id == one.id


async def test_a_subscription_without_its_key_can_be_deleted(
    reopen: Reopen, storage: Storage, queue: QueueRef
) -> None:
    one = await subscribe(storage, queue)
    storage = await reopen(K2)

    await storage.subscriptions.delete(queue, one.id)

    assert await keys_of_subscriptions(storage) == []
