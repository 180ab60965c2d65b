"""Deliveries that a worker wrote for a removed subscription do not stay in the store for ever."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clock import ManualClock
from tests.workers.office import QUEUE, Office, until_stored
from workers import leftovers
from workers.outages import Stop
from zaqar_notify.delivery import InternalPost, outgoing_messages, parked_record
from zaqar_notify.models import INTERNAL_PROJECT, QueueRef
from zaqar_notify.settings import Settings
from zaqar_notify.storage.internal import PREFIXES_OF_DELIVERIES
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import open_storage

ROOT = Path(__file__).parents[2]


async def own_queues(storage: Storage) -> list[QueueRef]:
    """The queues that subscriptions have for their deliveries."""
    names = await storage.heads.internal(after="", limit=1000)
    return [
        QueueRef(INTERNAL_PROJECT, name)
        for name in names
        if name.startswith(PREFIXES_OF_DELIVERIES)
    ]


@pytest.mark.parametrize("kind", ["parked", "held"])
async def test_deliveries_that_a_killed_worker_left_for_a_removed_subscription_are_dropped_counted_and_logged(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    uri = f"sqlite:///{tmp_path}/store.db"
    command = [sys.executable, "-m", "tests.workers.dying", uri, kind]
    dying = await asyncio.to_thread(subprocess.run, command, cwd=ROOT, check=False)
    assert dying.returncode == -signal.SIGKILL
    storage = await open_storage(uri)
    office = Office(storage, ManualClock(), Settings())
    [left] = [ref for ref in await own_queues(storage) if ref.name.startswith(kind)]
    count = len(await office.all_in(left))
    assert count

    async def is_gone() -> bool:
        return not await own_queues(storage)

    async with office.open():
        await until_stored(is_gone)

    assert office.counts.dropped["gone"] >= count
    [told] = [one for one in caplog.records if one.__dict__["action"] == "deliveries_dropped"]
    assert (told.__dict__["queue"], told.__dict__["count"]) == ("orders", count)
    await storage.close()


async def test_what_a_subscription_is_owed_is_no_leftover(
    office: Office, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "LISTED_AT_ONCE", 2)
    monkeypatch.setattr(leftovers, "PAUSE", 0)
    subscriptions = [await office.subscribe(f"http://receiver{number}") for number in range(7)]
    await office.post(b"1")
    [outgoing] = outgoing_messages((await office.owed_jobs())[0])
    gone = subscriptions.pop(3)
    await storage.subscriptions.delete(gone.queue, gone.id)
    for subscription in (*subscriptions, gone):
        ref, record = parked_record(outgoing, subscription, attempt=1, due_at=office.clock.now())
        await storage.post(ref, InternalPost([record]), now=office.clock.now())
    forgotten: list[str] = []

    async def forget(queue: QueueRef, subscription_id: str) -> None:
        assert queue == QUEUE
        forgotten.append(subscription_id)

    await leftovers.remove(storage, forget, clock=office.clock, stop=Stop())

    assert forgotten == [gone.id]
