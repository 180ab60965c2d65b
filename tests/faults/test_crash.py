"""The process is killed at random, again and again: is every promise kept?

`ZAQAR_TEST_FAULT_SECONDS` is how long it runs under load (30), `ZAQAR_TEST_FAULT_SEED` repeats a run's
choices. Runs of two minutes or more let leases lapse, too.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.faults.checkers import check, counts
from tests.faults.history import Crashed, History, Posted
from tests.faults.receiver import Receiver
from tests.faults.wire import Wire
from tests.faults.workload import CONSUMED, OBSERVED, RELAYED, Workload
from tests.service import Service
from zaqar_notify.clock import new_id

SECONDS = float(os.environ.get("ZAQAR_TEST_FAULT_SECONDS", "30"))
SEED = int(os.environ.get("ZAQAR_TEST_FAULT_SEED") or secrets.randbits(32))
LAPSES = SECONDS >= 120
UPTIMES = ((2.0, 6.0), (2.0, 6.0), (2.0, 6.0), (0.0, 0.3))
"""Seconds from start to kill: mostly long enough for some work, sometimes in the middle of recovery."""

DRAIN_SECONDS = 150 if LAPSES else 60
SUBSCRIBERS = ("first", "second")
ENVIRON = {
    # What a killed process was at is done again once its lease has ended.
    "ZAQAR_DELIVERY_LEASE_SECONDS": "3",
    "ZAQAR_LOG_LEVEL": "warning",
}
RETRY_SOON = {"retries_with_no_delay": 5, "minimum_delay": 1, "minimum_delay_retries": 60}


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    service = Service(tmp_path / "data", environ=ENVIRON)
    await asyncio.to_thread(service.start)
    yield service
    service.kill()
    assert "Traceback" not in service.log.read_text()


async def test_every_promise_is_kept_when_the_process_is_killed(
    service: Service, tmp_path: Path
) -> None:
    print(f"\nseed {SEED}, {SECONDS:g} s under load")
    history, chance = History(), random.Random(SEED)
    workload = Workload(history, chance, lapses=LAPSES)
    receiver = Receiver(history, chance)
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        written_when_it_fails(history, tmp_path / "history.jsonl", service.log),
        receiver.serving(),
        aiohttp.ClientSession(connector=connector) as session,
    ):
        project = f"project-{new_id()}"
        wires = [Wire(session, service.url, project) for _ in range(10)]
        await subscribe(wires[0], [*map(receiver.url, SUBSCRIBERS), f"queue:{RELAYED}"])

        await run(workload, wires, service, history, chance)
        await drain(workload, wires[0], receiver, history)

        report(history, workload)
        complaints = check(
            history, observed=OBSERVED, consumed=CONSUMED, relayed=RELAYED, subscribers=SUBSCRIBERS
        )
        assert not complaints, "\n".join([f"{len(complaints)} complaints:", *complaints[:20]])


@asynccontextmanager
async def written_when_it_fails(history: History, path: Path, log: Path) -> AsyncIterator[None]:
    try:
        yield
    except BaseException:
        history.write(path)
        print(f"history: {path}\nlog of the service: {log}")
        raise


async def subscribe(wire: Wire, subscribers: list[str]) -> None:
    for uri in subscribers:
        await wire.ask(
            "POST",
            f"/v2/queues/{OBSERVED}/subscriptions",
            {"subscriber": uri, "ttl": 86400, "options": {"_retry_policy": RETRY_SOON}},
            expected={201},
        )


async def run(
    workload: Workload,
    wires: list[Wire],
    service: Service,
    history: History,
    chance: random.Random,
) -> None:
    """Everybody at work, and the process killed, until all that was posted has been looked at."""
    async with asyncio.TaskGroup() as others:
        others.create_task(workload.observe(wires[0], "polling observer", wait=0))
        others.create_task(workload.observe(wires[1], "waiting observer", wait=1))
        others.create_task(workload.consume(wires[2], "polling consumer", wait=0))
        others.create_task(workload.consume(wires[3], "waiting consumer", wait=1))
        others.create_task(workload.consume(wires[4], "other waiting consumer", wait=1))
        async with asyncio.TaskGroup() as producers:
            for number, queue in enumerate((OBSERVED, OBSERVED, OBSERVED, CONSUMED, CONSUMED)):
                name = f"p{number}"
                producers.create_task(workload.produce(wires[5 + number], queue, name))
            await crash_often(service, history, chance)
            workload.stop()
        workload.posts_are_over()


async def crash_often(service: Service, history: History, chance: random.Random) -> None:
    over_at = time.monotonic() + SECONDS
    while time.monotonic() < over_at:
        await asyncio.sleep(chance.uniform(*chance.choice(UPTIMES)))
        service.kill()
        history.record(Crashed(time.monotonic()))
        await asyncio.to_thread(service.start)


async def drain(workload: Workload, wire: Wire, receiver: Receiver, history: History) -> None:
    """Let everything come to its end, and record what is left."""
    await workload.consume_the_rest(wire, within_seconds=DRAIN_SECONDS)
    owed = {key for post in history.of(Posted) if post.queue == OBSERVED for key in post.keys}
    # What does not come in time is found by the checkers.
    await asyncio.gather(
        *(
            receiver.has_taken(subscriber, owed, within_seconds=DRAIN_SECONDS)
            for subscriber in SUBSCRIBERS
        ),
        workload.has_total(wire, RELAYED, len(owed), within_seconds=DRAIN_SECONDS),
    )
    for queue in (OBSERVED, CONSUMED, RELAYED):
        await workload.take_stock(wire, queue)


def report(history: History, workload: Workload) -> None:
    numbers = counts(history) | {"claims nobody was told of": workload.adopted_claims}
    for name, number in numbers.items():
        print(f"{number:8} {name}")
