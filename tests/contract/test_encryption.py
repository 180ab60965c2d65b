"""Messages of queues that ask for encryption, and their keys."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.clock import START
from tests.contract.raw import change_bodies, stored_bodies, whole_store
from tests.contract.steps import (
    OUTBOX,
    after,
    bodies,
    claim,
    everything,
    get_one,
    hold,
    idempotency_key,
    new_message,
    page,
    post,
    post_one,
    subscribe,
)
from tests.keys import K1, K2, K2_AND_K1, Reopen, reopening
from zaqar_notify.delivery.records import InternalPost
from zaqar_notify.errors import CannotDecrypt, IdempotencyKeyReused
from zaqar_notify.metadata import ENCRYPT
from zaqar_notify.models import DeadLetter, NewMessage, QueueRef
from zaqar_notify.rules.encryption import NO_KEYS, Keyring, is_envelope
from zaqar_notify.storage import passing
from zaqar_notify.storage.planes import Storage


@pytest.fixture
async def reopen(store_uri: str) -> AsyncIterator[Reopen]:
    async with reopening(store_uri) as reopen:
        yield reopen


@pytest.fixture
async def storage(reopen: Reopen) -> Storage:
    return await reopen(K1)


@pytest.fixture
async def encrypted(storage: Storage, queue: QueueRef) -> QueueRef:
    await switch(storage, queue, on=True)
    return queue


async def switch(storage: Storage, queue: QueueRef, *, on: bool) -> None:
    if not await storage.queues.create(queue, metadata={ENCRYPT: on}, now=START):
        await storage.queues.update(queue, lambda metadata: {**metadata, ENCRYPT: on})


async def test_a_queue_that_asks_for_it_keeps_no_clear_body(
    storage: Storage, encrypted: QueueRef, other_queue: QueueRef
) -> None:
    await post(storage, encrypted, bodies=["hidden"])
    await post(storage, other_queue, bodies=["clear"])

    stored = await whole_store(storage)

    assert b"hidden" not in stored
    assert b"clear" in stored
    assert bodies(await page(storage, encrypted)) == ["hidden"]


async def test_a_queue_s_messages_stay_readable_when_it_is_switched_on_or_off(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["before"])
    await switch(storage, queue, on=True)
    await post(storage, queue, bodies=["meanwhile"])
    await switch(storage, queue, on=False)
    await post(storage, queue, bodies=["after"])

    assert [is_envelope(body) for body in await stored_bodies(storage.store)] == [
        False,
        True,
        False,
    ]
    assert bodies(await page(storage, queue)) == ["before", "meanwhile", "after"]
    assert bodies(await hold(storage, queue)) == ["before", "meanwhile", "after"]


async def test_the_checksum_is_the_clear_body_s_and_is_hidden_with_it(
    storage: Storage, encrypted: QueueRef
) -> None:
    message = NewMessage(body=b'"yes"', ttl=3600, checksum="MD5:1234")
    await storage.post(encrypted, InternalPost([message]), now=START)

    assert b"MD5:1234" not in await whole_store(storage)
    [shown] = (await page(storage, encrypted)).messages
    assert (shown.body, shown.checksum) == (b'"yes"', "MD5:1234")


async def test_the_stored_bytes_of_a_project_are_those_of_clear_bodies(
    storage: Storage, encrypted: QueueRef, other_queue: QueueRef
) -> None:
    await post(storage, encrypted, bodies=["12345678", "1"])
    await post(storage, other_queue, bodies=["12345678"])

    assert await storage.stored_bytes(encrypted.project, now=START) == 10 + 3 + 10


@pytest.mark.parametrize("rest", [0, 20], ids=["empty", "cut off"])
async def test_damaged_bodies_take_no_bytes_away_from_others(
    storage: Storage, encrypted: QueueRef, other_queue: QueueRef, rest: int
) -> None:
    await post(storage, encrypted, bodies=["1"] * 3)
    await change_bodies(storage, lambda body: body[:rest])
    await post(storage, other_queue, bodies=["12345678"])

    assert await storage.stored_bytes(encrypted.project, now=START) == 10


async def test_jobs_are_encrypted_whatever_the_queue_asks_for(
    storage: Storage, queue: QueueRef
) -> None:
    await subscribe(storage, queue)
    await post(storage, queue, bodies=["owed"])

    of_message, of_job = sorted(await stored_bodies(storage.store), key=is_envelope)

    assert not is_envelope(of_message)
    assert b"owed" not in of_job
    assert b"owed" in (await hold(storage, OUTBOX)).messages[0].body


async def test_without_keys_nothing_is_encrypted(reopen: Reopen, queue: QueueRef) -> None:
    storage = await reopen(NO_KEYS)
    await subscribe(storage, queue)
    await post(storage, queue, bodies=["clear"])

    assert [is_envelope(body) for body in await stored_bodies(storage.store)] == [False, False]


async def test_a_dead_letter_moves_as_it_is_and_can_be_read_there(
    storage: Storage, encrypted: QueueRef, other_queue: QueueRef
) -> None:
    await post(storage, encrypted, bodies=["letter"])
    rule = DeadLetter(other_queue, max_claim_count=1, ttl=None)
    await hold(storage, encrypted, ttl=60)

    await claim(storage, encrypted, dead_letter=rule, now=after(61))

    assert b"letter" not in await whole_store(storage)
    assert bodies(await page(storage, other_queue, now=after(61))) == ["letter"]
    assert bodies(await hold(storage, other_queue, now=after(61))) == ["letter"]


async def test_a_body_that_was_moved_to_another_project_s_queue_is_not_shown_there(
    storage: Storage, encrypted: QueueRef
) -> None:
    foreign = QueueRef(f"{encrypted.project}-other", encrypted.name)
    await switch(storage, foreign, on=True)
    await post(storage, encrypted, bodies=["mine"])
    [mine] = await stored_bodies(storage.store)
    message_id = await post_one(storage, foreign, "theirs")

    await change_bodies(storage, lambda _: mine)

    assert bodies(await page(storage, encrypted)) == ["mine"]
    assert bodies(await page(storage, foreign)) == []
    with pytest.raises(CannotDecrypt):
        await get_one(storage, foreign, message_id)


async def test_former_keys_decrypt_and_the_first_encrypts(
    reopen: Reopen, storage: Storage, encrypted: QueueRef
) -> None:
    await post(storage, encrypted, bodies=["old"])

    storage = await reopen(K2_AND_K1)
    await post(storage, encrypted, bodies=["new"])
    assert bodies(await page(storage, encrypted)) == ["old", "new"]

    storage = await reopen(K2)
    assert bodies(await page(storage, encrypted)) == ["new"]


@pytest.fixture
async def posted(reopen: Reopen, storage: Storage, encrypted: QueueRef) -> list[str]:
    """The ids of five messages; the second and the fourth are encrypted under k1, the others under k2."""
    message_ids = []
    for number in range(5):
        storage = await reopen(K2_AND_K1 if number % 2 == 0 else K1)
        message_ids.append(await post_one(storage, encrypted, str(number)))
    return message_ids


@pytest.fixture
async def locked(reopen: Reopen, posted: list[str]) -> Storage:
    """The store with these messages, and without k1."""
    return await reopen(K2)


@pytest.mark.parametrize("include", [False, True])
@pytest.mark.parametrize("limit", [1, 2, 3, 4])
async def test_pages_leave_out_what_can_t_be_decrypted_and_go_on_behind_it(
    locked: Storage, encrypted: QueueRef, limit: int, include: bool
) -> None:
    pages = []
    marker = None
    while True:
        found = await page(locked, encrypted, marker=marker, limit=limit, include_claimed=include)
        if not found.messages:
            break
        pages.append(bodies(found))
        marker = found.marker

    assert [body for each in pages for body in each] == ["0", "2", "4"]
    assert len(pages[0]) == min(limit, 3)


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_claims_pass_over_what_can_t_be_decrypted(
    locked: Storage, encrypted: QueueRef, limit: int
) -> None:
    claims = [await hold(locked, encrypted, limit=limit)]
    while (another := await claim(locked, encrypted, limit=limit)) is not None:
        claims.append(another)

    assert [body for each in claims for body in bodies(each)] == ["0", "2", "4"]
    assert len(claims[0].messages) == limit


async def test_pops_leave_what_can_t_be_decrypted_on_the_queue(
    reopen: Reopen, locked: Storage, encrypted: QueueRef
) -> None:
    popped = await locked.messages.pop(encrypted, limit=10, now=START)

    assert bodies(popped) == ["0", "2", "4"]
    storage = await reopen(K2_AND_K1)
    assert bodies(await page(storage, encrypted)) == ["1", "3"]


async def test_what_waited_for_its_key_is_claimed_uncounted_in_its_order(
    reopen: Reopen, locked: Storage, encrypted: QueueRef
) -> None:
    for _ in range(3):
        await claim(locked, encrypted, ttl=0)

    storage = await reopen(K2_AND_K1)

    held = await hold(storage, encrypted)
    assert bodies(held) == ["0", "1", "2", "3", "4"]
    assert [message.claim_count for message in held.messages] == [4, 1, 4, 1, 4]


async def test_a_read_by_id_names_the_missing_key(
    locked: Storage, encrypted: QueueRef, posted: list[str]
) -> None:
    assert bodies([await get_one(locked, encrypted, posted[0])]) == ["0"]
    with pytest.raises(CannotDecrypt, match="'k1'"):
        await get_one(locked, encrypted, posted[1])
    with pytest.raises(CannotDecrypt, match="'k1'"):
        await locked.messages.get(encrypted, posted, now=START)


async def test_a_claim_shows_those_of_its_messages_that_can_be_read(
    reopen: Reopen, locked: Storage, encrypted: QueueRef
) -> None:
    storage = await reopen(K2_AND_K1)
    held = await hold(storage, encrypted)

    storage = await reopen(K2)

    shown = await storage.claims.get(encrypted, held.id, now=START)
    assert shown is not None
    assert bodies(shown) == ["0", "2", "4"]


async def test_a_message_without_its_key_counts_and_can_be_deleted(
    reopen: Reopen, locked: Storage, encrypted: QueueRef, posted: list[str]
) -> None:
    assert (await locked.queues.stats(encrypted, now=START)).total == 5

    await locked.messages.delete(encrypted, posted[1], claim_id=None, now=START)

    storage = await reopen(K2_AND_K1)
    assert bodies(await everything(storage, encrypted)) == ["0", "2", "3", "4"]


async def test_what_is_damaged_is_left_out(storage: Storage, encrypted: QueueRef) -> None:
    await post(storage, encrypted, bodies=["damaged", "damaged, too"])
    await change_bodies(storage, lambda body: body[:-1] + bytes((body[-1] ^ 1,)))
    await post(storage, encrypted, bodies=["whole"])

    assert bodies(await page(storage, encrypted, limit=1)) == ["whole"]
    assert bodies(await hold(storage, encrypted, limit=1)) == ["whole"]
    assert await claim(storage, encrypted) is None


@pytest.mark.parametrize("damage", [b"", b"\0\0", b"{", b'"forged"'], ids=repr)
async def test_what_is_no_longer_encrypted_is_left_out(
    storage: Storage, encrypted: QueueRef, damage: bytes
) -> None:
    message_id = await post_one(storage, encrypted, "damaged")
    await hold(storage, encrypted, ttl=60)
    await change_bodies(storage, lambda _: damage)
    await post(storage, encrypted, bodies=["whole", "whole, too"])

    later = after(61)
    assert bodies(await page(storage, encrypted, limit=1, now=later)) == ["whole"]
    assert bodies(await hold(storage, encrypted, limit=1, now=later)) == ["whole"]
    assert bodies(await storage.messages.pop(encrypted, limit=2, now=later)) == ["whole, too"]
    with pytest.raises(CannotDecrypt, match="is damaged"):
        await get_one(storage, encrypted, message_id, now=later)


async def test_a_moved_message_that_is_no_longer_encrypted_is_left_out(
    storage: Storage, encrypted: QueueRef, other_queue: QueueRef
) -> None:
    await post(storage, encrypted, bodies=["letter"])
    rule = DeadLetter(other_queue, max_claim_count=1, ttl=None)
    await hold(storage, encrypted, ttl=60)
    await claim(storage, encrypted, dead_letter=rule, now=after(61))
    assert bodies(await page(storage, other_queue, now=after(61))) == ["letter"]

    await change_bodies(storage, lambda _: b'"forged"')

    assert bodies(await page(storage, other_queue, now=after(61))) == []


async def test_jobs_without_their_key_wait_uncounted_and_hold_up_no_others(
    reopen: Reopen, storage: Storage, queue: QueueRef
) -> None:
    await subscribe(storage, queue)
    await post(storage, queue, bodies=["first"])
    storage = await reopen(K2)
    await post(storage, queue, bodies=["second"])

    for instant in range(0, 300, 100):
        [job] = (await hold(storage, OUTBOX, ttl=60, now=after(instant))).messages
        assert b"second" in job.body

    storage = await reopen(K2_AND_K1)
    [job, _] = (await hold(storage, OUTBOX, now=after(300))).messages
    assert b"first" in job.body
    assert job.claim_count == 1


async def test_many_messages_without_their_key_do_not_hide_those_behind_them(
    reopen: Reopen, storage: Storage, encrypted: QueueRef
) -> None:
    await post(storage, encrypted, bodies=["locked"] * 1200)
    storage = await reopen(K2)
    await post(storage, encrypted, bodies=["open", "open, too"])

    assert bodies(await page(storage, encrypted)) == ["open", "open, too"]
    assert bodies(await hold(storage, encrypted, limit=1)) == ["open"]
    assert bodies(await storage.messages.pop(encrypted, limit=1, now=START)) == ["open, too"]


async def test_a_message_before_those_that_are_passed_over_is_found_when_it_is_free_again(
    reopen: Reopen, storage: Storage, encrypted: QueueRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passing, "LONG_SECONDS", 0)
    await post(storage, encrypted, bodies=["locked"] * 1200)
    storage = await reopen(K2)
    await post(storage, encrypted, bodies=["open"])

    for _ in range(3):
        assert bodies(await hold(storage, encrypted, ttl=0)) == ["open"]


@pytest.mark.parametrize("keys", [K1, K2_AND_K1], ids=["same keys", "a new first key"])
async def test_a_post_under_an_idempotency_key_is_known_again(
    reopen: Reopen, storage: Storage, encrypted: QueueRef, keys: Keyring
) -> None:
    first = await post(storage, encrypted, bodies=["once"], key=idempotency_key())

    storage = await reopen(keys)
    again = await post(storage, encrypted, bodies=["once"], key=idempotency_key())

    assert again.ids == first.ids
    other = idempotency_key(fingerprint=b"other")
    with pytest.raises(IdempotencyKeyReused):
        await post(storage, encrypted, bodies=["other"], key=other)


async def test_a_post_from_before_there_were_keys_is_known_again(
    reopen: Reopen, queue: QueueRef
) -> None:
    storage = await reopen(NO_KEYS)
    first = await post(storage, queue, bodies=["once"], key=idempotency_key())

    storage = await reopen(K1)

    assert (await post(storage, queue, bodies=["once"], key=idempotency_key())).ids == first.ids


async def test_a_fingerprint_can_t_be_compared_with_a_guess(
    storage: Storage, encrypted: QueueRef
) -> None:
    key = idempotency_key(fingerprint=b"digest of a short body")
    await post(storage, encrypted, bodies=["yes"], key=key)

    assert b"digest of a short body" not in await whole_store(storage)


async def test_messages_of_internal_queues_are_bound_to_their_owner(
    storage: Storage, queue: QueueRef
) -> None:
    for project in ("a", "b"):
        record = InternalPost([new_message(project)], project=project)
        await storage.store.messages.post(OUTBOX, record, now=START)
    of_a, _ = await stored_bodies(storage.store)

    await change_bodies(storage, lambda _: of_a)

    assert bodies(await page(storage, OUTBOX)) == ["a"]
