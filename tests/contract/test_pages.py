"""Browsing: order, markers, filters, and pages that are never short too early."""

from __future__ import annotations

import pytest

from tests.clock import START
from tests.contract.steps import (
    ILL_FORMED_IDS,
    after,
    bodies,
    everything,
    hold,
    ids,
    page,
    post,
    post_one,
)
from zaqar_notify.models import Page, QueueRef
from zaqar_notify.storage.driver import Capability
from zaqar_notify.storage.planes import Storage

NOTHING = Page(messages=[], marker=None)


async def browse(storage: Storage, queue: QueueRef, *, limit: int) -> list[list[str]]:
    """The bodies of every page, each begun at the marker of the one before."""
    pages: list[list[str]] = []
    current = await page(storage, queue, limit=limit)
    while current.messages:
        pages.append(bodies(current))
        current = await page(storage, queue, marker=current.marker, limit=limit)
    return pages


async def test_an_unknown_queue_gives_an_empty_page(storage: Storage, queue: QueueRef) -> None:
    assert await page(storage, queue) == NOTHING


async def test_pages_follow_each_other_by_marker(storage: Storage, queue: QueueRef) -> None:
    await post(storage, queue, bodies=["a", "b"])
    await post(storage, queue, bodies=["c", "d", "e"])

    assert await browse(storage, queue, limit=2) == [["a", "b"], ["c", "d"], ["e"]]
    assert await browse(storage, queue, limit=5) == [["a", "b", "c", "d", "e"]]
    assert await browse(storage, queue, limit=1) == [["a"], ["b"], ["c"], ["d"], ["e"]]


async def test_a_page_after_the_last_message_is_empty_until_another_comes(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["a"])
    marker = (await page(storage, queue)).marker

    assert await page(storage, queue, marker=marker) == NOTHING

    await post(storage, queue, bodies=["b"])
    assert bodies(await page(storage, queue, marker=marker)) == ["b"]


@pytest.mark.needs(Capability.FIFO)
async def test_many_pages_make_up_the_whole_queue(storage: Storage, queue: QueueRef) -> None:
    sent = [f"{number}" for number in range(300)]
    for start in range(0, 300, 7):
        await post(storage, queue, bodies=sent[start : start + 7])

    pages = await browse(storage, queue, limit=11)

    assert [body for bodies_of_page in pages for body in bodies_of_page] == sent
    assert all(len(bodies_of_page) == 11 for bodies_of_page in pages[:-1])


async def test_a_message_id_serves_as_a_marker(storage: Storage, queue: QueueRef) -> None:
    posted = await post(storage, queue, bodies=["a", "b", "c"])

    for position, message_id in enumerate(posted.ids, start=1):
        rest = await page(storage, queue, marker=message_id)
        assert bodies(rest) == ["a", "b", "c"][position:]


async def test_the_marker_of_a_deleted_message_keeps_its_position(
    storage: Storage, queue: QueueRef
) -> None:
    posted = await post(storage, queue, bodies=["a", "b", "c"])
    marker = (await page(storage, queue, limit=2)).marker

    await storage.messages.delete_many(queue, posted.ids[:2], claim_ids=None, now=START)

    assert bodies(await page(storage, queue, marker=marker)) == ["c"]
    assert bodies(await page(storage, queue, marker=posted.ids[0])) == ["c"]
    assert bodies(await page(storage, queue, marker=posted.ids[1])) == ["c"]


async def test_the_marker_of_a_deleted_newest_message_hides_nothing_posted_later(
    storage: Storage, queue: QueueRef
) -> None:
    posted = await post(storage, queue, bodies=["a", "b"])
    marker = (await page(storage, queue)).marker

    await storage.messages.delete_many(queue, posted.ids, claim_ids=None, now=START)
    await post(storage, queue, bodies=["c"])

    assert bodies(await page(storage, queue, marker=marker)) == ["c"]
    assert bodies(await page(storage, queue, marker=posted.ids[1])) == ["c"]


async def test_the_marker_of_an_expired_message_keeps_its_position(
    storage: Storage, queue: QueueRef
) -> None:
    posted = await post(storage, queue, bodies=["a", "b"], ttl=60)
    marker = (await page(storage, queue)).marker
    await post(storage, queue, bodies=["c"])

    assert bodies(await page(storage, queue, marker=marker, now=after(60))) == ["c"]
    assert bodies(await page(storage, queue, marker=posted.ids[0], now=after(60))) == ["c"]


@pytest.mark.parametrize("marker", ILL_FORMED_IDS)
async def test_an_unknown_marker_gives_an_empty_page(
    storage: Storage, queue: QueueRef, marker: str
) -> None:
    await post(storage, queue, bodies=["a", "b"])

    assert await page(storage, queue, marker=marker) == NOTHING


