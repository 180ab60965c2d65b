"""Order and completeness with several writers, some of which are killed or stand still."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from datetime import timedelta
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
from pymongo.errors import AutoReconnect, BulkWriteError

from tests.clock import START
from tests.contract.steps import (
    OUTBOX,
    after,
    bodies,
    claim,
    everything,
    idempotency_key,
    ids,
    page,
    post,
    subscribe,
)
from tests.mongodb.opened import store_of
from tests.mongodb.stops import (
    before_taking_back,
    kill_in_insert,
    set_deadline,
    stopped_at_insert,
    stopped_post,
)
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import Message, Posted, QueueRef
from zaqar_notify.storage.mongodb import queue_states
from zaqar_notify.storage.mongodb.blocks import Block, Blocks, BlockState, blocks_of, fence_at
from zaqar_notify.storage.mongodb.documents import queue_key
from zaqar_notify.storage.planes import Storage

CHAOS_SECONDS = 6
ENOUGH = 100
"""Acknowledged messages. On a busy machine it takes seconds until a process posts."""
PRODUCERS = 3
IN_TIME_SECONDS = 60


async def test_a_reader_does_not_pass_a_post_that_is_under_way(
    storage: Storage, other_storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["a"])
    async with stopped_post(storage, queue, bodies=["b"]) as (stopped, under_way):
        for reader in (storage, other_storage):
            assert bodies(await page(reader, queue)) == ["a"]

        stopped.go_on.set()
        await under_way
    for reader in (storage, other_storage):
        assert bodies(await page(reader, queue)) == ["a", "b"]


async def test_a_reader_waits_for_a_post_under_way_that_is_before_an_acknowledged_one(
    storage: Storage, other_storage: Storage, queue: QueueRef
) -> None:
    """It may not pass the first, and has to see the second."""
    await post(storage, queue, bodies=["a"])
    async with stopped_post(storage, queue, bodies=["b"]) as (stopped, under_way):
        await post(other_storage, queue, bodies=["c"])
        pages = [asyncio.create_task(page(reader, queue)) for reader in (storage, other_storage)]

        done, _ = await asyncio.wait(pages, timeout=0.1)
        full = await page(other_storage, queue, limit=1)

        assert done == set()
        assert bodies(full) == ["a"]
        stopped.go_on.set()
        await under_way
        assert [bodies(await one) for one in pages] == [["a", "b", "c"]] * 2


async def test_claims_do_not_wait_for_a_post_that_is_under_way(
    storage: Storage, other_storage: Storage, queue: QueueRef
) -> None:
    async with stopped_post(storage, queue, bodies=["b"]) as (stopped, under_way):
        await post(other_storage, queue, bodies=["c"])

        held = await claim(other_storage, queue)

        assert held is not None
        assert bodies(held) == ["c"]
        stopped.go_on.set()
        await under_way


async def test_what_was_acknowledged_is_seen_by_the_very_next_read_of_any_process(
    storage: Storage, other_storage: Storage, queue: QueueRef
) -> None:
    """The writer's slot on the queue's document still shows the block then."""
    marker = None
    for number in range(30):
        writer, reader = (storage, other_storage)[:: 1 if number % 2 else -1]
        await post(writer, queue, bodies=[f"{number}"])

        current = await page(reader, queue, marker=marker)

        assert bodies(current) == [f"{number}"]
        marker = current.marker


async def test_readers_pass_the_block_of_a_writer_that_was_killed(
    storage: Storage,
    other_storage: Storage,
    queue: QueueRef,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_deadline(monkeypatch, 200)
    await storage.queues.create(queue, metadata={}, now=START)
    await kill_in_insert(storage, post(storage, queue, bodies=["never"]), behind=0)
    assert bodies(await page(other_storage, queue)) == []
    await post(other_storage, queue, bodies=["a"])

    assert bodies(await page(other_storage, queue)) == ["a"]


async def test_a_writer_that_stood_still_past_its_deadline_posts_behind_what_readers_passed(
    storage: Storage,
    other_storage: Storage,
    queue: QueueRef,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_deadline(monkeypatch, 200)
    async with stopped_post(storage, queue, bodies=["slow 1", "slow 2"]) as (stopped, slow):
        await post(other_storage, queue, bodies=["a"])
        passed = await page(other_storage, queue)

        stopped.go_on.set()
        posted = await slow

    late = await page(other_storage, queue, marker=passed.marker)
    assert bodies(late) == ["slow 1", "slow 2"]
    assert ids(late) == posted.ids
    assert bodies(await everything(storage, queue)) == ["a", "slow 1", "slow 2"]


async def test_the_slot_of_a_fenced_block_goes_at_once(
    storage: Storage,
    other_storage: Storage,
    queue: QueueRef,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_deadline(monkeypatch, 0)
    await storage.queues.create(queue, metadata={}, now=START)
    await kill_in_insert(storage, post(storage, queue, bodies=["a"]), behind=0)
    assert len(await slots(storage, queue)) == 1

    await page(other_storage, queue)

    assert await slots(storage, queue) == set()


async def test_the_slot_of_a_sealed_block_goes_when_its_writer_posts_no_more(
    storage: Storage,
    other_storage: Storage,
    queue: QueueRef,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_deadline(monkeypatch, 0)
    await post(storage, queue, bodies=["a"])
    await page(other_storage, queue)
    assert len(await slots(storage, queue)) == 1

    monkeypatch.setattr(queue_states, "SLOT_LIFE", timedelta())
    await page(other_storage, queue)

    assert await slots(storage, queue) == set()


@pytest.mark.parametrize("looks_too_early", [False, True])
async def test_a_writer_that_stood_still_after_its_insert_has_posted_where_it_was(
    storage: Storage,
    other_storage: Storage,
    queue: QueueRef,
    monkeypatch: pytest.MonkeyPatch,
    looks_too_early: bool,
) -> None:
    """A reader sees the seal, or meets it when it fences the block."""
    set_deadline(monkeypatch, 0)
    async with stopped_post(storage, queue, bodies=["slow"], after=True) as (stopped, slow):
        await post(other_storage, queue, bodies=["a"])
        if looks_too_early:
            see_no_seal_at_first(monkeypatch)

        assert bodies(await page(other_storage, queue)) == ["slow", "a"]

        stopped.go_on.set()
        await slow
    assert bodies(await everything(other_storage, queue)) == ["slow", "a"]


async def test_a_subscription_waits_for_a_post_that_does_not_know_of_it(
    storage: Storage, other_storage: Storage, queue: QueueRef
) -> None:
    """Once it is acknowledged, whatever is posted is for it."""
    async with stopped_post(storage, queue, bodies=["a"]) as (stopped, posting):
        subscribing = asyncio.create_task(subscribe(other_storage, queue))

        done, _ = await asyncio.wait([subscribing], timeout=0.2)

        assert done == set()
        stopped.go_on.set()
        await posting
    await subscribing


async def test_a_post_and_its_job_are_redone_together(
    storage: Storage,
    other_storage: Storage,
    queue: QueueRef,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The outbox is fenced while the post's own queue is not: neither may be left behind."""
    set_deadline(monkeypatch, 200)
    await subscribe(storage, queue)
    for fenced in (OUTBOX, queue):
        async with stopped_at_insert(storage) as stopped:
            slow = asyncio.create_task(post(storage, queue, bodies=["slow"]))
            await stopped.begun.wait()
            await post(other_storage, fenced, bodies=["other"])
            await everything(other_storage, fenced)

            stopped.go_on.set()
            posted = await slow

        assert posted.owes_deliveries
        jobs = [
            job for job in await everything(storage, OUTBOX) if posted.ids[0].encode() in job.body
        ]
        assert len(jobs) == 1
        assert posted.ids[0] in ids(await everything(storage, queue))
    assert Counter(bodies(await everything(storage, queue))) == {"slow": 2, "other": 1}
    assert len(await everything(storage, OUTBOX)) == 4


