"""The process and the Redis that has its messages are killed at random: is every promise kept?

It runs for a quarter of the time of `test_crash.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.faults.test_crash import SECONDS, SEED, UPTIMES
from tests.faults.trial import Trial
from tests.redis.servers import own_server
from tests.service import Service

PART = 4


async def test_every_promise_is_kept_when_the_process_and_its_redis_are_killed(
    tmp_path: Path,
) -> None:
    trial = Trial(SEED, SECONDS / PART)
    directory = tmp_path / "redis"
    directory.mkdir()
    with own_server(directory) as redis:
        environ = {"ZAQAR_STORE_URI": redis.uri, "ZAQAR_LOG_LEVEL": "error"}
        service = Service(tmp_path / "data", environ=trial.environ | environ)

        async def restart_process() -> None:
            trial.record("process killed")
            service.kill()
            await asyncio.to_thread(service.start)

        async def restart_redis() -> None:
            trial.record("Redis killed")
            redis.kill()
            await asyncio.to_thread(redis.start)

        faults: list[Callable[[], Awaitable[None]]] = [restart_process, restart_redis]

        async def crash_often() -> None:
            while not trial.is_over:
                await asyncio.sleep(trial.chance.uniform(*trial.chance.choice(UPTIMES)))
                await trial.chance.choice(faults)()

        async with trial.kept_when_it_fails(lambda: [service.log]):
            await asyncio.to_thread(service.start)
            try:
                await trial.run([service.url], crash_often)
            finally:
                service.kill()
