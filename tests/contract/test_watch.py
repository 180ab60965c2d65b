"""Waiting for messages: each change wakes the right watches, in order, and no wake is lost.

Time passes for real here, so instants are the real ones. Leases and delays are of one second, begun
most of a second ago, so that nothing waits for long.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from tests.clock import ManualClock
from tests.contract.steps import bodies, claim, hold, page, post, together
from zaqar_notify.models import DeadLetter, QueueRef
from zaqar_notify.storage.base import Watch
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import open_storage

AT_ONCE_SECONDS = 5.0
"""A wake comes within milliseconds; this leaves room for a disk that is slow to sync."""
LONG_SECONDS = 20.0
A_MOMENT_SECONDS = 0.1
"""How long a test looks on to see that nothing happens."""


def now() -> datetime:
    return datetime.now(UTC)


def most_of_a_second_ago() -> datetime:
    return now() - timedelta(seconds=0.7)


async def woken(watch: Watch) -> bool:
    """Wait long, but be woken soon."""
    async with asyncio.timeout(AT_ONCE_SECONDS):
        return await watch.changed(timeout_seconds=LONG_SECONDS)


async def begin_to_wait(*watches: Watch) -> list[asyncio.Task[bool]]:
    """Tasks that wait, begun one after the other."""
    tasks = []
    for watch in watches:
        tasks.append(asyncio.create_task(watch.changed(timeout_seconds=LONG_SECONDS)))
        await asyncio.sleep(0)
    return tasks


async def finished(tasks: list[asyncio.Task[bool]]) -> list[bool]:
    """Which of the tasks end within a moment of the first one."""
    await asyncio.wait(tasks, timeout=AT_ONCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.wait(tasks, timeout=A_MOMENT_SECONDS)
    return [task.done() for task in tasks]


async def cancel(tasks: list[asyncio.Task[bool]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def take_one(storage: Storage, queue: QueueRef, watch: Watch) -> str:
    """Claim one message, waiting until there is one."""
    async with asyncio.timeout(AT_ONCE_SECONDS):
        while (held := await claim(storage, queue, limit=1, now=now())) is None:
            assert await watch.changed(timeout_seconds=LONG_SECONDS)
    return bodies(held)[0]


async def test_a_wait_ends_when_nothing_happens(storage: Storage, queue: QueueRef) -> None:
    with storage.messages.watch(queue) as watch:
        async with asyncio.timeout(AT_ONCE_SECONDS):
            assert await watch.changed(timeout_seconds=A_MOMENT_SECONDS) is False


@pytest.mark.parametrize("exclusive", [True, False])
async def test_a_post_wakes_a_waiting_watch(
    storage: Storage, queue: QueueRef, exclusive: bool
) -> None:
    with storage.messages.watch(queue, exclusive=exclusive) as watch:
        waiting = await begin_to_wait(watch)

        await post(storage, queue, bodies=["a"], now=now())

        async with asyncio.timeout(AT_ONCE_SECONDS):
            assert await waiting[0] is True
        assert bodies(await page(storage, queue, now=now())) == ["a"]


@pytest.mark.parametrize("exclusive", [True, False])
async def test_a_post_between_look_and_wait_is_not_missed(
    storage: Storage, queue: QueueRef, exclusive: bool
) -> None:
    with storage.messages.watch(queue, exclusive=exclusive) as watch:
        assert bodies(await page(storage, queue, now=now())) == []

        await post(storage, queue, bodies=["a"], now=now())

        assert await woken(watch) is True


async def test_a_watch_is_woken_again_and_again(storage: Storage, queue: QueueRef) -> None:
    with storage.messages.watch(queue) as watch:
        for _ in range(5):
            await post(storage, queue, bodies=["a"], now=now())
            assert await woken(watch) is True


async def test_a_watch_outlives_its_queue(storage: Storage, queue: QueueRef) -> None:
    with storage.messages.watch(queue) as watch:
        await post(storage, queue, bodies=["a"], now=now())
        assert await woken(watch) is True
        await storage.queues.delete(queue, now=now())

        await post(storage, queue, bodies=["b"], now=now())

        assert await woken(watch) is True


@pytest.mark.parametrize("exclusive", [True, False])
async def test_a_release_wakes(storage: Storage, queue: QueueRef, exclusive: bool) -> None:
    await post(storage, queue, bodies=["a"], now=now())
    held = await hold(storage, queue, now=now())
    with storage.messages.watch(queue, exclusive=exclusive) as watch:
        waiting = await begin_to_wait(watch)

        await storage.claims.release(queue, held.id, now=now())

        async with asyncio.timeout(AT_ONCE_SECONDS):
            assert await waiting[0] is True
        assert bodies(await page(storage, queue, now=now())) == ["a"]


async def test_a_message_moved_to_a_dead_letter_queue_wakes_its_watches(
    storage: Storage, queue: QueueRef
) -> None:
    rule = DeadLetter(queue=QueueRef(queue.project, "dead"), max_claim_count=0, ttl=None)
    await post(storage, queue, bodies=["a"], now=now())
    with storage.messages.watch(rule.queue) as watch:
        await claim(storage, queue, now=now(), dead_letter=rule)

        assert await woken(watch) is True


async def test_a_job_wakes_those_who_watch_the_internal_queue(
    storage: Storage, queue: QueueRef
) -> None:
    """A job is a message like any other."""
    internal = QueueRef("", "outbox")
    with storage.messages.watch(internal, exclusive=True) as watch:
        await post(storage, internal, bodies=["job"], now=now())

        assert await take_one(storage, internal, watch) == "job"


async def test_a_claim_s_expiry_wakes(storage: Storage, queue: QueueRef) -> None:
    await post(storage, queue, bodies=["a"], now=now())
    await hold(storage, queue, ttl=1, now=most_of_a_second_ago())

    with storage.messages.watch(queue, exclusive=True) as watch:
        assert await take_one(storage, queue, watch) == "a"


async def test_the_expiry_of_a_claim_made_during_the_wait_wakes(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["a"], now=now())
    with storage.messages.watch(queue, exclusive=True) as watch:
        holder = await hold(storage, queue, ttl=600, now=now())
        waiting = asyncio.create_task(take_one(storage, queue, watch))
        await asyncio.sleep(0)
        await storage.claims.renew(queue, holder.id, ttl=1, grace=60, now=most_of_a_second_ago())

        assert await waiting == "a"


async def test_a_delay_s_end_wakes(storage: Storage, queue: QueueRef) -> None:
    await post(storage, queue, bodies=["a"], delay=1, now=most_of_a_second_ago())

    with storage.messages.watch(queue, exclusive=True) as watch:
        assert await take_one(storage, queue, watch) == "a"


async def test_whether_a_delay_has_ended_is_asked_of_the_storage_s_clock(
    storage: Storage, queue: QueueRef
) -> None:
    storage.clock = ManualClock(now() + timedelta(seconds=600))
    await post(storage, queue, bodies=["a"], delay=600, now=now())

    with storage.messages.watch(queue, exclusive=True) as watch:
        assert await woken(watch)


async def test_the_end_of_a_delay_begun_during_the_wait_wakes_before_later_ones(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["late"], delay=600, now=now())
    with storage.messages.watch(queue, exclusive=True) as watch:
        waiting = asyncio.create_task(take_one(storage, queue, watch))
        await asyncio.sleep(0)

        await post(storage, queue, bodies=["soon"], delay=1, now=most_of_a_second_ago())

        assert await waiting == "soon"


async def test_an_observer_is_woken_by_a_delay_s_end(storage: Storage, queue: QueueRef) -> None:
    with storage.messages.watch(queue) as watch:
        await post(storage, queue, bodies=["a"], delay=1, now=most_of_a_second_ago())

        async with asyncio.timeout(AT_ONCE_SECONDS):
            while not bodies(await page(storage, queue, now=now())):
                assert await watch.changed(timeout_seconds=LONG_SECONDS)


async def test_several_consumers_get_what_falls_due_together(
    storage: Storage, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=["a", "b", "c"], delay=1, now=most_of_a_second_ago())

    async def consume() -> str:
        with storage.messages.watch(queue, exclusive=True) as watch:
            return await take_one(storage, queue, watch)

    assert sorted(await asyncio.gather(consume(), consume(), consume())) == ["a", "b", "c"]


async def test_a_claim_made_before_a_restart_wakes_when_it_expires(
    store_uri: str, queue: QueueRef
) -> None:
    storage = await open_storage(store_uri)
    await post(storage, queue, bodies=["a"], now=now())
    await hold(storage, queue, ttl=1, now=most_of_a_second_ago())
    await storage.close()

    storage = await open_storage(store_uri)
    with storage.messages.watch(queue, exclusive=True) as watch:
        assert await take_one(storage, queue, watch) == "a"
    await storage.close()


async def test_a_post_of_one_message_wakes_one_exclusive_watch_the_longest_waiting(
    storage: Storage, queue: QueueRef
) -> None:
    watches = [storage.messages.watch(queue, exclusive=True) for _ in range(3)]
    waiting = await begin_to_wait(watches[1], watches[2], watches[0])

    await post(storage, queue, bodies=["a"], now=now())
    after_first = await finished(waiting)
    await post(storage, queue, bodies=["b"], now=now())
    after_second = await finished(waiting[1:])

    assert after_first == [True, False, False]
    assert after_second == [True, False]
    await cancel(waiting)
    for watch in watches:
        watch.close()


async def test_a_watch_that_waits_again_stands_at_the_end_of_the_line(
    storage: Storage, queue: QueueRef
) -> None:
    first, second = (storage.messages.watch(queue, exclusive=True) for _ in range(2))
    waiting = await begin_to_wait(first, second)
    await post(storage, queue, bodies=["a"], now=now())
    assert await finished(waiting) == [True, False]
    waiting += await begin_to_wait(first)

    await post(storage, queue, bodies=["b"], now=now())

    assert await finished(waiting[1:]) == [True, False]
    await cancel(waiting)
    first.close()
    second.close()


async def test_a_post_of_two_messages_wakes_two_exclusive_watches(
    storage: Storage, queue: QueueRef
) -> None:
    watches = [storage.messages.watch(queue, exclusive=True) for _ in range(2)]
    waiting = await begin_to_wait(*watches)

    await post(storage, queue, bodies=["a", "b"], now=now())

    async with asyncio.timeout(AT_ONCE_SECONDS):
        assert await asyncio.gather(*waiting) == [True, True]
    for watch in watches:
        watch.close()


async def test_a_post_wakes_every_observer_beside_the_consumer(
    storage: Storage, queue: QueueRef
) -> None:
    observers = [storage.messages.watch(queue) for _ in range(3)]
    consumer = storage.messages.watch(queue, exclusive=True)
    waiting = await begin_to_wait(observers[0], consumer, *observers[1:])

    await post(storage, queue, bodies=["a"], now=now())

    async with asyncio.timeout(AT_ONCE_SECONDS):
        assert await asyncio.gather(*waiting) == [True, True, True, True]
    for watch in [*observers, consumer]:
        watch.close()


async def test_a_watch_closed_after_its_wake_passes_it_on(
    storage: Storage, queue: QueueRef
) -> None:
    """Its client hung up in the very moment in which the message came."""
    leaving, staying = (storage.messages.watch(queue, exclusive=True) for _ in range(2))
    waiting = await begin_to_wait(leaving, staying)
    await post(storage, queue, bodies=["a"], now=now())
    async with asyncio.timeout(AT_ONCE_SECONDS):
        assert await waiting[0] is True

    leaving.close()

    async with asyncio.timeout(AT_ONCE_SECONDS):
        assert await waiting[1] is True
    staying.close()


async def test_a_watch_closed_before_its_first_wait_passes_its_wake_on(
    storage: Storage, queue: QueueRef
) -> None:
    leaving, staying = (storage.messages.watch(queue, exclusive=True) for _ in range(2))
    waiting = await begin_to_wait(staying)
    await post(storage, queue, bodies=["a"], now=now())

    leaving.close()

    async with asyncio.timeout(AT_ONCE_SECONDS):
        assert await waiting[0] is True
    staying.close()


async def test_a_wait_cancelled_in_the_moment_of_its_wake_passes_it_on(
    storage: Storage, queue: QueueRef
) -> None:
    leaving, staying = (storage.messages.watch(queue, exclusive=True) for _ in range(2))
    [left, stayed] = await begin_to_wait(leaving, staying)
    posting = asyncio.create_task(post(storage, queue, bodies=["a"], now=now()))
    posting.add_done_callback(lambda _: left.cancel())
    await posting
    await asyncio.wait([left])

    leaving.close()

    async with asyncio.timeout(AT_ONCE_SECONDS):
        assert await stayed is True
    staying.close()


async def test_a_message_is_not_left_lying_when_consumers_come_and_go(
    storage: Storage, queue: QueueRef
) -> None:
    """Impatient consumers give up all the time; a patient one gets every message at once."""
    total = 40
    taken: list[str] = []

    async def impatient() -> None:
        while len(taken) < total:
            with storage.messages.watch(queue, exclusive=True) as watch:
                await watch.changed(timeout_seconds=0.001)

    async def patient() -> None:
        with storage.messages.watch(queue, exclusive=True) as watch:
            while len(taken) < total:
                taken.append(await take_one(storage, queue, watch))

    async def produce() -> None:
        for number in range(total):
            await post(storage, queue, bodies=[f"{number}"], now=now())
            await asyncio.sleep(0)

    await together(impatient(), impatient(), patient(), produce())

    assert taken == [f"{number}" for number in range(total)]


async def test_consumers_that_only_wait_for_wakes_miss_no_message(
    storage: Storage, queue: QueueRef
) -> None:
    total = 60
    taken: list[str] = []

    async def consume() -> None:
        with storage.messages.watch(queue, exclusive=True) as watch:
            while len(taken) < total:
                held = await claim(storage, queue, limit=1, now=now())
                if held is not None:
                    taken.extend(bodies(held))
                else:
                    await watch.changed(timeout_seconds=AT_ONCE_SECONDS)

    async def produce() -> None:
        for number in range(total):
            await post(storage, queue, bodies=[f"{number}"], now=now())

    await together(consume(), consume(), consume(), produce())

    assert sorted(taken, key=int) == [f"{number}" for number in range(total)]


async def test_stopping_ends_every_wait_for_good(
    storage: Storage, queue: QueueRef, other_queue: QueueRef
) -> None:
    watches = [
        storage.messages.watch(queue),
        storage.messages.watch(queue, exclusive=True),
        storage.messages.watch(queue, exclusive=True),
        storage.messages.watch(other_queue),
    ]
    waiting = await begin_to_wait(*watches)

    storage.stop_waiting()
    storage.stop_waiting()

    async with asyncio.timeout(AT_ONCE_SECONDS):
        assert await asyncio.gather(*waiting) == [False] * 4
    assert [await woken(watch) for watch in watches] == [False] * 4
    assert await woken(storage.messages.watch(queue)) is False
    for watch in watches:
        watch.close()


async def test_a_store_that_stopped_waiting_still_stores(storage: Storage, queue: QueueRef) -> None:
    storage.stop_waiting()

    await post(storage, queue, bodies=["a"], now=now())

    assert bodies(await page(storage, queue, now=now())) == ["a"]


async def test_closing_the_store_ends_every_wait(store_uri: str, queue: QueueRef) -> None:
    storage = await open_storage(store_uri)
    with storage.messages.watch(queue) as watch:
        waiting = await begin_to_wait(watch)

        await storage.close()

        async with asyncio.timeout(AT_ONCE_SECONDS):
            assert await waiting[0] is False


async def test_closing_a_watch_twice_is_no_error(storage: Storage, queue: QueueRef) -> None:
    closed = storage.messages.watch(queue, exclusive=True)
    closed.close()
    closed.close()

    with storage.messages.watch(queue, exclusive=True) as watch:
        closed.close()
        await post(storage, queue, bodies=["a"], now=now())
        assert await woken(watch) is True


async def test_a_consumer_that_looks_again_and_again_leaves_a_store_that_closes_its_time(
    storage: Storage, queue: QueueRef
) -> None:
    async def look() -> None:
        with storage.messages.watch(queue) as watch:
            for _ in range(1000):
                await watch.changed(timeout_seconds=LONG_SECONDS)

    storage.stop_waiting()
    looking = asyncio.create_task(look())
    await asyncio.sleep(0)

    assert not looking.done()
    looking.cancel()
