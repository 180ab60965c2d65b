"""Queues move to and fro between pools under load, while processes are killed: is every promise kept?

Without `ZAQAR_TEST_FAULT_SECONDS` one pair of pools is tried, for a few seconds; with it each pair, for so long.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp
import pytest

from tests.cluster.processes import Api, Worker
from tests.contract.transfers import MOVABLE, uris_of
from tests.faults.faults import paused, start_again
from tests.faults.test_cluster import processes, servers
from tests.faults.trial import Trial
from tests.faults.workload import CONSUMED, OBSERVED, RELAYED
from tests.mongod import ReplicaSet, require_mongod
from tests.pools import register
from tests.redis_server import RedisServer, require_redis
from tests.service import Service
from zaqar_notify.storage.registry import open_storage

IS_LONG = "ZAQAR_TEST_FAULT_SECONDS" in os.environ
SECONDS = float(os.environ.get("ZAQAR_TEST_FAULT_SECONDS", "5"))
SEED = int(os.environ.get("ZAQAR_TEST_FAULT_SEED") or secrets.randbits(32))
PAIRS = list(product(MOVABLE, MOVABLE)) if IS_LONG else [("sqlite", "mongodb")]
UPTIMES = (2.0, 6.0)
OVER = {"done", "cancelled", "failed"}
PAUSE_SECONDS = (11.0, 20.0)
"""Longer than the lease of a process on a pool."""


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
async def test_every_promise_is_kept_while_queues_move_and_the_process_is_killed(
    pair: Sequence[str], tmp_path: Path
) -> None:
    trial = Trial(SEED, SECONDS)
    environ = trial.environ | {"ZAQAR_LOG_LEVEL": "warning", "ZAQAR_ADMIN_MODE": "true"}
    service = Service(tmp_path / "data", environ=environ)
    uris = dict(zip(("one", "two"), uris_of(pair, tmp_path), strict=True))

    async def crash_often() -> None:
        while not trial.is_over:
            await asyncio.sleep(trial.chance.uniform(*UPTIMES))
            trial.record("process killed")
            service.kill()
            await asyncio.to_thread(service.start)

    async with trial.kept_when_it_fails(lambda: [service.log]):
        await asyncio.to_thread(service.start)
        try:
            movers = Movers(trial, [service.url])
            await movers.register(uris)
            await trial.run([service.url], movers.beside(crash_often))
        finally:
            service.kill()
        movers.report()
        assert "Traceback" not in service.log.read_text()


@pytest.mark.skipif(not IS_LONG, reason="make faults")
async def test_every_promise_is_kept_while_queues_move_in_a_cluster(tmp_path: Path) -> None:
    require_mongod()
    require_redis()
    trial = Trial(SEED, SECONDS, think_seconds=0.3, timeout_seconds=5.0)
    store, redis = ReplicaSet(1), RedisServer()
    async with (
        servers(store, redis),
        trial.kept_when_it_fails(lambda: tmp_path.glob("*.log")),
        processes(tmp_path, trial, store, redis) as cluster,
    ):
        # Before any process runs, so that each knows the pools.
        storage = await open_storage(store.uri("faults"))
        for name in ("one", "two"):
            long_ago = datetime.now(UTC) - timedelta(days=1)
            await register(storage, name, store.uri(name), weight=0, at=long_ago)
        await storage.close()
        admin = {"ZAQAR_ADMIN_MODE": "true"}
        apis = [cluster.api(environ=admin), cluster.api(processes=2, environ=admin)]
        everything: list[Api | Worker] = [*apis, cluster.worker("threads")]

        async def disturb() -> None:
            while not trial.is_over:
                await asyncio.sleep(trial.chance.uniform(3.0, 8.0))
                process = trial.chance.choice(everything)
                if trial.chance.random() < 0.3:
                    seconds = trial.chance.uniform(*PAUSE_SECONDS)
                    trial.record("process paused", pause_seconds=seconds)
                    pids = process.children() or [process.running().pid]
                    async with paused(trial.chance.choice(pids)):
                        await asyncio.sleep(seconds)
                else:
                    trial.record("process killed")
                    process.kill()
                    await start_again(process)

        urls = [api.url for api in apis]
        movers = Movers(trial, urls)
        await trial.run(urls, movers.beside(disturb))
        movers.report()


Make: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


class Movers:
    """An operator who moves the queues of the clients from pool to pool."""

    def __init__(self, trial: Trial, urls: Sequence[str]) -> None:
        self._trial = trial
        self._urls = itertools.cycle(urls)
        self._ends: list[dict[str, Any]] = []

    async def register(self, uris: dict[str, str]) -> None:
        async with aiohttp.ClientSession() as session:
            for name, uri in uris.items():
                await self._ask(session, "PUT", f"/v2/pools/{name}", {"uri": uri, "weight": 0})

    def beside(self, make_faults: Make) -> Make:
        """Move queues while faults are made."""

        async def both() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(make_faults())
                for queue in (OBSERVED, CONSUMED, RELAYED):
                    group.create_task(self._move_to_and_fro(queue))

        return both

    async def _move_to_and_fro(self, queue: str) -> None:
        async with aiohttp.ClientSession() as session:
            for pool in itertools.cycle(("one", "two", "default")):
                if self._is_over():
                    return
                body = {"project": self._trial.project, "queue": queue, "pool": pool}
                move = await self._ask(session, "POST", "/v2/moves", body)
                while move.get("state") not in OVER:
                    if self._is_over() and self._ends:
                        return  # It goes on by itself, or is tried again until the machine has time.
                    await asyncio.sleep(0.1)
                    move = await self._ask(session, "GET", move["href"], None) or move
                assert move["state"] == "done", move
                self._ends.append(move)

    def _is_over(self) -> bool:
        return self._trial.is_over

    async def _ask(
        self, session: aiohttp.ClientSession, method: str, path: str, body: object
    ) -> dict[str, Any]:
        """Ask until there is an answer that is no 503."""
        headers = {"X-Project-ID": self._trial.project, "Client-ID": self._trial.operator}
        while True:
            try:
                async with session.request(
                    method, f"{next(self._urls)}{path}", json=body, headers=headers
                ) as reply:
                    if reply.status < 300:
                        return dict(await reply.json(content_type=None) or {})
                    assert reply.status in {404, 503}, await reply.text()
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(0.2)

    def report(self) -> None:
        """Print how long writes were held up, and see that queues moved."""
        held_up = sorted(one["held_up_ms"][-1] for one in self._ends if one["held_up_ms"])
        attempts = sum(len(one["held_up_ms"]) for one in self._ends)
        assert held_up
        middle = held_up[len(held_up) // 2]
        print(
            f"{len(self._ends)} moves, {attempts} attempts; held up {middle} ms (median), {held_up[-1]} ms at most"
        )
