"""A file of an earlier release is brought to this one's version when it is opened."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import apsw
import pytest

from tests.contract.steps import bodies, page, post
from tests.kinds import KINDS
from zaqar_notify.errors import StartRefused
from zaqar_notify.models import QueueRef
from zaqar_notify.operations.doctor import examine
from zaqar_notify.operations.single import DATABASE
from zaqar_notify.settings import Settings
from zaqar_notify.storage.registry import open_storage
from zaqar_notify.storage.sqlite import diagnosis, migrations
from zaqar_notify.storage.sqlite.migrations import SCHEMA_VERSION, Step

QUEUE = QueueRef("p", "q")


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A file of the present version, with a message."""
    path = tmp_path / DATABASE
    storage = await open_storage(f"sqlite://{path}")
    await post(storage, QUEUE, bodies=["a"])
    await storage.close()
    return path


def add_steps(monkeypatch: pytest.MonkeyPatch, *steps: Step) -> None:
    monkeypatch.setattr(migrations, "STEPS", (*migrations.STEPS, *steps))


def adds(column: str) -> Step:
    def step(db: apsw.Connection) -> None:
        db.execute(f"ALTER TABLE queues ADD COLUMN {column} INTEGER")

    return step


def fails(db: apsw.Connection) -> None:
    db.execute("DELETE FROM messages")
    db.execute("no such statement")


def version_and_columns(path: Path) -> tuple[int, set[str]]:
    with sqlite3.connect(path) as db:
        [version] = db.execute("PRAGMA user_version").fetchone()
        columns = {row[1] for row in db.execute("PRAGMA table_info(queues)")}
    db.close()
    return version, columns


def content(path: Path) -> bytes:
    return path.read_bytes()


async def test_a_file_takes_the_steps_that_it_lacks(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_steps(monkeypatch, adds("first"), adds("second"))

    for _ in range(2):
        storage = await open_storage(f"sqlite://{path}")
        assert bodies(await page(storage, QUEUE)) == ["a"]
        await storage.close()

    version, columns = version_and_columns(path)
    assert version == SCHEMA_VERSION + 2
    assert columns >= {"first", "second"}


async def test_a_step_is_taken_whole_or_not_at_all(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        add_steps(patch, adds("first"), fails)
        with pytest.raises(StartRefused, match="syntax error"):
            await open_storage(f"sqlite://{path}")
    version, columns = version_and_columns(path)
    assert version == SCHEMA_VERSION + 1
    assert "first" in columns

    add_steps(monkeypatch, adds("first"), adds("second"))
    storage = await open_storage(f"sqlite://{path}")

    assert bodies(await page(storage, QUEUE)) == ["a"]
    await storage.close()


async def test_a_file_in_use_is_not_migrated(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = await open_storage(f"sqlite://{path}")
    add_steps(monkeypatch, adds("never"))

    with pytest.raises(StartRefused, match="is open in this process already"):
        await open_storage(f"sqlite://{path}")

    assert "never" not in version_and_columns(path)[1]
    await storage.close()


async def test_a_file_of_a_later_release_is_refused_and_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    db.close()
    before = content(path)

    with pytest.raises(StartRefused, match="install the release that wrote it, or a later one"):
        await open_storage(f"sqlite://{path}")

    assert content(path) == before


async def test_the_doctor_says_what_the_next_start_will_do(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnosis, "SCHEMA_VERSION", SCHEMA_VERSION + 1)

    found = [each.sentence for each in await examine(Settings(), path.parent, KINDS)]

    sentence = f"The next start migrates version {SCHEMA_VERSION} to {SCHEMA_VERSION + 1}"
    assert sentence in found
    assert version_and_columns(path)[0] == SCHEMA_VERSION
