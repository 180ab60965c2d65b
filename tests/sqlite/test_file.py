"""The database file itself."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw
import pytest

from tests.contract.steps import page, post
from tests.migrations.fill import STORES
from tests.sqlite.opened import database_of
from zaqar_notify.errors import StartRefused, StorageUnavailable
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.registry import open_storage
from zaqar_notify.storage.sqlite.statements import IN_ORDER


def content_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def modes_in(directory: Path) -> dict[str, str]:
    return {path.name: oct(path.stat().st_mode & 0o777) for path in directory.iterdir()}


@pytest.mark.parametrize("content", [b"S", b"not a database at all, but a text of some length" * 9])
async def test_a_file_that_is_no_database_is_refused_and_left_alone(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(content)

    with pytest.raises(StartRefused, match="not a database"):
        await open_storage(f"sqlite://{path}")

    assert path.read_bytes() == content


@pytest.mark.parametrize("mode", ["delete", "wal"])
@pytest.mark.parametrize("statement", ["SELECT 1", "PRAGMA user_version = 3"])
async def test_a_database_of_another_program_is_refused_and_left_alone(
    tmp_path: Path, mode: str, statement: str
) -> None:
    theirs, found = tmp_path / "theirs", tmp_path / "found"
    theirs.mkdir()
    with closing(sqlite3.connect(theirs / "store.db", isolation_level=None)) as db:
        db.execute(f"PRAGMA journal_mode = {mode}")
        db.execute("CREATE TABLE orders (id)")
        db.execute(statement)
        # As after a crash: the last writes are in the log alone.
        shutil.copytree(theirs, found)
    before = content_of(found)

    with pytest.raises(StartRefused, match="is no database of zaqar-notify; choose another data"):
        await open_storage(f"sqlite://{found}/store.db")

    assert content_of(found) == before


async def test_a_store_whose_first_process_died_young_is_ours(tmp_path: Path) -> None:
    """An earlier release made its file in place, with all that says whose it is in the log."""
    made, found = tmp_path / "made", tmp_path / "found"
    made.mkdir()
    with closing(sqlite3.connect(made / "store.db", isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = wal")
        db.executescript((STORES / "sqlite-1.sql").read_text())
        shutil.copytree(made, found)

    storage = await open_storage(f"sqlite://{found}/store.db")

    await storage.close()
    assert b"ZQRN" in (found / "store.db").read_bytes()[:100]


async def test_a_store_of_a_later_release_is_refused(tmp_path: Path) -> None:
    storage = await open_storage(f"sqlite://{tmp_path}/store.db")
    await storage.close()
    with (tmp_path / "store.db").open("r+b") as file:
        file.seek(60)  # user_version, four bytes
        file.write(b"\x00\x00\x00\x63")

    with pytest.raises(StartRefused, match="version 99"):
        await open_storage(f"sqlite://{tmp_path}/store.db")


async def test_nobody_but_the_owner_can_read_the_messages(tmp_path: Path) -> None:
    storage = await open_storage(f"sqlite://{tmp_path}/store.db")
    await storage.queues.create(QueueRef("p1", "q1"), metadata={}, now=datetime.now(UTC))

    modes = modes_in(tmp_path)

    assert modes.keys() >= {"store.db", "store.db-wal"}
    assert set(modes.values()) == {"0o600"}
    await storage.close()


async def test_a_read_that_fails_at_its_first_row_is_no_answer(tmp_path: Path) -> None:
    storage = await open_storage(f"sqlite://{tmp_path}/store.db")
    queue = QueueRef("p", "q")
    await post(storage, queue, bodies=["a"])
    database: Any = database_of(storage)

    class Broken:
        def execute(self, statement: str, bindings: Any) -> apsw.Cursor:
            if statement in IN_ORDER.values():
                raise apsw.IOError("disk I/O error")
            cursor: apsw.Cursor = reader.execute(statement, bindings)
            return cursor

    reader, database._reader = database._reader, Broken()
    try:
        with pytest.raises(StorageUnavailable):
            await page(storage, queue)
    finally:
        database._reader = reader
        await storage.close()