async def test_a_writer_that_stood_still_leaves_no_job_of_its_first_try(
    storage: Storage,
    other_storage: Storage,
    queue: QueueRef,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_deadline(monkeypatch, 200)
    await subscribe(storage, queue)
    seen: list[list[Message]] = []

    async def look() -> None:
        seen.append(await everything(other_storage, OUTBOX))

    before_taking_back(storage, monkeypatch, look)
    async with stopped_post(storage, queue, bodies=["slow"]) as (stopped, slow):
        await post(other_storage, queue, bodies=["other"])
        await everything(other_storage, queue)
        [job] = await everything(other_storage, OUTBOX)

        stopped.go_on.set()
        await slow

    assert [[one.id for one in jobs] for jobs in seen] == [[job.id]]
    assert len(await everything(other_storage, OUTBOX)) == 2


async def test_a_key_whose_first_post_is_under_way_in_another_process_is_answered_as_that(
    storage: Storage, other_storage: Storage, queue: QueueRef
) -> None:
    async with stopped_post(storage, queue, bodies=["a"], key=idempotency_key(), after=True) as (
        stopped,
        first,
    ):
        again = await post(other_storage, queue, bodies=["a"], key=idempotency_key())

        stopped.go_on.set()
        assert (await first).ids == again.ids
    assert bodies(await everything(storage, queue)) == ["a"]


async def test_two_processes_that_post_one_key_at_once_store_it_once(
    storage: Storage, other_storage: Storage, queue: QueueRef
) -> None:
    async with stopped_post(storage, queue, bodies=["a"], key=idempotency_key()) as (stopped, slow):
        quick = await post(other_storage, queue, bodies=["a"], key=idempotency_key())

        stopped.go_on.set()

        assert (await slow).ids == quick.ids
    assert bodies(await everything(storage, queue)) == ["a"]


async def test_a_key_whose_writer_died_half_way_is_free_again(
    storage: Storage,
    other_storage: Storage,
    queue: QueueRef,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only the key was written: the insert was broken off behind it."""
    set_deadline(monkeypatch, 200)
    await storage.queues.create(queue, metadata={}, now=START)
    dying = post(storage, queue, bodies=["a"], key=idempotency_key())
    await kill_in_insert(storage, dying, behind=1)

    posted = await post(other_storage, queue, bodies=["a"], key=idempotency_key())
    again = await post(other_storage, queue, bodies=["a"], key=idempotency_key())

    assert posted.ids == again.ids
    assert ids(await everything(other_storage, queue)) == posted.ids


async def test_a_reservation_that_comes_late_hides_no_block_of_the_next_post(
    storage: Storage,
    other_storage: Storage,
    queue: QueueRef,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The answer to it was given up; the server gets to it behind the next post's reservation."""
    set_deadline(monkeypatch, 200)
    queues = store_of(storage).collections.queues
    reserve = queues.find_one_and_update
    given_up: list[Any] = []

    async def give_up(*arguments: Any, **options: Any) -> None:
        given_up.append((arguments, options))
        raise AutoReconnect("no answer came in time")

    with monkeypatch.context() as silent:
        silent.setattr(queues, "find_one_and_update", give_up)
        with pytest.raises(StorageUnavailable):
            await post(storage, queue, bodies=["refused"])
    async with stopped_post(storage, queue, bodies=["slow"]) as (stopped, slow):
        [(arguments, options)] = given_up
        await reserve(*arguments, **options)
        await post(other_storage, queue, bodies=["a"])
        passed = await page(other_storage, queue)
        stopped.go_on.set()
        await slow

    late = await page(other_storage, queue, marker=passed.marker)
    assert bodies(passed) + bodies(late) == bodies(await everything(other_storage, queue))
    assert bodies(late) == ["slow"]


async def test_sealed_blocks_of_a_refused_batch_stay(
    storage: Storage,
    other_storage: Storage,
    queue: QueueRef,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One queue's block was fenced between the seals: other processes believe the block of the other queue."""
    fenced = QueueRef(queue.project, "fenced")
    again: list[Posted] = []

    async def repeat() -> None:
        again.append(await post(other_storage, queue, bodies=["a"], key=idempotency_key()))

    before_taking_back(storage, monkeypatch, repeat)
    await subscribe(storage, queue)
    await subscribe(storage, fenced)
    async with stopped_at_insert(storage) as stopped:
        posting = asyncio.gather(
            post(storage, queue, bodies=["a"], key=idempotency_key()),
            post(storage, fenced, bodies=["b"]),
        )
        await stopped.begun.wait()
        block = await present_block(storage, fenced)
        await store_of(storage).collections.messages.insert_one(fence_at(block, block.seal_id))
        stopped.go_on.set()
        first, second = await posting

    assert [one.ids for one in again] == [first.ids]
    assert ids(await everything(storage, queue)) == first.ids
    assert ids(await everything(storage, fenced)) == second.ids
    jobs = [json.loads(job.body)["ids"] for job in await everything(storage, OUTBOX)]
    assert sorted(jobs) == sorted([first.ids, second.ids])


async def test_a_block_whose_messages_were_taken_back_vouches_for_nothing(
    storage: Storage, other_storage: Storage, queue: QueueRef
) -> None:
    """A process that read the key of a refused post must not believe that the post is stored."""
    async with stopped_post(storage, queue, bodies=["a"], key=idempotency_key()) as (stopped, slow):
        block = await present_block(storage, queue)
        await post(other_storage, queue, bodies=["a"], key=idempotency_key())
        stopped.go_on.set()
        await slow

    assert await Blocks(store_of(storage).collections).ends([block]) == {block: BlockState.FENCED}


async def test_an_insert_that_was_broken_off_leaves_nothing_behind_for_readers(
    storage: Storage,
    other_storage: Storage,
    queue: QueueRef,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_deadline(monkeypatch, 200)
    await storage.queues.create(queue, metadata={}, now=START)
    await kill_in_insert(storage, post(storage, queue, bodies=["1", "2", "3"]), behind=2)
    await post(other_storage, queue, bodies=["whole"])

    assert bodies(await page(other_storage, queue)) == ["whole"]
    assert bodies(await everything(other_storage, queue)) == ["whole"]


async def test_documents_that_a_reader_left_are_removed_by_the_next(
    storage: Storage,
    other_storage: Storage,
    queue: QueueRef,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A reader ended when it had fenced the block of an insert that was broken off."""
    set_deadline(monkeypatch, 0)
    await storage.queues.create(queue, metadata={}, now=START)
    await kill_in_insert(storage, post(storage, queue, bodies=["1", "2", "3"]), behind=2)
    block = await present_block(storage, queue)
    await Blocks(store_of(storage).collections).put_fences(
        [fence_at(block, block.head_id), fence_at(block, block.seal_id)]
    )

    assert bodies(await everything(other_storage, queue)) == []


async def test_a_fence_whose_majority_is_in_doubt_ends_no_block(
    storage: Storage, queue: QueueRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fence of another process stood in the way, and may be undone with its primary."""
    set_deadline(monkeypatch, 0)
    await storage.queues.create(queue, metadata={}, now=START)
    await kill_in_insert(storage, post(storage, queue, bodies=["a"]), behind=0)
    block = await present_block(storage, queue)
    messages = store_of(storage).collections.messages

    async def insert_in_doubt(_: object, **__: object) -> None:
        taken = {"writeErrors": [{"code": 11000}], "writeConcernErrors": [{"code": 189}]}
        raise BulkWriteError(taken)

    monkeypatch.setattr(messages, "insert_many", insert_in_doubt)
    with pytest.raises(StorageUnavailable):
        await Blocks(store_of(storage).collections).fence(block)


async def test_a_seal_that_the_server_reclaimed_takes_no_message_along(
    storage: Storage,
    other_storage: Storage,
    queue: QueueRef,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The queue was not read for so long that its last block's slot is still there."""
    set_deadline(monkeypatch, 0)
    seals_may_be_gone(monkeypatch)
    await post(storage, queue, bodies=["a"])
    block = await present_block(storage, queue)
    await store_of(storage).collections.messages.delete_one({"_id": block.seal_id})

    assert bodies(await page(other_storage, queue)) == ["a"]


async def test_a_key_that_outlives_its_seal_removes_nothing(
    storage: Storage,
    other_storage: Storage,
    queue: QueueRef,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its life is counted by the posting process, and that of the seal by the server."""
    set_deadline(monkeypatch, 0)
    seals_may_be_gone(monkeypatch)
    key = idempotency_key(keep_seconds=0)
    await post(storage, queue, bodies=["a"], key=key)
    block = await present_block(storage, queue)
    await store_of(storage).collections.messages.delete_one({"_id": block.seal_id})

    await post(other_storage, queue, bodies=["a"], key=key, now=after(-1))

    assert bodies(await everything(storage, queue)) == ["a", "a"]


async def test_writers_that_are_killed_and_paused_lose_and_reorder_nothing(
    uri: str, storage: Storage, queue: QueueRef, tmp_path: Path
) -> None:
    """Processes post while a dice kills (SIGKILL) and pauses (SIGSTOP) them; observers page on."""
    seed = int(os.environ.get("ZAQAR_TEST_SEED", time.time()))
    print(f"seed {seed}")
    dice = random.Random(seed)
    producers = Producers(uri, queue, tmp_path)
    stopping = asyncio.Event()
    observers = [
        asyncio.create_task(observe(storage, queue, stopping, limit)) for limit in (50, 1000)
    ]
    async with asyncio.timeout(IN_TIME_SECONDS):
        try:
            for _ in range(PRODUCERS):
                producers.start()
            deadline = time.monotonic() + CHAOS_SECONDS
            while time.monotonic() < deadline or len(producers.acknowledged()) <= ENOUGH:
                await asyncio.sleep(dice.uniform(0.2, 0.6))
                victim = producers.any_that_posts(dice)
                if victim is None:
                    continue
                if dice.random() < 0.4:
                    producers.kill(victim)
                    producers.start()
                else:
                    await producers.pause(victim, seconds=dice.uniform(0.1, 0.8))
        finally:
            producers.stop()
        stopping.set()
        seen = [await observer for observer in observers]

    acknowledged = producers.acknowledged()
    stored = bodies(await page(storage, queue, limit=1_000_000))
    for one in seen:
        assert set(acknowledged) - set(one) == set()
        assert one == stored
    assert max(Counter(stored).values()) == 1
    for task, sent in by_task(acknowledged).items():
        assert sent == [body for body in stored if task_of(body) == task and body in set(sent)]


async def present_block(storage: Storage, queue: QueueRef) -> Block:
    """The block that was reserved last."""
    stored = await store_of(storage).collections.queues.find_one({"_id": queue_key(queue)})
    assert stored is not None
    return max(blocks_of(stored), key=lambda block: block.first)


async def slots(storage: Storage, queue: QueueRef) -> set[str]:
    """The writers that have a slot in the queue's document."""
    stored = await store_of(storage).collections.queues.find_one({"_id": queue_key(queue)})
    assert stored is not None
    return set(stored["in_flight"])


def seals_may_be_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time in which a block has its seal for certain is over at once."""
    fence = partialmethod(Blocks.fence, seal_is_there=-timedelta(days=1))
    monkeypatch.setattr(Blocks, "fence", fence)


def see_no_seal_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = Blocks.ends

    async def look_too_early(*_: object) -> dict[Block, BlockState]:
        monkeypatch.setattr(Blocks, "ends", ends)
        return {}

    monkeypatch.setattr(Blocks, "ends", look_too_early)


async def observe(
    storage: Storage, queue: QueueRef, stopping: asyncio.Event, limit: int
) -> list[str]:
    """Page on until everything has been seen and no writer is left, nor its fence."""
    seen: list[str] = []
    marker = None
    quiet_since = None
    while quiet_since is None or time.monotonic() < quiet_since + 1.0:
        current = await page(storage, queue, marker=marker, limit=limit)
        seen += bodies(current)
        marker = current.marker or marker
        if current.messages or not stopping.is_set():
            quiet_since = None
        elif quiet_since is None:
            quiet_since = time.monotonic()
        await asyncio.sleep(0.002)
    return seen


class Producers:
    """The producing processes, and the acknowledged posts of each."""

    def __init__(self, uri: str, queue: QueueRef, directory: Path) -> None:
        self._arguments = [uri, queue.project, queue.name]
        self._directory = directory
        self._numbers = itertools.count()
        self._running: dict[subprocess.Popen[bytes], Path] = {}

    def start(self) -> None:
        label = f"p{next(self._numbers)}"
        path = self._directory / label
        with path.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.mongodb.producer", *self._arguments, label],
                stdout=output,
            )
        self._running[process] = path

    def any_that_posts(self, dice: random.Random) -> subprocess.Popen[bytes] | None:
        begun = [process for process, output in self._running.items() if output.stat().st_size]
        return dice.choice(begun) if begun else None

    def kill(self, victim: subprocess.Popen[bytes]) -> None:
        del self._running[victim]
        victim.kill()
        victim.wait()

    async def pause(self, victim: subprocess.Popen[bytes], *, seconds: float) -> None:
        victim.send_signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        victim.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        for process in [*self._running]:
            self.kill(process)

    def acknowledged(self) -> list[str]:
        """All bodies whose post returned; per task in order."""
        return [
            line
            for output in sorted(self._directory.iterdir())
            for line in output.read_text().splitlines()
            if line.count("/") == 2
        ]


def task_of(body: str) -> str:
    return body.partition("/")[0]


def by_task(acknowledged: list[str]) -> dict[str, list[str]]:
    tasks: dict[str, list[str]] = defaultdict(list)
    for body in acknowledged:
        tasks[task_of(body)].append(body)
    return tasks
