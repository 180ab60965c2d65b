"""Ids and markers: one form on every store, of a queue's own, and never given out twice."""

from __future__ import annotations

import re

from tests.clock import START
from tests.contract.steps import OUTBOX, bodies, everything, page, post, post_one, subscribe
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.planes import Storage

FORM = re.compile(r"[0-9a-f]{24}")
ROUND = 1 << 16
"""Positions begin anew with the time, at multiples of this many behind the first."""


def position(message_id: str) -> int:
    return int(message_id[:16], 16)


def life(message_id: str) -> str:
    return message_id[16:]


async def test_ids_and_markers_have_one_form(storage: Storage, queue: QueueRef) -> None:
    posted = await post(storage, queue, bodies=["a", "b"])

    shown = await page(storage, queue)

    assert all(FORM.fullmatch(message_id) for message_id in posted.ids)
    assert shown.marker == posted.ids[-1]


async def test_positions_of_one_post_follow_each_other(storage: Storage, queue: QueueRef) -> None:
    posted = await post(storage, queue, bodies=["a", "b", "c"])

    first, second, third = map(position, posted.ids)
    assert (second - first, third - second) == (1, 1)


async def test_ids_tell_nothing_of_what_others_post(
    storage: Storage, queue: QueueRef, other_queue: QueueRef
) -> None:
    await subscribe(storage, other_queue)
    first = await post_one(storage, queue, "a")
    for number in range(3):
        await post(storage, other_queue, bodies=[f"{number}"] * 101)
    assert len(await everything(storage, OUTBOX)) >= 3

    second = await post_one(storage, queue, "b")

    # The time that passed, and the queue's own.
    assert (position(second) - position(first)) % ROUND in (0, 1)


async def test_two_queues_give_no_ids_of_one_life(
    storage: Storage, queue: QueueRef, other_queue: QueueRef
) -> None:
    one, other = await post_one(storage, queue, "a"), await post_one(storage, other_queue, "b")

    assert life(one) != life(other)
    assert await storage.messages.get(other_queue, [one], now=START) == []


async def test_an_id_of_another_queue_at_a_place_in_use_names_nothing(
    storage: Storage, queue: QueueRef, other_queue: QueueRef
) -> None:
    own = await post_one(storage, queue, "a")
    forged = own[:16] + life(await post_one(storage, other_queue, "b"))

    await storage.messages.delete(queue, forged, claim_id=None, now=START)
    await storage.messages.delete_many(queue, [forged], claim_ids=None, now=START)

    assert await storage.messages.get(queue, [forged], now=START) == []
    assert bodies(await everything(storage, queue)) == ["a"]


async def test_a_queue_that_was_purged_or_comes_back_begins_a_new_life(
    storage: Storage, queue: QueueRef
) -> None:
    ids = [await post_one(storage, queue, "a")]
    await storage.messages.purge(queue, now=START)
    ids.append(await post_one(storage, queue, "b"))
    await storage.queues.delete(queue, now=START)
    ids.append(await post_one(storage, queue, "c"))

    assert len(set(map(life, ids))) == 3
    assert sorted(ids) == ids
    assert bodies(await storage.messages.get(queue, ids, now=START)) == ["c"]
