"""Queues that subscribe to each other: a message reaches each of them once, and the work is bounded."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from itertools import product

import pytest

from tests.clock import ManualClock
from tests.kinds import KINDS
from tests.workers.office import OUTBOX, Office
from workers.build import build_engine
from workers.doorbell import LocalDoorbell
from workers.engine import Engine
from zaqar_notify.models import QueueRef, Subscription
from zaqar_notify.service import Service
from zaqar_notify.settings import Settings

PROJECT = "project1"


@pytest.fixture
def office(office: Office) -> Office:
    office.settings = Settings(delivery_max_hops=4)
    return office


def queue(name: str) -> QueueRef:
    return QueueRef(PROJECT, name)


@contextlib.asynccontextmanager
async def relaying(office: Office, clock: ManualClock) -> AsyncIterator[Engine]:
    """An engine that posts to queues as the service's does."""
    doorbell = LocalDoorbell()
    engine = build_engine(
        Service(office.storage, office.settings, clock, doorbell, KINDS), doorbell
    )
    run = asyncio.create_task(engine.run())
    try:
        yield engine
    finally:
        await engine.drain(5)
        await run


async def link(office: Office, links: Sequence[tuple[str, str]]) -> list[Subscription]:
    return [await office.subscribe(f"queue:{to}", queue=queue(at)) for at, to in links]


async def counts(office: Office, names: Sequence[str]) -> dict[str, int]:
    return {name: len(await office.all_in(queue(name))) for name in names}


async def post_and_settle(office: Office, clock: ManualClock, name: str, *bodies: bytes) -> int:
    """Post, and let an engine work it off; how many jobs that took."""
    done: set[str] = set()
    create = office.storage.claims.create

    async def noted(ref: QueueRef, **options: object) -> object:
        claim = await create(ref, **options)  # type: ignore[arg-type]
        if claim is not None and ref == OUTBOX:
            done.update(message.id for message in claim.messages)
        return claim

    office.storage.claims.create = noted  # type: ignore[method-assign, assignment]
    async with relaying(office, clock):
        await office.post(*bodies, queue=queue(name))
        await office.settled()
    return len(done)


async def test_a_post_reaches_each_queue_of_a_mesh_once(office: Office, clock: ManualClock) -> None:
    names = [f"q{number}" for number in range(8)]
    subscriptions = await link(office, [*product(names, names)])

    jobs = await post_and_settle(office, clock, "q0", b'"a"')

    assert await counts(office, names) == dict.fromkeys(names, 1)
    assert jobs == 8
    assert not any([await office.undelivered(each) for each in subscriptions])


async def test_a_queue_that_two_ways_lead_to_gets_a_post_once(
    office: Office, clock: ManualClock
) -> None:
    await link(office, [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")])

    await post_and_settle(office, clock, "a", b"1", b"1")

    assert await counts(office, "abcd") == {"a": 2, "b": 2, "c": 2, "d": 2}


async def test_a_way_that_is_too_long_ends_with_one_record_for_the_job(
    office: Office, clock: ManualClock
) -> None:
    office.settings = Settings(delivery_max_hops=1)
    await link(office, [("a", "b")])
    beyond = await link(office, [("b", f"c{number}") for number in range(5)])

    await post_and_settle(office, clock, "a", b"1")

    records = [record for each in beyond for record in await office.undelivered(each)]
    assert len(records) == 1
    assert "ZAQAR_DELIVERY_MAX_HOPS" in records[0].detail
    assert await counts(office, [f"c{number}" for number in range(5)]) == {
        f"c{number}": 0 for number in range(5)
    }


async def test_the_queues_that_a_job_notes_on_its_way_are_bounded(
    office: Office, clock: ManualClock
) -> None:
    office.settings = Settings(delivery_max_hops=100)
    names = [f"q{number}" for number in range(40)]
    await link(office, [*zip(names, [*names[1:], names[0]], strict=True)])

    jobs = await post_and_settle(office, clock, "q0", b"1")

    assert (set((await counts(office, names)).values()), jobs) == ({1}, 40)
