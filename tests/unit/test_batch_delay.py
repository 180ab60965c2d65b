"""When a batch of writes begins."""

from __future__ import annotations

import asyncio

from zaqar_notify.storage.batch_delay import FEWEST_SKIPS, BatchDelay

LONG = 60.0
"""Seconds that no test waits."""


async def test_a_group_waits_until_those_who_were_just_answered_are_back() -> None:
    batch_delay, begun = BatchDelay(seconds=LONG, enough=8), asyncio.Event()
    batch_delay.answered(2, waiting=0)

    batch_delay.arrived()
    batch_delay.start(begun.set)
    await turn_of_the_loop()
    assert not begun.is_set()

    batch_delay.arrived()
    await turn_of_the_loop()
    assert begun.is_set()


async def test_the_caller_that_was_answered_alone_does_not_wait_for_itself() -> None:
    batch_delay, begun = BatchDelay(seconds=LONG, enough=8), asyncio.Event()
    batch_delay.answered(1, waiting=0)

    batch_delay.arrived()
    batch_delay.start(begun.set)

    await turn_of_the_loop()
    assert begun.is_set()


async def test_groups_of_all_kinds_begin_when_all_are_back() -> None:
    batch_delay = BatchDelay(seconds=LONG, enough=8)
    posts, deletes = asyncio.Event(), asyncio.Event()
    batch_delay.answered(3, waiting=0)

    batch_delay.arrived()
    batch_delay.start(posts.set)
    batch_delay.arrived()
    batch_delay.start(deletes.set)
    await turn_of_the_loop()
    assert not posts.is_set()

    batch_delay.arrived()
    await turn_of_the_loop()
    assert posts.is_set()
    assert deletes.is_set()


async def test_a_group_that_is_large_enough_does_not_wait() -> None:
    batch_delay, begun = BatchDelay(seconds=LONG, enough=8), asyncio.Event()
    batch_delay.answered(50, waiting=8)

    batch_delay.start(begun.set)

    await turn_of_the_loop()
    assert begun.is_set()


async def test_a_group_begins_without_those_who_do_not_come_and_the_next_ones_at_once() -> None:
    batch_delay, begun = BatchDelay(seconds=0.001, enough=8), asyncio.Event()
    batch_delay.answered(2, waiting=0)
    batch_delay.start(begun.set)
    await begun.wait()

    for _ in range(FEWEST_SKIPS):
        batch_delay.answered(2, waiting=0)
        begun.clear()
        batch_delay.start(begun.set)
        await turn_of_the_loop()
        assert begun.is_set()


async def turn_of_the_loop() -> None:
    await asyncio.sleep(0)
    await asyncio.sleep(0)
