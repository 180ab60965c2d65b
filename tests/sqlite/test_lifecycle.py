"""A store that is less than it was: refused at the start, and written to no more while it runs."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import gettempdir

import apsw
import pytest

from tests.contract.steps import bodies, page, post
from tests.sqlite.opened import database_of, opened
from zaqar_notify.errors import StartRefused, StorageDamaged, StorageLocked, StorageUnavailable
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import open_storage
from zaqar_notify.storage.sqlite import database, files, opening

QUEUE = QueueRef("p", "q")
NOBODY = 65534
PAGE = 4096
THIS = Path(__file__).read_bytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "store.db"


@pytest.fixture
def looks_at_all_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each write looks at all files, not only the first one of a quarter of a second."""
    monkeypatch.setattr(files, "ALL_SECONDS", 0.0)


@pytest.fixture
async def storage(path: Path) -> AsyncIterator[Storage]:
    storage = await opened(path)
    await post(storage, QUEUE, bodies=["first"])
    yield storage
    await storage.close()


async def used(path: Path, *, messages: int = 1) -> None:
    """Leave a store behind that is not in use."""
    storage = await opened(path)
    for start in range(0, messages, 100):
        await post(storage, QUEUE, bodies=["x" * 2000] * min(100, messages - start))
    await storage.close()


@contextmanager
def as_a_stranger() -> Iterator[None]:
    """As a user that owns nothing here, for whom modes count."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def garble(path: Path, *, from_part: float) -> None:
    """Overwrite the pages behind this part of the file."""
    pages = path.stat().st_size // PAGE
    with path.open("r+b") as file:
        file.seek(int(pages * from_part) * PAGE)
        file.write(b"\xa5" * PAGE * (pages - int(pages * from_part)))


def let_others_in(directory: Path) -> None:
    """Its files' own modes alone are to count."""
    directory.chmod(0o777)
    for file in directory.iterdir():
        file.chmod(0o666)
    for parent in directory.parents:
        if parent.owner() == directory.owner() and parent.is_relative_to(gettempdir()):
            parent.chmod(parent.stat().st_mode | 0o011)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.suffix != ".lock"}


async def test_an_empty_file_is_what_is_left_of_a_store(path: Path) -> None:
    await used(path)
    os.truncate(path, 0)

    with pytest.raises(
        StartRefused, match=r"store\.db is empty; set the directory aside, and restore"
    ):
        await opened(path)

    assert contents(path.parent)[path.name] == b""


async def test_a_log_without_its_database_is_refused_and_kept(path: Path) -> None:
    os.mkdir(path.parent)
    shutil.copy(__file__, f"{path}-wal")

    with pytest.raises(StartRefused, match="missing beside its write-ahead log"):
        await opened(path)

    assert contents(path.parent) == {"store.db-wal": THIS}


