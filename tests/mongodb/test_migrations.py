"""Many processes start on a database of an earlier version: one of them migrates it."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from typing import Any

import pymongo
import pytest
from pymongo.asynchronous.database import AsyncDatabase

from tests.kinds import KINDS
from tests.mongodb.migrator import LEASE_SECONDS
from tests.mongodb.opened import opened
from zaqar_notify.errors import StartRefused
from zaqar_notify.operations.doctor import examine
from zaqar_notify.settings import Settings
from zaqar_notify.storage.mongodb import migrations
from zaqar_notify.storage.mongodb.migrations import MARK, SCHEMA_VERSION, Document, Step
from zaqar_notify.storage.registry import open_storage

NEXT = SCHEMA_VERSION + 1


@pytest.fixture
async def made(uri: str) -> str:
    """The URI of a database of the present version."""
    await (await open_storage(uri)).close()
    return uri


def mark(uri: str) -> Document:
    """The document with the version, apart from the identity, which is random."""
    with pymongo.MongoClient[Document](uri) as client:
        stored = client.get_default_database().schema.find_one({"_id": MARK})
    assert stored is not None
    assert stored.pop("identity")
    return stored


def steps_of(uri: str) -> list[str]:
    with pymongo.MongoClient[Document](uri) as client:
        return [step["by"] for step in client.get_default_database().steps.find()]


def add_steps(monkeypatch: pytest.MonkeyPatch, *steps: Step) -> None:
    monkeypatch.setattr(migrations, "STEPS", (*migrations.STEPS, *steps))


def noting(name: str, *, seconds: float = 0.0) -> Step:
    async def step(database: AsyncDatabase[Document]) -> None:
        await database.steps.insert_one({"by": name})
        await asyncio.sleep(seconds)

    return step


def begin_and_kill(uri: str) -> None:
    """Start a process that begins a step, and kill it there."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.mongodb.migrator", uri], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    process.kill()
    process.wait()
    process.stdout.close()


async def open_and_close(uri: str) -> None:
    await (await opened(uri)).close()


async def test_of_many_that_start_one_takes_the_steps_and_the_others_wait(
    made: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(migrations, "LEASE_SECONDS", 0.6)
    # The first step takes longer than a lease, which is renewed meanwhile.
    add_steps(monkeypatch, noting("first", seconds=1.0), noting("second"))

    with caplog.at_level(logging.INFO):
        await asyncio.gather(*(open_and_close(made) for _ in range(5)))

    assert steps_of(made) == ["first", "second"]
    assert mark(made) == {"_id": MARK, "version": SCHEMA_VERSION + 2}
    migrated = [record for record in caplog.records if record.__dict__.get("action")]
    assert [record.__dict__["version"] for record in migrated] == [NEXT, NEXT + 1]


async def test_many_that_start_on_nothing_make_one_database(uri: str) -> None:
    await asyncio.gather(*(open_and_close(uri) for _ in range(5)))

    assert mark(uri) == {"_id": MARK, "version": SCHEMA_VERSION}


async def test_the_steps_of_a_process_that_was_killed_are_taken_by_another(
    made: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_and_kill(made)
    monkeypatch.setattr(migrations, "LEASE_SECONDS", LEASE_SECONDS)
    add_steps(monkeypatch, noting("the next"))

    await open_and_close(made)

    assert steps_of(made) == ["the one that died", "the next"]
    assert mark(made) == {"_id": MARK, "version": NEXT}


async def test_who_lost_the_lease_notes_nothing_and_waits(
    made: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if it had been suspended for longer than its lease."""
    monkeypatch.setattr(migrations, "LEASE_SECONDS", 0.3)

    async def step(database: AsyncDatabase[Document]) -> None:
        await database.steps.insert_one({"by": "somebody"})
        if await database.steps.count_documents({}) > 1:
            return
        await database.schema.update_one(
            {"_id": MARK}, [{"$set": {"migrating": {"by": "another", "until": "$$NOW"}}}]
        )
        await asyncio.Event().wait()

    add_steps(monkeypatch, step)

    await open_and_close(made)

    assert len(steps_of(made)) == 2
    assert mark(made) == {"_id": MARK, "version": NEXT}


async def test_a_step_that_fails_fails_the_start_and_is_taken_at_the_next(
    made: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(database: AsyncDatabase[Document]) -> None:
        await database.command("noSuchCommand")

    with monkeypatch.context() as patch:
        add_steps(patch, refused)
        with pytest.raises(StartRefused, match="noSuchCommand"):
            await open_and_close(made)
    assert mark(made) == {"_id": MARK, "version": SCHEMA_VERSION}

    add_steps(monkeypatch, noting("again"))
    await open_and_close(made)

    assert mark(made) == {"_id": MARK, "version": NEXT}


async def test_the_doctor_leaves_an_earlier_version_as_it_is_and_says_so(
    made: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_steps(monkeypatch, noting("never"))
    monkeypatch.setattr("zaqar_notify.storage.mongodb.diagnosis.SCHEMA_VERSION", NEXT)

    found = [each.sentence for each in await examine(Settings(store_uri=made), None, KINDS)]

    assert f"The next start migrates version {SCHEMA_VERSION} to {NEXT}" in found
    assert mark(made)["version"] == SCHEMA_VERSION
    assert steps_of(made) == []


async def test_indexes_that_are_there_are_not_made_again(made: str, commands: Any) -> None:
    await open_and_close(made)

    assert [one for one in commands.sent if "createIndexes" in one] == []
