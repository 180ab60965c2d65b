"""A queue that moves from one store to another is there as it was: any driver to any driver."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from itertools import product

import msgspec
import pytest

from tests.clock import START
from tests.contract.steps import (
    after,
    bodies,
    claim,
    everything,
    get_one,
    hold,
    idempotency_key,
    ids,
    new_message,
    page,
    post,
    post_one,
)
from tests.contract.transfers import MOVABLE, Moving, move, transfer, uris_of
from tests.keys import K1
from tests.pools import without_pools
from zaqar_notify.clock import new_id
from zaqar_notify.errors import ClaimNotHeld
from zaqar_notify.metadata import ENCRYPT
from zaqar_notify.models import JsonObject, NewMessage, Origin, QueueRef
from zaqar_notify.storage.base import ReadyPost
from zaqar_notify.storage.base.transfer import ARRIVING_PREFIX, ChangesLost, Part
from zaqar_notify.storage.ids import POSITIONS_PER_MS, to_position
from zaqar_notify.storage.internal import held_ref
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import driver_of

DAY = 86_400_000
PAIRS = list(product(MOVABLE, MOVABLE))


@pytest.fixture(params=PAIRS, ids="-".join, scope="module")
def uris(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Sequence[str]:
    """Of two stores, which all tests of this module use: each has queues of its own there."""
    return uris_of(request.param, tmp_path_factory.mktemp("stores"))


@pytest.fixture
async def stores(uris: Sequence[str]) -> AsyncIterator[tuple[Storage, Storage]]:
    """The stores that a queue leaves, and comes to; one control store is for both."""
    opened = [
        await driver_of(uri).open(uri, unreliable=False, prepare=True, keys=K1) for uri in uris
    ]
    control = opened[0].control
    assert control is not None
    yield without_pools(control, opened[0], K1), without_pools(control, opened[1], K1)
    for store in opened:
        await store.close()


@pytest.fixture
def source(stores: tuple[Storage, Storage]) -> Storage:
    return stores[0]


@pytest.fixture
def target(stores: tuple[Storage, Storage]) -> Storage:
    return stores[1]


async def cancel(storage: Storage, queue: QueueRef, message_id: str) -> None:
    await storage.messages.delete(queue, message_id, claim_id=None, now=START)


async def cancelled(storage: Storage, queue: QueueRef, wanted: Sequence[str]) -> Sequence[str]:
    found = await storage.messages.cancelled(queue, dict.fromkeys(wanted, after(60)))
    return [one for one in wanted if one in found]


async def arriving(storage: Storage) -> Sequence[str]:
    names = await storage.heads.internal(after="", limit=100)
    return [name for name in names if name.startswith(ARRIVING_PREFIX)]


async def test_messages_keep_all_they_have(
    source: Storage, target: Storage, queue: QueueRef
) -> None:
    await post(source, queue, bodies=["first", "second", "third"], client_id="one")
    await hold(source, queue, limit=2, ttl=300, grace=60)
    await post(source, queue, bodies=["late"], delay=60, client_id="two")
    checked = NewMessage(b'"checked"', 3600, checksum="SHA256:abc")
    moved = NewMessage(b'"moved"', 3600, origin=Origin("0" * 23 + "1", after(-99)))
    told = NewMessage(b'"told"', 3600, attributes=b'{"n":1}')
    await source.post(queue, ReadyPost([told, checked, moved], client_id="three"), now=after(1))
    before = await everything(source, queue, now=after(2))

    await move(source, target, queue)

    assert await everything(target, queue, now=after(2)) == before
    assert bodies(await page(target, queue, without_client="three")) == ["third"]
    assert await get_one(target, queue, "0" * 23 + "1", now=after(2)) == before[-1]


async def test_the_store_that_is_left_has_nothing_of_the_queue(
    source: Storage, target: Storage, queue: QueueRef
) -> None:
    await post(source, queue, bodies=["a"], key=idempotency_key())
    await cancel(source, queue, await post_one(source, queue, "late", delay=60))

    await move(source, target, queue)

    assert await everything(source, queue) == []
    assert await source.heads.get(queue) is None
    assert await source.store.messages.stored_bytes(queue.project, now=START) == 0
    assert await arriving(target) == []


async def test_what_comes_after_a_move_follows_what_came_before(
    source: Storage, target: Storage, queue: QueueRef
) -> None:
    await post(source, queue, bodies=["a", "b"])
    first = await page(source, queue, limit=1)

    await move(source, target, queue)
    await post(target, queue, bodies=["c"])
    await move(target, source, queue)
    await post(source, queue, bodies=["d"])

    rest = await page(source, queue, marker=first.marker)
    assert bodies(rest) == ["b", "c", "d"]
    assert sorted(ids(rest)) == ids(rest)


async def test_claims_go_on_with_their_ids_and_ends(
    source: Storage, target: Storage, queue: QueueRef
) -> None:
    await post(source, queue, bodies=["a", "b", "c"])
    held = await hold(source, queue, limit=2, ttl=60, grace=0)
    [first, second] = ids(held)
    before = await source.claims.get(queue, held.id, now=after(1))

    await move(source, target, queue)

    assert await target.claims.get(queue, held.id, now=after(1)) == before
    with pytest.raises(ClaimNotHeld):
        await target.messages.delete(queue, first, claim_id="0" * 32, now=after(1))
    await target.messages.delete(queue, first, claim_id=held.id, now=after(1))
    await target.claims.renew(queue, held.id, ttl=100, grace=0, now=after(59))
    assert bodies(await hold(target, queue, now=after(60))) == ["c"]
    again = await hold(target, queue, limit=1, now=after(159))
    assert ids(again) == [second]
    assert again.messages[0].claim_count == 2


async def test_a_claim_is_renewed_and_released_while_its_queue_moves(
    source: Storage, target: Storage, queue: QueueRef
) -> None:
    await post(source, queue, bodies=["a", "b"])
    renewed, released = [await hold(source, queue, limit=1, ttl=60) for _ in range(2)]

    async def meanwhile() -> None:
        await source.claims.renew(queue, renewed.id, ttl=30, grace=60, now=after(1))
        await source.claims.release(queue, released.id, now=after(1))

    await move(source, target, queue, meanwhile=meanwhile)

    assert bodies(await hold(target, queue, now=after(30.9))) == ["b"]
    assert bodies(await hold(target, queue, now=after(31))) == ["a"]


async def test_changes_while_it_is_copied_come_along(
    source: Storage, target: Storage, queue: QueueRef
) -> None:
    posted = await post(source, queue, bodies=["deleted", "kept", "claimed", "popped"])
    late = await post_one(source, queue, "late", delay=60)
    claim_id = new_id()

    async def meanwhile() -> None:
        await source.messages.delete(queue, posted.ids[0], claim_id=None, now=START)
        await source.messages.delete_many(queue, [late], claim_ids=None, now=START)
        await source.messages.delete_many(queue, [posted.ids[3]], claim_ids=None, now=START)
        await post(source, queue, bodies=["new"], key=idempotency_key())
        await source.claims.create(
            queue, claim_id=claim_id, ttl=60, grace=60, limit=2, now=after(1)
        )

    await move(source, target, queue, meanwhile=meanwhile)

    assert bodies(await everything(target, queue)) == ["kept", "claimed", "new"]
    held = await target.claims.get(queue, claim_id, now=after(2))
    assert held is not None
    assert bodies(held) == ["kept", "claimed"]
    assert await cancelled(target, queue, [late, *posted.ids]) == [late]
    again = await post(target, queue, bodies=["new"], key=idempotency_key())
    assert ids(await everything(target, queue))[-1:] == again.ids


async def test_changes_made_between_two_looks_are_all_seen(
    source: Storage, target: Storage, queue: QueueRef
) -> None:
    moving = Moving(source, target, queue)
    await post(source, queue, bodies=["a"])
    await moving.begin()
    await moving.copy()
    for round_ in range(3):
        await post(source, queue, bodies=[f"{round_}.{number}" for number in range(5)])
        await moving.catch_up()

    await moving.finish()

    expected = ["a", *(f"{round_}.{number}" for round_ in range(3) for number in range(5))]
    assert bodies(await everything(target, queue)) == expected


async def test_a_repeated_post_is_answered_as_before(
    source: Storage, target: Storage, queue: QueueRef
) -> None:
    first = await post(source, queue, bodies=["a", "b"], key=idempotency_key("1"))
    await source.messages.delete(queue, first.ids[0], claim_id=None, now=START)

    await move(source, target, queue)
    second = await post(target, queue, bodies=["a", "b"], key=idempotency_key("1"))
    await move(target, source, queue)
    third = await post(source, queue, bodies=["a", "b"], key=idempotency_key("1"))
    later = await post(source, queue, bodies=["c"], key=idempotency_key("1"), now=after(600))

    assert first.ids == second.ids == third.ids
    assert bodies(await everything(source, queue)) == ["b", "c"]
    assert later.ids != first.ids


async def test_notes_of_cancelled_messages_come_along(
    source: Storage, target: Storage, queue: QueueRef
) -> None:
    ended = (await post(source, queue, bodies=["a", "b"], delay=60)).ids
    await cancel(source, queue, ended[0])
    await source.messages.purge(queue, now=after(1))
    one, kept = (await post(source, queue, bodies=["c", "d"], delay=60)).ids
    await cancel(source, queue, one)

    await move(source, target, queue)
    assert await cancelled(target, queue, [*ended, one, kept]) == [*ended, one]
    await move(target, source, queue)

    assert await cancelled(source, queue, [*ended, one, kept]) == [*ended, one]


async def test_messages_for_an_instant_to_come_and_notes_of_them_come_along(
    source: Storage, target: Storage, queue: QueueRef
) -> None:
    year = 365 * 86_400
    later = [NewMessage(b"1", 60, not_before=after(year)) for _ in range(3)]
    ended, _, _ = (await source.post(queue, ReadyPost(later, client_id="one"), now=START)).ids
    await source.messages.purge(queue, now=START)
    gone, kept, _ = (await source.post(queue, ReadyPost(later, client_id="one"), now=START)).ids
    await cancel(source, queue, gone)
    before = await everything(source, queue)

    await move(source, target, queue)
    await target.sweep(now=after(year), limit=100)

    due = dict.fromkeys([ended, gone, kept], after(year))
    assert await target.messages.cancelled(queue, due) == {ended, gone}
    assert await everything(target, queue) == before
    assert bodies(await page(target, queue, now=after(year - 1))) == []
    assert len(bodies(await page(target, queue, now=after(year)))) == 2


async def test_a_head_comes_with_all_it_knows(
    source: Storage, target: Storage, queue: QueueRef
) -> None:
    rules: JsonObject = {"_max_claim_count": 3}
    await source.heads.put(queue, rules, revision=7, subscribed_until=after(50))
    before = await source.heads.get(queue)

    await move(source, target, queue)

    assert await target.heads.get(queue) == before
    assert await source.heads.revision(queue) == 7
    assert not await source.heads.put(queue, {}, revision=7, subscribed_until=None)


async def test_encrypted_messages_are_copied_as_they_lie(
    source: Storage, target: Storage, queue: QueueRef
) -> None:
    await source.queues.create(queue, metadata={ENCRYPT: True}, now=START)
    await post(source, queue, bodies=["secret"])
    stored = await transfer(source).read(queue, after=None, limit=1)

    await move(source, target, queue)

    there = await transfer(target).read(queue, after=None, limit=1)
    assert there.part == stored.part
    assert b"secret" not in there.part.messages[0].body
    assert bodies(await page(target, queue)) == ["secret"]


async def test_an_internal_queue_moves_like_any(source: Storage, target: Storage) -> None:
    held = held_ref(new_id())
    await source.post(held, ReadyPost([new_message("owed")], client_id=""), now=START)

    await move(source, target, held)

    assert bodies(await page(target, held)) == ["owed"]
    assert held.name not in await source.heads.internal(after="", limit=100)


async def test_a_purge_or_deletion_ends_what_is_noted(
    source: Storage, target: Storage, queue: QueueRef
) -> None:
    moving = Moving(source, target, queue)
    await post(source, queue, bodies=["before"])
    await moving.begin()
    await moving.copy()
    await source.messages.purge(queue, now=START)
    await post(source, queue, bodies=["after"])

    with pytest.raises(ChangesLost):
        await moving.catch_up()
    await moving.begin()
    await moving.copy()
    await source.heads.drop(queue, revision=9, now=START)
    with pytest.raises(ChangesLost):
        await moving.catch_up()
    await moving.target.discard(moving.name, queue)

    assert await arriving(target) == []
    assert await everything(target, queue) == []


async def test_a_purged_queue_is_copied_anew(
    source: Storage, target: Storage, queue: QueueRef
) -> None:
    moving = Moving(source, target, queue)
    await post(source, queue, bodies=["before"])
    await moving.begin()
    await moving.copy()
    await source.messages.purge(queue, now=START)
    await post(source, queue, bodies=["after"])

    await moving.begin()
    await moving.copy()
    await moving.finish()

    assert bodies(await everything(target, queue)) == ["after"]


async def test_nothing_is_seen_of_a_queue_before_it_is_activated(
    source: Storage, target: Storage, queue: QueueRef
) -> None:
    moving = Moving(source, target, queue)
    await post(source, queue, bodies=["a"], key=idempotency_key())
    await moving.begin()
    await moving.copy()

    assert await everything(target, queue) == []
    assert await claim(target, queue) is None
    assert await target.heads.get(queue) is None
    assert queue not in await target.heads.of_clients(after=None, limit=100)
    await moving.target.discard(moving.name, queue)
    assert await arriving(target) == []


async def test_each_step_may_be_repeated(source: Storage, target: Storage, queue: QueueRef) -> None:
    moving = Moving(source, target, queue)
    await post(source, queue, bodies=["a", "b"], key=idempotency_key())
    held = await hold(source, queue, limit=1)
    await moving.begin()
    await moving.begin()
    await moving.copy()
    await moving.copy()
    head = await moving.head()
    for _ in range(2):
        await moving.catch_up()
        await moving.target.activate(moving.name, queue, head)
    for _ in range(2):
        await moving.source.end(queue)
        await moving.source.drop(queue, head.life)

    assert bodies(await everything(target, queue)) == ["a", "b"]
    assert await target.claims.get(queue, held.id, now=START) is not None


async def test_what_was_discarded_is_not_activated(
    source: Storage, target: Storage, queue: QueueRef
) -> None:
    moving = Moving(source, target, queue)
    await post(source, queue, bodies=["a"])
    await moving.begin()
    await moving.copy()
    await moving.target.discard(moving.name, queue)

    with pytest.raises(ChangesLost):
        await moving.finish()

    assert bodies(await everything(source, queue)) == ["a"]
    assert await target.heads.get(queue) is None


async def test_a_process_that_slept_through_a_move_does_no_harm(
    source: Storage, target: Storage, queue: QueueRef
) -> None:
    moving = Moving(source, target, queue)
    await post(source, queue, bodies=["a"])
    await moving.begin()
    await moving.copy()
    head = await moving.head()
    await moving.finish()
    await move(target, source, queue)
    await post(source, queue, bodies=["b"], key=idempotency_key())

    with pytest.raises(ChangesLost):
        await moving.write(Part())
    with pytest.raises(ChangesLost):
        await moving.target.activate(moving.name, queue, head)
    await moving.source.drop(queue, head.life)
    await moving.target.discard(moving.name, queue)

    assert bodies(await everything(source, queue)) == ["a", "b"]
    assert (await post(source, queue, bodies=["b"], key=idempotency_key())).ids == ids(
        (await everything(source, queue))[1:]
    )


async def test_a_queue_of_a_store_whose_clock_is_ahead_goes_on_behind_its_positions(
    source: Storage, target: Storage, queue: QueueRef
) -> None:
    moving = Moving(source, target, queue)
    first = await post_one(source, queue, "a")
    await moving.begin()
    await moving.copy()
    head = await moving.head()
    ahead = head.next + DAY * POSITIONS_PER_MS
    await moving.target.activate(moving.name, queue, msgspec.structs.replace(head, next=ahead))

    posted = [first, await post_one(target, queue, "b"), await post_one(target, queue, "c")]
    await target.messages.purge(queue, now=START)
    posted.append(await post_one(target, queue, "d"))
    await target.heads.drop(queue, revision=9, now=START)
    await target.heads.put(queue, {}, revision=10, subscribed_until=None)
    posted.append(await post_one(target, queue, "e"))

    assert posted == sorted(posted)
    assert (to_position(posted[1]) or 0) >= ahead
