"""Attributes stay with their message's body wherever it goes; other messages are stored as they always were."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.clock import START
from tests.contract.raw import stored_bodies, whole_store
from tests.contract.steps import (
    GivenPost,
    after,
    everything,
    get_one,
    hold,
    page,
    post,
)
from tests.keys import K1, K2_AND_K1, Reopen, reopening
from zaqar_notify.metadata import ENCRYPT
from zaqar_notify.models import DeadLetter, NewMessage, QueueRef
from zaqar_notify.rules.encryption import NO_KEYS
from zaqar_notify.storage.driver import Capability
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.rekeying import rekey

BODY, ATTRIBUTES = b'{"a": 1}', b'{"colour":{"type":"String","value":"hidden"}}'


@pytest.fixture
async def reopen(store_uri: str) -> AsyncIterator[Reopen]:
    async with reopening(store_uri) as reopen:
        yield reopen


@pytest.fixture
async def storage(reopen: Reopen) -> Storage:
    return await reopen(NO_KEYS)


async def post_both(storage: Storage, queue: QueueRef) -> list[str]:
    """Post a message with attributes, and one without."""
    messages = [NewMessage(BODY, 3600, attributes=ATTRIBUTES), NewMessage(BODY, 3600)]
    return (await storage.post(queue, GivenPost(messages), now=START)).ids


async def test_every_reader_gets_the_body_and_the_attributes(
    storage: Storage, queue: QueueRef
) -> None:
    [with_some, without] = await post_both(storage, queue)

    listed = (await page(storage, queue)).messages
    one = await get_one(storage, queue, with_some)
    popped = await storage.messages.pop(queue, limit=1, now=START)

    assert [(each.id, each.body, each.attributes) for each in listed] == [
        (with_some, BODY, ATTRIBUTES),
        (without, BODY, None),
    ]
    assert [one] == popped == listed[:1]


async def test_a_body_without_attributes_is_stored_as_it_is(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["a"])

    assert await stored_bodies(storage.store) == [b'"a"']


async def test_attributes_count_among_the_bytes_of_a_project(
    storage: Storage, queue: QueueRef
) -> None:
    await post_both(storage, queue)

    stored = await storage.store.messages.stored_bytes(queue.project, now=START)

    assert stored >= 2 * len(BODY) + len(ATTRIBUTES)


@pytest.mark.needs(Capability.CLAIMS)
async def test_claims_and_dead_letters_keep_attributes(storage: Storage, queue: QueueRef) -> None:
    await post_both(storage, queue)
    dead = QueueRef(queue.project, "dead")

    held = await hold(storage, queue, ttl=60)
    await storage.claim(
        queue,
        claim_id="c" * 32,
        ttl=60,
        grace=0,
        limit=10,
        now=after(60),
        dead_letter=lambda _: DeadLetter(dead, 1, None),
    )

    assert [each.attributes for each in held.messages] == [ATTRIBUTES, None]
    assert [(each.body, each.attributes) for each in await everything(storage, dead)] == [
        (BODY, ATTRIBUTES),
        (BODY, None),
    ]


async def test_a_queue_that_encrypts_keeps_no_attribute_clear_and_changes_of_keys_keep_them(
    reopen: Reopen, queue: QueueRef
) -> None:
    storage = await reopen(K1)
    await storage.queues.create(queue, metadata={ENCRYPT: True}, now=START)
    await post_both(storage, queue)
    stored = await whole_store(storage)

    storage = await reopen(K2_AND_K1)
    await rekey(storage.encrypted, storage.keys, progress=lambda _: None)

    assert b"hidden" not in stored
    assert [each.attributes for each in await everything(storage, queue)] == [ATTRIBUTES, None]
