"""The faults of a cluster: its processes are killed and paused, its broker is flushed.

Four tasks make faults at the same time, each to one kind of process, one after another. A killed
process is started again, as an operator's supervisor would do, and is well before the next fault of its
kind. So one API process is always left alone, and a majority of the store's members.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeAlias

from pymongo.errors import PyMongoError

from tests.cluster.processes import Api, StartFailed, Worker
from tests.faults.trial import Trial
from tests.mongod import Mongod, ReplicaSet
from tests.redis_server import RedisServer

CALM_SECONDS = (1.0, 5.0)
"""From the recovery of one process to the next fault of its kind."""

API_PAUSE_SECONDS = (5.5, 9.0)
"""Longer than the deadline of a block of positions (docs/decisions/0004), and than clients wait."""

WORKER_PAUSE_SECONDS = (3.5, 7.0)
"""Longer than the lease of deliveries."""

STORE_PAUSE_SECONDS = (5.5, 12.0)
"""Longer than an election; sometimes longer than a call to the store may take."""

AWAY_SECONDS = (0.0, 2.0)
"""Until a killed process is started again."""

RECOVERY_SECONDS = 60
HANG_SECONDS = 60
"""A member of the store that takes longer to be well than this takes for ever: seen once in hours, after a
kill, of a mongod 6.0.5 that stopped in the middle of its own rollback to where the others were."""
LOOK_SECONDS = 0.2
WELL = ["PRIMARY", "SECONDARY", "SECONDARY"]

Maker: TypeAlias = Callable[[], Awaitable[None]]
Process: TypeAlias = Api | Worker


class Faults:
    """Makes faults, each of them noted in the history of the trial."""

    def __init__(
        self,
        trial: Trial,
        *,
        store: ReplicaSet,
        redis: RedisServer,
        apis: Sequence[Process],
        workers: Sequence[Process],
    ) -> None:
        self._trial = trial
        self._chance = trial.chance
        self._store = store
        self._redis = redis
        self._apis = apis
        self._workers = workers

    async def make(self) -> None:
        """Go on until the trial is over and everything runs again."""
        async with asyncio.TaskGroup() as group:
            for makers in (
                (self._kill_api, self._pause_api),
                (self._kill_worker, self._pause_worker, self._kill_workers),
                (self._kill_redis, self._flush_redis),
                (self._kill_primary, self._pause_primary),
            ):
                group.create_task(self._make_some(makers))

    async def _make_some(self, makers: Sequence[Maker]) -> None:
        """Every kind as often as the others, in random order."""
        waiting: list[Maker] = []
        while True:
            await asyncio.sleep(self._chance.uniform(*CALM_SECONDS))
            if self._trial.is_over:
                return
            waiting = waiting or self._chance.sample(makers, len(makers))
            await waiting.pop()()

    # API and workers

    async def _kill_api(self) -> None:
        await self._kill("API process killed", [self._chance.choice(self._apis)])

    async def _kill_worker(self) -> None:
        await self._kill("worker killed", [self._chance.choice(self._workers)])

    async def _kill_workers(self) -> None:
        await self._kill("all workers killed", self._workers)

    async def _kill(self, kind: str, processes: Sequence[Process]) -> None:
        """Kill processes, or one of several is killed below its parent, which starts another."""
        self._trial.record(kind)
        killed = []
        for process in processes:
            pid = self._chance.choice([process.running().pid, *process.children()])
            if pid == process.running().pid or len(processes) > 1:
                process.kill()
                killed.append(process)
            else:
                os.kill(pid, signal.SIGKILL)
        if killed:
            await asyncio.sleep(self._chance.uniform(*AWAY_SECONDS))
        await asyncio.gather(*map(start_again, killed))

    async def _pause_api(self) -> None:
        process = self._chance.choice(self._apis)
        await self._pause("API process paused", process, API_PAUSE_SECONDS)

    async def _pause_worker(self) -> None:
        process = self._chance.choice(self._workers)
        await self._pause("worker paused", process, WORKER_PAUSE_SECONDS)

    async def _pause(self, kind: str, process: Process, between: tuple[float, float]) -> None:
        """Pause a process or, of several, one that does the work."""
        pid = self._chance.choice(process.children() or [process.running().pid])
        await self._stand_still(kind, pid, between)

    async def _stand_still(self, kind: str, pid: int, between: tuple[float, float]) -> None:
        seconds = self._chance.uniform(*between)
        self._trial.record(kind, pause_seconds=seconds)
        async with paused(pid):
            await asyncio.sleep(seconds)

    # The broker

    async def _kill_redis(self) -> None:
        self._trial.record("Redis killed and emptied")
        self._redis.kill()
        await asyncio.sleep(self._chance.uniform(*AWAY_SECONDS))
        await asyncio.to_thread(self._redis.start)

    async def _flush_redis(self) -> None:
        self._trial.record("Redis flushed")
        await asyncio.to_thread(self._redis.client.flushall)

    # The store

    async def _kill_primary(self) -> None:
        primary = await asyncio.to_thread(self._store.wait_for_primary)
        self._trial.record("primary killed")
        primary.kill()
        await asyncio.to_thread(self._store.wait_for_primary)
        await asyncio.sleep(self._chance.uniform(*AWAY_SECONDS))
        await asyncio.to_thread(primary.start)
        await self._until_whole()

    async def _pause_primary(self) -> None:
        primary = await asyncio.to_thread(self._store.wait_for_primary)
        assert primary.process is not None
        await self._stand_still("primary paused", primary.process.pid, STORE_PAUSE_SECONDS)
        await self._until_whole()

    async def _until_whole(self) -> None:
        hung = await asyncio.to_thread(make_whole, self._store, patience=HANG_SECONDS)
        if hung:
            self._trial.record("store's member hung and killed")


@contextlib.asynccontextmanager
async def paused(pid: int) -> AsyncIterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def start_again(process: Process) -> None:
    """Start a process, again and again while the store lets it not.

    A worker is not well before it has reached the broker: should a child of it die before that,
    Celery takes it for one that can't start, and ends.

    Raises:
        StartFailed: It took too long.
    """
    deadline = time.monotonic() + RECOVERY_SECONDS
    while True:
        try:
            start = process.start_whole if isinstance(process, Worker) else process.start
            await asyncio.to_thread(start)
        except StartFailed:
            process.kill()
            if time.monotonic() > deadline:
                raise
        else:
            return


def make_whole(store: ReplicaSet, *, patience: float) -> bool:
    """Wait until every member of the set is up, and has the others' data.

    Returns:
        Whether one of them hung for so many seconds, and was started again.
    """
    if _is_whole_within(store, patience):
        return False
    unwell = [member for member in store.members if _state(member) not in WELL]
    assert len(unwell) == 1, "The members of the set do not come together again"
    [hung] = unwell
    hung.kill()
    hung.start()
    assert _is_whole_within(store, RECOVERY_SECONDS), "A member is not well, started again or not"
    return True


def _is_whole_within(store: ReplicaSet, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while sorted(map(_state, store.members)) != WELL:
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_SECONDS)
    return True


def _state(member: Mongod) -> str:
    """The state that the member reports."""
    try:
        with member.client(serverSelectionTimeoutMS=500) as client:
            status = client.admin.command("replSetGetStatus")
    except PyMongoError:
        return "away"
    return next(str(one["stateStr"]) for one in status["members"] if one.get("self"))