async def test_a_start_that_was_cut_short_leaves_nothing_in_the_way(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_short(connection: apsw.Connection, path: Path) -> None:
        connection.execute("CREATE TABLE half (a)")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(opening, "migrate", cut_short)
        with pytest.raises(KeyboardInterrupt):
            await opened(path)
    assert path.name not in contents(path.parent)

    storage = await opened(path)

    await post(storage, QUEUE, bodies=["a"])
    await storage.close()


@pytest.mark.parametrize("mode", [0o444, 0o000])
async def test_a_file_that_cannot_be_written_is_refused(path: Path, mode: int) -> None:
    await used(path)
    let_others_in(path.parent)
    os.chmod(path, mode)

    with as_a_stranger(), pytest.raises(StartRefused, match=r"give it .*to the service's user"):
        await opened(path)


async def test_a_page_of_garbage_is_refused_at_the_start(path: Path) -> None:
    await used(path, messages=100)
    garble(path, from_part=0.9)

    with pytest.raises(StartRefused, match=r"is damaged .*restore the last backup"):
        await opened(path)


async def with_latest_in_its_log(path: Path, copy: Path) -> Path:
    """The file of a store that crashed when its latest post was in the log alone."""
    await used(path, messages=100)
    storage = await opened(path)
    await post(storage, QUEUE, bodies=["latest"])
    shutil.copytree(path.parent, copy)
    await storage.close()
    return copy / path.name


async def newest(path: Path) -> str:
    storage = await opened(path)
    found = await page(storage, QUEUE, limit=1000)
    await storage.close()
    return bodies(found)[-1]


async def test_a_refused_start_leaves_the_log_to_the_file_that_is_put_back(
    path: Path, tmp_path: Path
) -> None:
    path = await with_latest_in_its_log(path, tmp_path / "crashed")
    whole = path.read_bytes()
    garble(path, from_part=0.9)

    with pytest.raises(StartRefused, match="is damaged"):
        await opened(path)
    path.write_bytes(whole)

    assert await newest(path) == "latest"


async def test_a_process_that_met_damage_leaves_the_log_to_the_file_that_is_put_back(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await with_latest_in_its_log(path, tmp_path / "crashed")
    whole = path.read_bytes()
    garble(path, from_part=0.5)
    monkeypatch.setattr(opening, "soundness", lambda *_, **__: None)
    storage = await opened(path)
    with pytest.raises(StorageDamaged):
        await page(storage, QUEUE, limit=1000)

    await storage.close()
    path.write_bytes(whole)

    assert await newest(path) == "latest"


async def test_what_cannot_be_read_while_it_runs_ends_all_writes(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await used(path, messages=100)
    garble(path, from_part=0.5)
    # As of a file that is too big to be looked through at the start.
    monkeypatch.setattr(opening, "soundness", lambda *_, **__: None)
    storage = await opened(path)

    with pytest.raises(StorageDamaged):
        await page(storage, QUEUE)
    with pytest.raises(StorageDamaged, match="restore the last backup"):
        await post(storage, QueueRef("p", "another"), bodies=["a"])

    assert [record.action for record in caplog.records] == ["storage_damaged"]  # type: ignore[attr-defined]
    await storage.close()


def unlink(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    shutil.copy(path, path.with_suffix(".copy"))
    path.with_suffix(".copy").rename(path)


def cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("change", [unlink, replace])
@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", ".lock"])
async def test_nothing_is_acknowledged_into_a_file_that_is_gone(
    looks_at_all_files: None,
    storage: Storage,
    path: Path,
    suffix: str,
    change: Callable[[Path], None],
) -> None:
    change(Path(f"{path}{suffix}"))

    with pytest.raises(StorageDamaged, match=r"(removed|replaced) while it was in use.*restore"):
        await post(storage, QUEUE, bodies=["lost"])
    assert bodies(await page(storage, QUEUE)) == ["first"]


@pytest.mark.parametrize("suffix", ["", "-wal"])
async def test_nothing_is_acknowledged_into_a_file_that_was_cut_off(
    path: Path, suffix: str
) -> None:
    await used(path, messages=10)
    storage = await opened(path)
    await post(storage, QUEUE, bodies=["a"])

    cut_off(Path(f"{path}{suffix}"))

    with pytest.raises(StorageDamaged, match="cut off while it was in use"):
        await post(storage, QUEUE, bodies=["lost"])
    with suppress(StorageUnavailable):
        await storage.close()


async def test_a_file_that_goes_between_a_write_and_its_commit_takes_no_acknowledgement(
    storage: Storage, path: Path
) -> None:
    def write(db: apsw.Connection) -> None:
        db.execute("UPDATE numbering SET serials = serials")
        path.unlink()

    with pytest.raises(StorageDamaged):
        await database_of(storage).write(write)


async def test_nothing_more_is_written_once_a_file_was_found_gone(
    storage: Storage, path: Path
) -> None:
    unlink(path)
    for body in ("maybe written", "not written"):
        with pytest.raises(StorageDamaged):
            await post(storage, QUEUE, bodies=[body])

    assert "not written" not in bodies(await page(storage, QUEUE))


async def test_files_that_are_put_back_are_written_again(storage: Storage, path: Path) -> None:
    aside = path.parent.with_name("aside")
    path.parent.rename(aside)
    with pytest.raises(StorageDamaged):
        await post(storage, QUEUE, bodies=["lost"])

    aside.rename(path.parent)
    await post(storage, QUEUE, bodies=["second"])

    assert bodies(await page(storage, QUEUE)) == ["first", "second"]


async def test_another_program_s_lock_holds_up_writes_alone(storage: Storage, path: Path) -> None:
    with closing(apsw.Connection(str(path))) as other:
        other.execute("BEGIN IMMEDIATE")
        posting = asyncio.create_task(post(storage, QUEUE, bodies=["second"]))
        await asyncio.sleep(3 * database.LOCK_PAUSE_SECONDS)

        assert bodies(await page(storage, QUEUE)) == ["first"]
        assert not posting.done()
        other.execute("ROLLBACK")

    await posting
    assert bodies(await page(storage, QUEUE)) == ["first", "second"]


async def test_a_lock_that_is_held_for_long_refuses_writes_until_it_is_let_go(
    storage: Storage, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LOCKED_SECONDS", 0.1)
    with closing(apsw.Connection(str(path))) as other:
        other.execute("BEGIN IMMEDIATE")
        for _ in range(2):
            with pytest.raises(StorageLocked):
                await post(storage, QUEUE, bodies=["refused"])
        other.execute("ROLLBACK")

    await post(storage, QUEUE, bodies=["second"])

    assert bodies(await page(storage, QUEUE)) == ["first", "second"]


@pytest.mark.parametrize("uri", ["sqlite:///:memory:", "sqlite://host/store.db", "sqlite://"])
async def test_a_uri_that_names_no_file_is_refused(uri: str) -> None:
    with pytest.raises(StartRefused, match=r"as in sqlite:///var/lib/zaqar\.db"):
        await open_storage(uri)
