"""The host's clock is set: leases, delays and ttls go on as before, over restarts and boots, too."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from tests.clock import ManualClock
from tests.contract.steps import bodies, claim, page, post
from tests.sqlite.opened import database_of, opened
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.sqlite import storage as module
from zaqar_notify.storage.sqlite.timekeeping import NOTE_SECONDS, Timekeeping

QUEUE = QueueRef("p", "q")
HOUR = 3600.0


def commits(storage: Storage) -> object:
    """A number that changes with each commit, for the connection that reads."""
    [[version]] = database_of(storage).read("PRAGMA data_version")
    return version


class Computer:
    """Its clock, the time that it has run since its last boot, and the service's store on it."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host = ManualClock()
        self.running = 1000.0
        self.boot_id = "first"
        self.store: Storage
        self._path = path
        self._monkeypatch = monkeypatch

    async def start(self) -> None:
        keeping = partial(
            Timekeeping, host=self.host, seconds=lambda: self.running, boot=self.boot_id
        )
        self._monkeypatch.setattr(module, "Timekeeping", keeping)
        self.store = await opened(self._path)
        await self.sweep()

    async def restart(self) -> None:
        await self.store.close()
        await self.start()

    async def boot(self, *, off_seconds: float) -> None:
        """Be off for so long, by the clock of the host; and begin to count anew."""
        await self.store.close()
        self.host.advance(seconds=off_seconds)
        self.running, self.boot_id = 5.0, f"after {self.boot_id}"
        await self.start()

    async def sweep(self) -> None:
        await self.store.sweep(now=self.store.clock.now(), limit=100)

    async def pass_seconds(self, seconds: float) -> None:
        self.host.advance(seconds=seconds)
        self.running += seconds
        await self.sweep()

    async def set_clock(self, seconds: float) -> None:
        self.host.advance(seconds=seconds)
        await self.sweep()

    async def free(self) -> list[str]:
        return bodies(await page(self.store, QUEUE, now=self.store.clock.now()))


@pytest.fixture
async def computer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Computer]:
    computer = Computer(tmp_path / "store.db", monkeypatch)
    await computer.start()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(lambda: computer.store.close())
        yield computer


async def nothing(_computer: Computer) -> None:
    """The process goes on."""


AFTERWARDS = pytest.mark.parametrize(
    "afterwards",
    [nothing, Computer.restart, partial(Computer.boot, off_seconds=0)],
    ids=["goes on", "restarts", "boots"],
)
STEPS = pytest.mark.parametrize("step", [-30 * 24 * HOUR, -HOUR, HOUR, 30 * 24 * HOUR])


@STEPS
@AFTERWARDS
async def test_leases_delays_and_ttls_last_as_long_as_was_promised(
    computer: Computer, step: float, afterwards: Callable[[Computer], Awaitable[None]]
) -> None:
    store, now = computer.store, computer.store.clock.now()
    await post(store, QUEUE, bodies=["claimed"], ttl=1000, now=now)
    assert await claim(store, QUEUE, ttl=100, now=now)
    await post(store, QUEUE, bodies=["delayed"], ttl=1000, delay=200, now=now)
    await post(store, QUEUE, bodies=["short"], ttl=60, now=now)

    await computer.set_clock(step)
    await afterwards(computer)

    seen = []
    for _ in range(12):
        seen.append(await computer.free())
        await computer.pass_seconds(20)
    kept = [["short"]] * 3 + [[]] * 2 + [["claimed"]] * 5 + [["claimed", "delayed"]] * 2
    assert seen == kept


@STEPS
@AFTERWARDS
async def test_instants_are_shown_by_the_hosts_clock(
    computer: Computer, step: float, afterwards: Callable[[Computer], Awaitable[None]]
) -> None:
    posted_at = computer.store.clock.now()
    await computer.pass_seconds(50)

    await computer.set_clock(step)
    await afterwards(computer)

    shown = computer.store.clock.on_host(posted_at)
    assert abs((computer.host.now() - shown).total_seconds() - 50) < 0.01


async def test_time_that_the_computer_is_off_counts(computer: Computer) -> None:
    await post(computer.store, QUEUE, bodies=["a"], ttl=100, now=computer.store.clock.now())

    await computer.boot(off_seconds=90)
    assert await computer.free() == ["a"]
    await computer.boot(off_seconds=10)

    assert await computer.free() == []


async def test_a_boot_that_lost_the_time_lets_nothing_go_back(computer: Computer) -> None:
    await computer.pass_seconds(NOTE_SECONDS + 1)
    before = computer.store.clock.now()

    await computer.boot(off_seconds=-20 * 365 * 24 * HOUR)

    assert computer.store.clock.now() >= before - timedelta(seconds=NOTE_SECONDS)
    assert abs(computer.store.clock.on_host(computer.store.clock.now()) - computer.host.now()) < (
        timedelta(seconds=1)
    )


async def test_a_clock_that_was_set_is_told_once(
    computer: Computer, caplog: pytest.LogCaptureFixture
) -> None:
    await computer.set_clock(HOUR)
    await computer.pass_seconds(1)

    told = [vars(record) for record in caplog.records]
    assert [(record["action"], record["seconds"]) for record in told] == [("clock_jumped", HOUR)]


async def test_a_clock_that_nobody_sets_is_noted_now_and_then(computer: Computer) -> None:
    await computer.pass_seconds(1)
    noted = commits(computer.store)
    await computer.pass_seconds(1)

    assert commits(computer.store) == noted
