"""A backup that reads for long holds up no post, and the write-ahead log is short again afterwards."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest

from tests.contract.steps import everything, post
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import open_storage
from zaqar_notify.storage.sqlite import checkpointing, database
from zaqar_notify.storage.sqlite.checkpointing import Checkpoints

QUEUE = QueueRef("p", "q")
POSTS = 200
MOST_PAGES = 40
LOG_BYTES = 200_000
PATIENCE_SECONDS = 20


class Copies:
    """How many pages the commits have copied, each of them, and how many the thread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.by_commits: list[int] = [0]
        self.by_thread: list[int] = [0]
        copy = Checkpoints._copy

        def counted(checkpoints: Checkpoints, connection: apsw.Connection) -> bool:
            before = checkpoints._copied
            is_all = copy(checkpoints, connection)
            is_commit = threading.current_thread().name == "commit"
            copies = self.by_commits if is_commit else self.by_thread
            copies.append(max(0, checkpoints._copied - before))
            return is_all

        monkeypatch.setattr(Checkpoints, "_copy", counted)


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> Copies:
    """With bounds that a few posts reach."""
    monkeypatch.setattr(checkpointing, "CHECKPOINT_PAGES", 10)
    monkeypatch.setattr(checkpointing, "MOST_PAGES_IN_A_COMMIT", MOST_PAGES)
    monkeypatch.setattr(checkpointing, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(checkpointing, "LOG_BYTES", LOG_BYTES)
    monkeypatch.setattr(database, "LOG_BYTES", LOG_BYTES)
    return Copies(monkeypatch)


@pytest.fixture
async def storage(tmp_path: Path, copies: Copies) -> AsyncIterator[Storage]:
    storage = await open_storage(f"sqlite://{tmp_path}/store.db")
    yield storage
    await storage.close()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "store.db-wal"


def size(log: Path) -> int:
    return log.stat().st_size


class Backup:
    """A program that reads one state of the database for as long as a test likes."""

    def __init__(self, directory: Path) -> None:
        self._connection = apsw.Connection(str(directory / "store.db"))
        self._connection.execute("BEGIN")
        self._connection.execute("SELECT count(*) FROM messages").fetchall()

    def end(self) -> None:
        self._connection.execute("COMMIT")
        self._connection.close()


async def post_some(storage: Storage, count: int) -> None:
    for _ in range(count):
        await post(storage, QUEUE, bodies=["a" * 4000])


async def post_until_short(storage: Storage, log: Path) -> None:
    """Post now and then, until the log is no longer than it should be."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while size(log) > LOG_BYTES:
        assert time.monotonic() < deadline, size(log)
        await post_some(storage, 1)
        await asyncio.sleep(0.01)


async def test_the_log_is_short_again_after_a_backup(
    storage: Storage, tmp_path: Path, log: Path
) -> None:
    await post_some(storage, 1)
    backup = Backup(tmp_path)
    await post_some(storage, POSTS)
    assert size(log) > 2 * LOG_BYTES

    backup.end()
    await post_until_short(storage, log)

    assert len(await everything(storage, QUEUE)) > POSTS


async def test_no_commit_copies_what_gathered_during_a_backup(
    storage: Storage, tmp_path: Path, log: Path, copies: Copies
) -> None:
    await post_some(storage, 1)
    backup = Backup(tmp_path)
    await post_some(storage, POSTS)
    gathered = size(log) // 4096

    backup.end()
    await post_until_short(storage, log)

    assert max(copies.by_commits) <= 2 * MOST_PAGES < gathered
    assert max(copies.by_thread) > gathered // 2


async def test_without_a_backup_the_commits_do_it_by_themselves(
    storage: Storage, log: Path, copies: Copies
) -> None:
    await post_some(storage, POSTS)

    assert size(log) <= LOG_BYTES
    assert sum(copies.by_commits) > POSTS
    assert copies.by_thread == [0]


async def test_a_store_closes_while_a_backup_reads_it(tmp_path: Path, copies: Copies) -> None:
    storage = await open_storage(f"sqlite://{tmp_path}/store.db")
    await post_some(storage, 1)
    backup = Backup(tmp_path)
    await post_some(storage, POSTS)

    await storage.close()
    backup.end()

    storage = await open_storage(f"sqlite://{tmp_path}/store.db")
    assert len(await everything(storage, QUEUE)) == POSTS + 1
    await storage.close()
