"""How mails take turns: projects one after another, and none waits for long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from sinks.carrier import Trouble
from sinks.flow import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, MAX_WAITING, Flow
from zaqar_notify.models import Outcome, Verdict

DELIVERED = Outcome(Verdict.DELIVERED, 250)
NO_ANSWER = Outcome(Verdict.TRY_LATER)


class Timer:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Relay:
    """Takes mails when the test lets it, and remembers whose in which order."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.open = asyncio.Event()

    async def take(self, project: str) -> Outcome:
        self.taken.append(project)
        await self.open.wait()
        return DELIVERED


def answering(outcome: Outcome) -> Callable[[], Awaitable[Outcome]]:
    async def hand_over() -> Outcome:
        return outcome

    return hand_over


def failing(**trouble: str) -> Callable[[], Awaitable[Outcome]]:
    async def hand_over() -> Outcome:
        raise Trouble("the relay is away", **trouble)  # type: ignore[arg-type]

    return hand_over


async def started(flow: Flow, relay: Relay, *projects: str) -> list[asyncio.Task[Outcome]]:
    """Mails of these projects, in this order, under way or waiting."""
    tasks = []
    for project in projects:
        hand_over = partial(relay.take, project)
        tasks.append(asyncio.create_task(flow.pass_on(project, "ops", hand_over)))
        await asyncio.sleep(0)
    return tasks


async def test_projects_take_turns_however_many_mails_one_has() -> None:
    flow, relay = Flow(1, timer=Timer()), Relay()

    mails = await started(flow, relay, *["a"] * 20, "b", "b", "c")
    relay.open.set()
    await asyncio.gather(*mails)

    assert relay.taken[:7] == ["a", "a", "b", "c", "a", "b", "a"]
    assert len(relay.taken) == 23


async def test_a_project_whose_mails_hang_leaves_turns_to_others() -> None:
    """Its recipients may be such that the relay looks for them for minutes."""
    flow, hanging, well = Flow(8, timer=Timer()), Relay(), Relay()

    stuck = await started(flow, hanging, *["a"] * 50, *["b"] * 50)
    well.open.set()
    mail = await flow.pass_on("c", "ops", partial(well.take, "c"))
    hanging.open.set()
    await asyncio.gather(*stuck)

    assert mail == DELIVERED


async def test_a_project_whose_mails_take_long_is_the_one_that_waits_longer() -> None:
    timer = Timer()
    flow, relay = Flow(8, timer=timer), Relay()

    slow = await started(flow, relay, *["a"] * 4)
    timer.now += 600
    relay.open.set()
    await asyncio.gather(*slow)
    relay.open.clear()
    again = await started(flow, relay, *["a"] * 40, *["b"] * 40)
    waits = [[each for each in again[at : at + 40] if each.done()] for at in (0, 40)]
    relay.open.set()
    await asyncio.gather(*again)

    assert max(each.result().retry_after_seconds or 0 for each in waits[0]) > 60
    assert waits[1] == []


async def test_a_project_with_many_mails_leaves_room_in_the_line_for_others() -> None:
    flow, relay = Flow(1, timer=Timer()), Relay()

    mails = await started(flow, relay, *["a"] * (2 * MAX_WAITING), *["b"] * 10)
    await asyncio.sleep(0)
    turned_away = [mail.result() for mail in mails if mail.done()]
    relay.open.set()
    await asyncio.gather(*mails)

    assert 0 < len(turned_away) < 2 * MAX_WAITING
    assert {each.verdict for each in turned_away} == {Verdict.POSTPONED}
    assert relay.taken.count("b") == 10


async def test_trouble_pauses_all_mails_longer_each_time_until_one_goes_through() -> None:
    timer = Timer()
    flow = Flow(4, timer=timer)
    pauses = []
    for _ in range(12):
        outcome = await flow.pass_on("a", "ops", failing())
        pauses.append(outcome.retry_after_seconds)
        other = await flow.pass_on("b", "sales", answering(DELIVERED))
        assert other.verdict is Verdict.POSTPONED
        timer.now += outcome.retry_after_seconds or 0

    assert pauses[0] == FIRST_PAUSE_SECONDS
    assert pauses == sorted(pauses, key=lambda seconds: seconds or 0)
    assert LONGEST_PAUSE_SECONDS <= (pauses[-1] or 0) <= LONGEST_PAUSE_SECONDS + 1
    assert flow.troubles == ["the relay is away"]

    assert (await flow.pass_on("a", "ops", answering(DELIVERED))).verdict is Verdict.DELIVERED
    assert flow.troubles == []
    assert (await flow.pass_on("a", "ops", failing())).retry_after_seconds == FIRST_PAUSE_SECONDS


async def test_after_trouble_one_mail_of_each_of_two_projects_tries_whether_it_is_over() -> None:
    timer = Timer()
    flow, relay = Flow(4, timer=timer), Relay()
    await flow.pass_on("a", "ops", failing())
    timer.now += FIRST_PAUSE_SECONDS

    mails = await started(flow, relay, *"aabc")
    assert relay.taken == ["a", "b"]
    relay.open.set()
    await asyncio.gather(*mails)

    assert sorted(relay.taken) == ["a", "a", "b", "c"]


async def test_a_mail_that_was_under_way_before_the_trouble_does_not_end_it() -> None:
    flow, relay = Flow(4, timer=Timer()), Relay()
    [mail] = await started(flow, relay, "a")
    await flow.pass_on("a", "ops", failing())

    relay.open.set()
    assert (await mail).verdict is Verdict.DELIVERED

    assert flow.troubles == ["the relay is away"]
    assert (await flow.pass_on("a", "ops", answering(DELIVERED))).verdict is Verdict.POSTPONED


async def test_trouble_with_one_sender_pauses_the_mails_of_that_sender_only() -> None:
    flow = Flow(4, timer=Timer())

    await flow.pass_on("a", "ops", failing(kind="ops"))

    assert (await flow.pass_on("a", "ops", answering(DELIVERED))).verdict is Verdict.POSTPONED
    assert (await flow.pass_on("a", "sales", answering(DELIVERED))).verdict is Verdict.DELIVERED
    assert flow.troubles == ["the relay is away"]


async def test_a_mail_without_an_answer_says_nothing_of_the_others() -> None:
    flow = Flow(4, timer=Timer())

    for _ in range(10):
        assert await flow.pass_on("a", "ops", answering(NO_ANSWER)) == NO_ANSWER

    assert (await flow.pass_on("b", "ops", answering(DELIVERED))).verdict is Verdict.DELIVERED


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
async def test_a_turn_that_is_cancelled_passes_to_the_next(order: list[int]) -> None:
    """Under way, and waiting; whichever learns of it first."""
    flow, relay = Flow(1, timer=Timer()), Relay()
    *cancelled, third = await started(flow, relay, "a", "b", "c")

    for number in order:
        cancelled[number].cancel()
    outcomes = await asyncio.gather(*cancelled, return_exceptions=True)
    relay.open.set()

    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] * 2

    assert (await third).verdict is Verdict.DELIVERED
    assert relay.taken == ["a", "c"]