async def test_pages_of_two_queues_do_not_mix(
    storage: Storage, queue: QueueRef, other_queue: QueueRef
) -> None:
    for number in range(10):
        await post(storage, queue, bodies=[f"q{number}"])
        await post(storage, other_queue, bodies=[f"o{number}"])

    assert await browse(storage, queue, limit=10) == [[f"q{number}" for number in range(10)]]
    assert await browse(storage, other_queue, limit=10) == [[f"o{number}" for number in range(10)]]


async def test_a_page_leaves_out_one_client_s_own_messages(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["a"], client_id="me")
    await post(storage, queue, bodies=["b"], client_id="you")
    await post(storage, queue, bodies=["c"], client_id="ME")

    assert bodies(await page(storage, queue)) == ["a", "b", "c"]
    assert bodies(await page(storage, queue, without_client="me")) == ["b", "c"]
    assert bodies(await page(storage, queue, without_client="nobody")) == ["a", "b", "c"]


async def test_a_claimed_message_is_left_out_until_its_claim_expires(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["a", "b"])
    held = await hold(storage, queue, ttl=60, limit=1)

    with_claimed = await page(storage, queue, now=after(59.999), include_claimed=True)
    assert bodies(with_claimed) == ["a", "b"]
    assert [message.claim_id for message in with_claimed.messages] == [held.id, None]
    assert bodies(await page(storage, queue, now=after(59.999))) == ["b"]

    assert bodies(await page(storage, queue, now=after(60))) == ["a", "b"]


async def test_a_message_shows_its_claim_only_while_it_is_live(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["a"])
    await hold(storage, queue, ttl=60)

    [message] = await everything(storage, queue, now=after(60))
    [by_id] = await storage.messages.get(queue, [message.id], now=after(60))

    assert message.claim_id is None
    assert message.claim_count == 1
    assert by_id == message


async def test_a_delayed_message_is_left_out_until_its_delay_ends(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["a"], delay=60)
    await post(storage, queue, bodies=["b"])

    assert bodies(await page(storage, queue, now=after(59.999))) == ["b"]
    assert bodies(await page(storage, queue, now=after(60))) == ["a", "b"]
    assert bodies(await page(storage, queue, include_delayed=True)) == ["a", "b"]


async def test_claimed_and_delayed_messages_are_included_separately(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["held"])
    await hold(storage, queue)
    await post(storage, queue, bodies=["delayed"], delay=60)
    await post(storage, queue, bodies=["free"])

    assert bodies(await page(storage, queue)) == ["free"]
    assert bodies(await page(storage, queue, include_claimed=True)) == ["held", "free"]
    assert bodies(await page(storage, queue, include_delayed=True)) == ["delayed", "free"]
    assert bodies(await everything(storage, queue)) == ["held", "delayed", "free"]


async def test_a_page_is_full_however_many_messages_it_passes_over(
    storage: Storage, queue: QueueRef
) -> None:
    """Between any two that qualify lie 40 each that are held, delayed, expired and one's own."""
    fillers = [f"filler {number}" for number in range(40)]
    for number in range(3):
        await post(storage, queue, bodies=fillers)
        await hold(storage, queue, limit=40)
        await post(storage, queue, bodies=fillers, delay=600)
        await post(storage, queue, bodies=fillers, delay=1, ttl=2)
        await post(storage, queue, bodies=fillers, delay=1, client_id="me")
        await post(storage, queue, bodies=[f"wanted {number}"], delay=1)

    first = await page(storage, queue, limit=2, now=after(2), without_client="me")
    rest = await page(
        storage, queue, marker=first.marker, limit=2, now=after(2), without_client="me"
    )

    assert bodies(first) == ["wanted 0", "wanted 1"]
    assert bodies(rest) == ["wanted 2"]


async def test_a_page_passes_over_expired_messages(storage: Storage, queue: QueueRef) -> None:
    for number in range(4):
        await post(storage, queue, bodies=[f"{index}" for index in range(50)], ttl=60)
        await post(storage, queue, bodies=[f"wanted {number}"], ttl=61)

    first = await page(storage, queue, limit=3, now=after(60))
    rest = await page(storage, queue, marker=first.marker, limit=3, now=after(60))

    assert bodies(first) == ["wanted 0", "wanted 1", "wanted 2"]
    assert bodies(rest) == ["wanted 3"]


async def test_the_marker_is_that_of_the_last_message_shown(
    storage: Storage, queue: QueueRef
) -> None:
    """A message which was passed over while held is not skipped by the next page's reader."""
    await post(storage, queue, bodies=["shown"])
    hidden = await post_one(storage, queue, "hidden at first", delay=60)

    first = await page(storage, queue)
    later = await page(storage, queue, marker=first.marker, now=after(60))

    assert bodies(first) == ["shown"]
    assert ids(later) == [hidden]
