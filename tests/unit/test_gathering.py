"""When a group of writes begins."""

from __future__ import annotations

import asyncio

from zaqar_notify.storage.gathering import FEWEST_SKIPS, Gathering

LONG = 60.0
"""Seconds that no test waits."""


async def test_a_group_waits_until_those_who_were_just_answered_are_back() -> None:
    gathering, begun = Gathering(seconds=LONG, enough=8), asyncio.Event()
    gathering.answered(2, waiting=0)

    gathering.came()
    gathering.begin(begun.set)
    await turn_of_the_loop()
    assert not begun.is_set()

    gathering.came()
    await turn_of_the_loop()
    assert begun.is_set()


async def test_the_caller_that_was_answered_alone_does_not_wait_for_itself() -> None:
    gathering, begun = Gathering(seconds=LONG, enough=8), asyncio.Event()
    gathering.answered(1, waiting=0)

    gathering.came()
    gathering.begin(begun.set)

    await turn_of_the_loop()
    assert begun.is_set()


async def test_groups_of_all_kinds_begin_when_all_are_back() -> None:
    gathering = Gathering(seconds=LONG, enough=8)
    posts, deletes = asyncio.Event(), asyncio.Event()
    gathering.answered(3, waiting=0)

    gathering.came()
    gathering.begin(posts.set)
    gathering.came()
    gathering.begin(deletes.set)
    await turn_of_the_loop()
    assert not posts.is_set()

    gathering.came()
    await turn_of_the_loop()
    assert posts.is_set()
    assert deletes.is_set()


async def test_a_group_that_is_large_enough_does_not_wait() -> None:
    gathering, begun = Gathering(seconds=LONG, enough=8), asyncio.Event()
    gathering.answered(50, waiting=8)

    gathering.begin(begun.set)

    await turn_of_the_loop()
    assert begun.is_set()


async def test_a_group_begins_without_those_who_do_not_come_and_the_next_ones_at_once() -> None:
    gathering, begun = Gathering(seconds=0.001, enough=8), asyncio.Event()
    gathering.answered(2, waiting=0)
    gathering.begin(begun.set)
    await begun.wait()

    for _ in range(FEWEST_SKIPS):
        gathering.answered(2, waiting=0)
        begun.clear()
        gathering.begin(begun.set)
        await turn_of_the_loop()
        assert begun.is_set()


async def turn_of_the_loop() -> None:
    await asyncio.sleep(0)
    await asyncio.sleep(0)
