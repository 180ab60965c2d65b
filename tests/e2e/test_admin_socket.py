"""Commands of the operator while `up` has the store to itself."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import pytest

from tests.service import Service, command, outside_environ
from zaqar_notify.delivery import OWED_TTL_SECONDS, InternalPost
from zaqar_notify.models import NewMessage
from zaqar_notify.operations.single import DATABASE
from zaqar_notify.storage.internal import POISON_REF
from zaqar_notify.storage.registry import open_storage


def told(service: Service, *arguments: str) -> str:
    done = subprocess.run(
        command(*arguments, "--data", str(service.data)),
        capture_output=True,
        env=outside_environ(),
        timeout=60,
        check=True,
        text=True,
    )
    return done.stdout


@pytest.fixture
def poisoned(tmp_path: Path) -> Service:
    """A service, not started, with a job that no worker can read."""

    async def put_one_aside() -> None:
        storage = await open_storage(f"sqlite://{tmp_path / 'data' / DATABASE}")
        message = NewMessage(body=b'"not a job"', ttl=OWED_TTL_SECONDS)
        await storage.post(POISON_REF, InternalPost([message]), now=storage.clock.now())
        await storage.close()

    service = Service(tmp_path / "data")
    service.start()  # Makes the directory and its keys.
    service.stop()
    asyncio.run(put_one_aside())
    return service


def test_poison_is_listed_and_dropped_while_it_runs(poisoned: Service) -> None:
    poisoned.start()
    try:
        [job] = json.loads(told(poisoned, "poison", "list", "--json"))
        [dropped] = json.loads(told(poisoned, "poison", "drop", "--json"))

        assert job == dropped
        assert told(poisoned, "poison", "list") == ""
    finally:
        poisoned.stop()


def test_the_same_command_works_after_a_kill(poisoned: Service) -> None:
    poisoned.start()
    poisoned.kill()

    assert len(json.loads(told(poisoned, "poison", "list", "--json"))) == 1
