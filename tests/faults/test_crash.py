"""The process is killed at random, again and again: is every promise kept?

`ZAQAR_TEST_FAULT_SECONDS` is how long it runs under load (20), `ZAQAR_TEST_FAULT_SEED` repeats a run's
choices. Runs of two minutes or more let leases lapse, too.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from pathlib import Path

from tests.faults.trial import Trial
from tests.service import Service

SECONDS = float(os.environ.get("ZAQAR_TEST_FAULT_SECONDS", "20"))
SEED = int(os.environ.get("ZAQAR_TEST_FAULT_SEED") or secrets.randbits(32))
UPTIMES = ((2.0, 6.0), (2.0, 6.0), (2.0, 6.0), (0.0, 0.3))
"""Seconds from start to kill: mostly long enough for some work, sometimes in the middle of recovery."""


async def test_every_promise_is_kept_when_the_process_is_killed(tmp_path: Path) -> None:
    trial = Trial(SEED, SECONDS)
    environ = trial.environ | {"ZAQAR_LOG_LEVEL": "warning"}
    service = Service(tmp_path / "data", environ=environ)

    async def crash_often() -> None:
        while not trial.is_over:
            await asyncio.sleep(trial.chance.uniform(*trial.chance.choice(UPTIMES)))
            trial.record("process killed")
            service.kill()
            await asyncio.to_thread(service.start)

    async with trial.kept_when_it_fails(lambda: [service.log]):
        await asyncio.to_thread(service.start)
        try:
            await trial.run([service.url], crash_often)
        finally:
            service.kill()
        assert "Traceback" not in service.log.read_text()
