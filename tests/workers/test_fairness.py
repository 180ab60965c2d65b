"""No project delays the deliveries of others."""

from __future__ import annotations

import pytest

from tests.workers.office import Hanging, Office, until
from zaqar_notify.models import QueueRef
from zaqar_notify.rules.sharing import Budget
from zaqar_notify.settings import Settings

BAD = QueueRef("bad", "orders")
GOOD = QueueRef("good", "orders")
WELL = "http://well"


@pytest.fixture
def office(office: Office) -> Office:
    office.settings = Settings(
        delivery_concurrency=8, delivery_concurrency_per_endpoint=2, retry_jitter=0
    )
    return office


async def hang(office: Office, subscribers: int) -> Hanging:
    """Subscribe so many receivers to the bad project's queue that take every request and never answer."""
    hanging = Hanging()
    for number in range(subscribers):
        subscriber = f"http://hanging/{number}"
        await office.subscribe(subscriber, queue=BAD)
        office.sink.answers[subscriber] = hanging
    return hanging


async def test_one_post_to_many_hanging_receivers_delays_nobody_else(office: Office) -> None:
    hanging = await hang(office, 300)
    await office.subscribe(WELL, queue=GOOD)

    async with office.open() as engine:
        await office.post(b"1", queue=BAD)
        await until(lambda: engine.in_flight == 6)
        for number in range(50):
            await office.post(b"%d" % number, queue=GOOD)
        await until(lambda: len(office.sink.to(WELL)) == 50)
        assert engine.in_flight >= 6
        hanging.let_go.set()


async def test_many_jobs_of_one_project_do_not_stand_before_one_of_another(
    office: Office,
) -> None:
    hanging = await hang(office, 1)
    await office.subscribe(WELL, queue=GOOD)
    for number in range(200):
        await office.post(b"%d" % number, queue=BAD)
    await office.post(b"1", queue=GOOD)

    async with office.open():
        await until(lambda: len(office.sink.to(WELL)) == 1)
        assert len(await office.owed_jobs()) > 100
        hanging.let_go.set()


async def test_a_project_that_comes_later_does_not_wait_for_the_backlog_of_a_healthy_one(
    office: Office,
) -> None:
    await office.subscribe("http://busy", queue=BAD)
    await office.subscribe(WELL, queue=GOOD)
    for number in range(500):
        await office.post(b"%d" % number, queue=BAD)
    await office.post(b"1", queue=GOOD)

    async with office.open():
        await until(lambda: len(office.sink.to(WELL)) == 1)
        assert len(office.sink.to("http://busy")) < 100


async def test_what_is_retried_for_one_project_does_not_stand_before_others(
    office: Office,
) -> None:
    hanging = await hang(office, 1)
    await office.subscribe(WELL, queue=GOOD)
    for number in range(100):
        await office.post(b"%d" % number, queue=BAD)
    async with office.open():
        await until(lambda: len(office.sink.deliveries) == 2)
        hanging.let_go.set()
        office.sink.answers["http://hanging/0"] = again = Hanging()
        await office.post(b"1", queue=GOOD)
        await until(lambda: len(office.sink.to(WELL)) == 1)
        again.let_go.set()


def test_a_lone_project_has_three_quarters_and_several_have_equal_parts() -> None:
    lanes = Budget(256)
    shares: dict[str, int] = {}

    for project in ("a", "b", "c"):
        while lanes.has_room_for(project):
            lanes.take(project)
            shares[project] = shares.get(project, 0) + 1

    assert shares == {"a": 192, "b": 48, "c": 12}
    assert lanes.full() == {"a", "b", "c"}
    assert lanes.has_room_for("d")

    lanes.give("a", 150)
    assert lanes.full() == frozenset()
