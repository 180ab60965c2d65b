"""Any process of a cluster is killed or paused at random: is every promise kept?

Three members of MongoDB, Redis, two API servers (one of them of two processes) and two workers (one
of them with two children) on loopback. `ZAQAR_TEST_FAULT_SECONDS` is how long it runs under load
(30), `ZAQAR_TEST_FAULT_SEED` repeats a run's choices.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from tests.cluster.cluster import Cluster
from tests.faults.faults import Faults
from tests.faults.trial import Trial
from tests.mongod import ReplicaSet, require_mongod
from tests.redis_server import RedisServer, require_redis

SECONDS = float(os.environ.get("ZAQAR_TEST_FAULT_SECONDS", "30"))
SEED = int(os.environ.get("ZAQAR_TEST_FAULT_SEED") or secrets.randbits(32))

THINK_SECONDS = 0.3
"""Two cores carry all of it, and all owed deliveries must be made in the end."""

TIMEOUT_SECONDS = 5.0
"""After so long without an answer, clients go to the other server."""

STORE_OPTIONS = "&timeoutMS=4000"
"""Of one server: when the primary is away for long, its clients hear a 503 before they turn away."""


async def test_every_promise_is_kept_when_any_process_is_killed_or_paused(tmp_path: Path) -> None:
    require_mongod()
    require_redis()
    trial = Trial(SEED, SECONDS, think_seconds=THINK_SECONDS, timeout_seconds=TIMEOUT_SECONDS)
    store, redis = ReplicaSet(3), RedisServer()

    def logs() -> Iterable[Path]:
        return [*(member.log for member in store.members), *tmp_path.glob("*.log")]

    async with (
        servers(store, redis),
        trial.kept_when_it_fails(logs),
        processes(tmp_path, trial, store, redis) as cluster,
    ):
        apis = [
            cluster.api(),
            cluster.api(
                processes=2, environ={"ZAQAR_STORE_URI": store.uri("faults") + STORE_OPTIONS}
            ),
        ]
        workers = [cluster.worker("threads"), cluster.worker("prefork")]
        faults = Faults(trial, store=store, redis=redis, apis=apis, workers=workers)

        await trial.run([api.url for api in apis], faults.make)


@asynccontextmanager
async def servers(store: ReplicaSet, redis: RedisServer) -> AsyncIterator[None]:
    try:
        redis.start()
        await asyncio.to_thread(store.start)
        yield
    finally:
        redis.kill()
        store.stop()


@asynccontextmanager
async def processes(
    directory: Path, trial: Trial, store: ReplicaSet, redis: RedisServer
) -> AsyncIterator[Cluster]:
    cluster = Cluster(directory, redis, store.uri("faults"), environ=trial.environ)
    try:
        yield cluster
    finally:
        await asyncio.to_thread(cluster.end_processes)
