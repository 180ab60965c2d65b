"""Positions go on whatever happens to the clock and to the file."""

from __future__ import annotations

import secrets
import shutil
import time
from pathlib import Path

import pytest

from tests.clock import START
from tests.contract.steps import bodies, page, post, post_one
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.registry import open_storage
from zaqar_notify.storage.sqlite import numbering

QUEUE, OTHER = QueueRef("p", "q"), QueueRef("p", "other")
NOON = 1_800_000_000


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(monkeypatch)


class Host:
    """The host's clock, which a test sets, and the clock that cannot be set, which stands still."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = NOON
        monkeypatch.setattr(time, "time_ns", lambda: self.seconds * 1_000_000_000)
        monkeypatch.setattr(numbering, "running_seconds", lambda: 0.0)


def uri(directory: Path) -> str:
    return f"sqlite://{directory}/store.db"


async def post_at_a_start(directory: Path, body: str) -> str:
    """Open the store, post a message, and close it."""
    storage = await open_storage(uri(directory))
    try:
        return await post_one(storage, QUEUE, body)
    finally:
        await storage.close()


async def test_in_one_millisecond_a_queue_counts_its_own(tmp_path: Path, host: Host) -> None:
    storage = await open_storage(uri(tmp_path))

    ids = []
    for _ in range(3):
        ids += (await post(storage, QUEUE, bodies=["a", "b"])).ids
        await post(storage, OTHER, bodies=["c"] * 70)

    first = int(ids[0][:16], 16)
    assert [int(each[:16], 16) - first for each in ids] == [0, 1, 2, 3, 4, 5]
    await storage.close()


async def test_a_queue_that_comes_back_in_the_same_millisecond_goes_on(
    tmp_path: Path, host: Host
) -> None:
    storage = await open_storage(uri(tmp_path))
    marker = await post_one(storage, QUEUE, "a")
    await storage.queues.delete(QUEUE, now=START)

    await post_one(storage, QUEUE, "b")

    assert bodies(await page(storage, QUEUE, marker=marker)) == ["b"]
    await storage.close()


async def test_positions_go_on_when_the_clock_was_put_back(tmp_path: Path, host: Host) -> None:
    marker = await post_at_a_start(tmp_path, "before")
    host.seconds -= 3600

    await post_at_a_start(tmp_path, "after")

    storage = await open_storage(uri(tmp_path))
    assert bodies(await page(storage, QUEUE, marker=marker)) == ["after"]
    await storage.close()


async def test_a_start_is_not_ahead_of_the_clock(tmp_path: Path, host: Host) -> None:
    for _ in range(50):
        last = await post_at_a_start(tmp_path, "a")
        host.seconds += 1

    assert int(last[:16], 16) >> 20 == (NOON + 49) * 1000


async def test_what_is_posted_to_a_restored_file_has_new_ids_behind_the_old(
    tmp_path: Path, host: Host
) -> None:
    for each in ("live", "backup"):
        (tmp_path / each).mkdir()
    await post_at_a_start(tmp_path / "live", "before the backup")
    shutil.copy(tmp_path / "live" / "store.db", tmp_path / "backup" / "store.db")
    host.seconds += 1
    lost = [await post_at_a_start(tmp_path / "live", "lost") for _ in range(20)]
    host.seconds += 10

    storage = await open_storage(uri(tmp_path / "backup"))
    new = [await post_one(storage, QUEUE, f"{number}") for number in range(20)]

    assert set(new).isdisjoint(lost)
    assert len(bodies(await page(storage, QUEUE, marker=lost[-1]))) == 20
    await storage.close()


async def test_ids_are_new_though_the_clock_says_what_it_said_before(
    tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup that is restored where the clock is behind."""
    for each in ("live", "backup"):
        (tmp_path / each).mkdir()
    await post_at_a_start(tmp_path / "live", "before the backup")
    shutil.copy(tmp_path / "live" / "store.db", tmp_path / "backup" / "store.db")
    monkeypatch.setattr(secrets, "randbelow", lambda _: 1000)
    lost = await post_at_a_start(tmp_path / "live", "lost")
    monkeypatch.setattr(secrets, "randbelow", lambda _: 2000)

    new = await post_at_a_start(tmp_path / "backup", "new")

    assert new != lost
    storage = await open_storage(uri(tmp_path / "backup"))
    assert await storage.messages.get(QUEUE, [lost], now=START) == []
    await storage.close()
