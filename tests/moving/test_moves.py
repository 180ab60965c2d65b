"""A queue moves to another pool while it is in use, whatever ends meanwhile."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from tests.clock import START, ManualClock
from tests.contract.steps import (
    bodies,
    first,
    hold,
    idempotency_key,
    new_message,
    page,
    post,
    subscribe,
)
from tests.contract.transfers import MOVABLE, uris_of
from tests.moving.steps import TARGET, ask, ends_of, messages_of, pool_of
from tests.pools import open_pooled
from tests.workers.office import until
from zaqar_notify.clock import new_id
from zaqar_notify.models import Message, QueueRef
from zaqar_notify.storage.base import ReadyPost
from zaqar_notify.storage.internal import MOVES_REF, held_ref, parked_ref
from zaqar_notify.storage.moving import journal
from zaqar_notify.storage.moving.gates import NotStill
from zaqar_notify.storage.moving.records import State
from zaqar_notify.storage.moving.runner import carry_out_next
from zaqar_notify.storage.place import Place
from zaqar_notify.storage.planes import Storage

PAIRS = [(driver, "sqlite") for driver in MOVABLE]
"""`tests/contract/test_transfers.py` asks every pair of drivers; `test_members.py` moves from MongoDB to MongoDB."""


@pytest.fixture(params=PAIRS, ids="-".join, scope="module")
def uris(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Sequence[str]:
    return uris_of(request.param, tmp_path_factory.mktemp("stores"))


@pytest.fixture
async def storage(uris: Sequence[str]) -> AsyncIterator[Storage]:
    """A store with a pool, of which no other process knows."""
    source, target = uris
    storage = await open_pooled(source, {TARGET: target})
    yield storage
    await storage.close()


@pytest.fixture
def queue() -> QueueRef:
    return QueueRef(new_id(), "orders")


async def test_a_queue_moves_with_what_is_owed_to_its_subscriptions(
    storage: Storage, queue: QueueRef, clock: ManualClock
) -> None:
    owner = await subscribe(storage, queue)
    await post(storage, queue, bodies=["a", "b", "c"], key=idempotency_key())
    held = await hold(storage, queue, limit=1)
    async with storage.at(queue) as store:
        for ref in (held_ref(owner.id), parked_ref(owner.id)):
            post_ = ReadyPost([new_message("owed")], client_id="")
            await store.messages.post(ref, post_, now=START)
    before = await messages_of(storage, queue)
    await ask(storage, queue)

    assert await carry_out_next(storage, clock)

    assert await pool_of(storage, queue) == TARGET
    assert await messages_of(storage, queue) == before
    there = storage.pools[TARGET]
    assert await there.claims.get(queue, held.id, now=START) is not None
    assert await there.heads.count_internal(prefix=f"held.{owner.id}") == 1
    assert await there.heads.count_internal(prefix=f"parked.{owner.id}") == 1
    assert await storage.heads.get(queue) is None
    assert await storage.heads.count_internal(prefix=f"held.{owner.id}") == 0
    [ended] = await ends_of(storage, queue)
    assert ended.progress.state is State.DONE
    assert await journal.under_way(storage.store, now=START) == []


class Ended(BaseException):
    """The process has ended here."""


class Life:
    """Ends the process after so many steps of its moves: no step is made any more."""

    STEPS = (
        *(("transfer", name) for name in ("prepare", "write", "activate", "discard", "drop", "end", "begin", "changes")),
        *(("messages", name) for name in ("post", "delete_many")),
    )  # fmt: skip

    def __init__(self, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 1_000_000
        for store in storage.pools.values():
            for part, name in self.STEPS:
                self._count(getattr(store, part), name, monkeypatch)
        for name in ("let", "move"):
            self._count(storage.control.catalogue, name, monkeypatch)

    def _count(self, part: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        called: Callable[..., Any] = getattr(part, name)

        async def step(*arguments: Any, **options: Any) -> Any:
            if self.left <= 0:
                raise Ended
            result = await called(*arguments, **options)
            self.left -= 1
            if self.left == 0:
                raise Ended
            return result

        monkeypatch.setattr(part, name, step)


def restarted(storage: Storage) -> Storage:
    """What the next process knows: nothing but what is stored."""
    return Storage(storage.control, storage.store, open_pools=storage.open_pools)


async def test_a_move_that_is_broken_off_at_any_step_goes_on(
    storage: Storage,
    queue: QueueRef,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    owner = await subscribe(storage, queue)
    await post(storage, queue, bodies=["a"], key=idempotency_key())
    async with storage.at(queue) as store:
        owed = ReadyPost([new_message("owed")], client_id="")
        await store.messages.post(held_ref(owner.id), owed, now=START)
    life, posted, target = Life(storage, monkeypatch), ["a"], TARGET

    stride = 1 if request.node.callspec.id == "sqlite-sqlite" else 7

    for steps in itertools.count(1, stride):
        await ask(storage, queue, target)
        life.left = steps
        try:
            await carry_out_next(storage, clock)
            has_ended = False
        except Ended:
            has_ended = True
        life.left = 1_000_000
        storage = restarted(storage)
        await post_now(storage, queue, posted)
        clock.advance(seconds=20)
        while await carry_out_next(storage, clock):
            await post_now(storage, queue, posted)

        assert await pool_of(storage, queue) == target
        assert bodies(await messages_of(storage, queue)) == posted
        assert await storage.pools[target].heads.count_internal(prefix=f"held.{owner.id}") == 1
        target = "default" if target == TARGET else TARGET
        assert await everything_on(storage, target, queue) == []
        assert await leftovers(storage) == []
        if not has_ended:
            break

    assert steps > 20


async def post_now(storage: Storage, queue: QueueRef, posted: list[str]) -> None:
    posted.append(f"{len(posted)}")
    await post(storage, queue, bodies=posted[-1:])


async def everything_on(storage: Storage, pool: str, queue: QueueRef) -> list[Message]:
    found = await storage.pools[pool].messages.page(
        queue, marker=None, limit=1000, now=START, include_claimed=True, include_delayed=True
    )
    return found.messages


async def leftovers(storage: Storage) -> list[str]:
    """Internal queues of moves that are over."""
    prefixes = ("arriving.", "moving.", "answers.")
    return [
        name
        for store in storage.pools.values()
        for name in await store.heads.internal(after="", limit=100)
        if name.startswith(prefixes)
    ]


async def test_a_move_is_cancelled_before_the_switch(
    storage: Storage, queue: QueueRef, clock: ManualClock
) -> None:
    await post(storage, queue, bodies=["a"])
    move = await ask(storage, queue)
    await journal.wish_to_cancel(storage.store, move, now=START)

    await carry_out_next(storage, clock)

    [ended] = await ends_of(storage, queue)
    assert ended.progress.state is State.CANCELLED
    assert await pool_of(storage, queue) == "default"
    assert bodies(await messages_of(storage, queue)) == ["a"]
    assert await leftovers(storage) == []


async def test_a_move_of_no_queue_or_to_no_pool_fails_with_a_reason(
    storage: Storage, queue: QueueRef, clock: ManualClock
) -> None:
    await ask(storage, queue)
    await carry_out_next(storage, clock)
    await post(storage, queue, bodies=["a"])
    await ask(storage, queue, "nowhere")
    await carry_out_next(storage, clock)

    reasons = [each.progress.reason for each in await ends_of(storage, queue)]
    assert reasons == ["There is no such queue", "There is no pool nowhere"]


async def test_a_queue_that_is_purged_or_deleted_meanwhile(
    storage: Storage, queue: QueueRef, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    deleted = QueueRef(queue.project, "deleted")
    for ref in (queue, deleted):
        await post(storage, ref, bodies=["before"])

    async def purge() -> None:
        async with storage.at(queue) as store:
            await store.messages.purge(queue, now=START)
        await post(storage, queue, bodies=["after"])

    async def delete() -> None:
        await storage.queues.delete(deleted, now=START)

    for ref, happens in ((queue, purge), (deleted, delete)):
        await ask(storage, ref)
        first(monkeypatch, storage.store.transfer, "changes", happens)
        await carry_out_next(storage, clock)

    assert bodies(await messages_of(storage, queue)) == ["after"]
    states = [each.progress.state for each in await ends_of(storage, queue)]
    assert states == [State.DONE, State.FAILED]
    assert await leftovers(storage) == []


async def test_subscriptions_that_come_and_go_meanwhile(
    storage: Storage, queue: QueueRef, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = await subscribe(storage, queue, "http://example.com/gone")
    await owe(storage, queue, held_ref(gone.id))

    async def change() -> None:
        await storage.subscriptions.delete(queue, gone.id)
        new = await subscribe(storage, queue, "http://example.com/new")
        await owe(storage, queue, parked_ref(new.id))

    await ask(storage, queue)
    first(monkeypatch, storage.store.transfer, "changes", change)
    await carry_out_next(storage, clock)

    there = storage.pools[TARGET].heads
    [new] = await storage.subscriptions.list(queue, marker=None, limit=9, now=START)
    assert await there.count_internal(prefix=f"parked.{new.id}") == 1
    assert await there.count_internal(prefix=f"held.{gone.id}") == 0
    head = await there.get(queue)
    assert head is not None
    assert head.subscribed_until is not None
    assert await leftovers(storage) == []


async def test_an_attempt_that_is_given_up_late_leaves_nothing_behind(
    storage: Storage, queue: QueueRef, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = await subscribe(storage, queue)
    await post(storage, queue, bodies=["a"])

    async def owe_meanwhile() -> None:
        await owe(storage, queue, held_ref(owner.id))

    given_up = asyncio.Event()

    async def give_up() -> None:
        given_up.set()
        raise NotStill("for the test")

    await ask(storage, queue)
    first(monkeypatch, storage.gates, "announce", owe_meanwhile)
    first(monkeypatch, storage.pools[TARGET].transfer, "activate", give_up)
    moving = asyncio.create_task(carry_out_next(storage, clock))
    await given_up.wait()
    await owe(storage, queue, held_ref(owner.id))
    await post(storage, queue, bodies=["b"])
    await moving

    assert await pool_of(storage, queue) == TARGET
    assert bodies(await messages_of(storage, queue)) == ["a", "b"]
    heads = storage.pools[TARGET].heads
    assert await heads.count_internal(prefix=f"held.{owner.id}") == 2
    assert await leftovers(storage) == []


async def owe(storage: Storage, queue: QueueRef, ref: QueueRef) -> None:
    async with storage.at(queue) as store:
        owed = ReadyPost([new_message("owed")], client_id="")
        await store.messages.post(ref, owed, now=START)


async def test_a_page_and_a_watch_go_on_where_the_queue_is(
    storage: Storage, queue: QueueRef, clock: ManualClock
) -> None:
    await post(storage, queue, bodies=["a", "b"])
    before = await page(storage, queue, limit=1)
    with storage.watch(queue, exclusive=True) as watch:
        waiting = asyncio.create_task(watch.changed(timeout_seconds=30))
        await ask(storage, queue)
        await carry_out_next(storage, clock)
        assert await waiting
        waiting = asyncio.create_task(watch.changed(timeout_seconds=30))
        await asyncio.sleep(0)

        await post(storage, queue, bodies=["c"])

        assert await waiting
    async with storage.at(queue) as store:
        after = await store.messages.page(queue, marker=before.marker, limit=9, now=START)
    assert bodies(after) == ["b", "c"]


async def test_an_attempt_that_takes_too_long_is_given_up_and_made_again(
    storage: Storage, queue: QueueRef, clock: ManualClock
) -> None:
    await post(storage, queue, bodies=["a"])
    may_end = asyncio.Event()

    async def hold_up() -> None:
        async with storage.at(queue):
            await may_end.wait()

    slow = asyncio.create_task(hold_up())
    await asyncio.sleep(0)
    await ask(storage, queue)
    moving = asyncio.create_task(carry_out_next(storage, clock))
    await until(lambda: not place_of(storage, queue).is_open)
    await until(lambda: place_of(storage, queue).is_open)
    await post(storage, queue, bodies=["b"])
    assert await pool_of(storage, queue) == "default"
    may_end.set()
    await asyncio.gather(slow, moving)

    assert await pool_of(storage, queue) == TARGET
    assert bodies(await messages_of(storage, queue)) == ["a", "b"]


def place_of(storage: Storage, queue: QueueRef) -> Place:
    place = storage.places.known(queue)
    assert place is not None
    return place


async def test_the_second_move_of_a_queue_waits_for_the_first(
    storage: Storage, queue: QueueRef, clock: ManualClock
) -> None:
    await post(storage, queue, bodies=["a"])
    await ask(storage, queue)
    held = await storage.claims.create(
        MOVES_REF, claim_id=new_id(), ttl=30, grace=0, limit=1, now=clock.now()
    )
    await ask(storage, queue, "default")

    assert held is not None
    assert await carry_out_next(storage, clock)
    assert await pool_of(storage, queue) == "default"
    assert len(await journal.under_way(storage.store, now=clock.now())) == 2
    clock.advance(seconds=31)
    while await carry_out_next(storage, clock):
        pass

    assert await pool_of(storage, queue) == "default"
    ended = await ends_of(storage, queue)
    assert [one.move.target for one in ended] == [TARGET, "default"]
