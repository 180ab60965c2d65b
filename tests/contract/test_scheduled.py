"""A message that is posted for an instant to come is there from then on, as if it were posted then."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import pytest

from tests.clock import START
from tests.contract.steps import (
    OUTBOX,
    GivenPost,
    after,
    bodies,
    claim,
    everything,
    page,
    post_one,
)
from tests.contract.transfers import transfer
from zaqar_notify.models import NewMessage, QueueRef
from zaqar_notify.storage.base import CANCELLED_KEPT, ReadyPost
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import open_storage
from zaqar_notify.storage.values import to_ms

TTL = 60
SOON = after(10)
FAR = START + timedelta(days=366)


async def schedule(
    storage: Storage, queue: QueueRef, at: datetime, *, body: bytes = b'"later"', ttl: int = TTL
) -> str:
    message = NewMessage(body, ttl, not_before=at)
    posted = await storage.post(queue, ReadyPost([message], client_id="client"), now=START)
    return posted.ids[0]


async def test_it_is_hidden_before_its_instant_and_visible_at_it(
    storage: Storage, queue: QueueRef
) -> None:
    await schedule(storage, queue, SOON)
    before = SOON - timedelta(milliseconds=1)

    assert bodies(await page(storage, queue, now=before)) == []
    assert bodies(await page(storage, queue, now=before, include_delayed=True)) == ["later"]
    assert await claim(storage, queue, now=before) is None
    assert (await claim(storage, queue, now=SOON)) is not None


async def test_its_ttl_and_its_age_count_from_the_instant(
    storage: Storage, queue: QueueRef
) -> None:
    await schedule(storage, queue, FAR)
    last = FAR + timedelta(seconds=TTL)

    [stored] = await everything(storage, queue, now=START)

    assert (stored.ttl, stored.posted_at, stored.expires_at) == (TTL, FAR, last)
    assert bodies(await page(storage, queue, now=last - timedelta(milliseconds=1))) == ["later"]
    assert bodies(await page(storage, queue, now=last)) == []


async def test_an_instant_that_has_passed_is_now(storage: Storage, queue: QueueRef) -> None:
    await schedule(storage, queue, after(-3600))

    [stored] = (await page(storage, queue, now=START)).messages

    assert (stored.posted_at, stored.expires_at) == (START, after(TTL))


async def test_it_keeps_its_place_among_messages_that_are_posted_later(
    storage: Storage, queue: QueueRef
) -> None:
    await schedule(storage, queue, SOON)
    await post_one(storage, queue, "now")

    assert bodies(await page(storage, queue, now=START)) == ["now"]
    assert bodies(await page(storage, queue, now=SOON)) == ["later", "now"]


async def test_it_is_there_after_a_restart(store_uri: str, queue: QueueRef) -> None:
    storage = await open_storage(store_uri)
    await schedule(storage, queue, FAR)
    await storage.close()

    storage = await open_storage(store_uri)
    for _ in range(3):
        await storage.sweep(now=FAR - timedelta(days=1), limit=1000)

    assert await claim(storage, queue, now=FAR - timedelta(milliseconds=1)) is None
    assert (await claim(storage, queue, now=FAR)) is not None
    await storage.close()


@pytest.mark.parametrize("notifies_later", [True, False])
async def test_its_job_is_stored_although_there_is_no_subscription_yet(
    storage: Storage, queue: QueueRef, *, notifies_later: bool
) -> None:
    post = GivenPost([NewMessage(b"1", TTL, not_before=SOON)])
    post.notifies_later = notifies_later

    posted = await storage.post(queue, post, now=START)

    assert posted.owes_deliveries is notifies_later
    assert len(await everything(storage, OUTBOX)) == notifies_later


async def delete(storage: Storage, queue: QueueRef, message_id: str) -> None:
    await storage.messages.delete(queue, message_id, claim_id=None, now=START)


async def delete_several(storage: Storage, queue: QueueRef, message_id: str) -> None:
    await storage.messages.delete_many(queue, [message_id], claim_ids=None, now=START)


async def purge(storage: Storage, queue: QueueRef, _: str) -> None:
    await storage.messages.purge(queue, now=START)


async def delete_and_purge(storage: Storage, queue: QueueRef, message_id: str) -> None:
    await delete(storage, queue, message_id)
    await purge(storage, queue, message_id)


async def delete_queue(storage: Storage, queue: QueueRef, _: str) -> None:
    await storage.queues.delete(queue, now=START)
    await post_one(storage, queue, "anew")


@pytest.mark.parametrize(
    "remove",
    [delete, delete_several, purge, delete_and_purge, delete_queue],
    ids=lambda f: f.__name__,
)
async def test_its_cancellation_is_known_for_as_long_as_its_job_may_stand_still(
    storage: Storage, queue: QueueRef, remove: Callable[[Storage, QueueRef, str], Awaitable[None]]
) -> None:
    message_id = await schedule(storage, queue, FAR)
    await remove(storage, queue, message_id)

    for _ in range(3):
        await storage.sweep(now=FAR + CANCELLED_KEPT - timedelta(hours=1), limit=1000)

    assert await storage.messages.cancelled(queue, {message_id: FAR}) == {message_id}
    assert min(await ends_of_notes(storage, queue)) >= to_ms(FAR + CANCELLED_KEPT)


async def ends_of_notes(storage: Storage, queue: QueueRef) -> list[int]:
    ends: list[int] = []
    after = None
    while True:
        page = await transfer(storage).read(queue, after=after, limit=1000)
        ends += [note.expires_at for note in page.part.cancelled]
        if page.next is None:
            return ends
        after = page.next
