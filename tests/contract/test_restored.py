"""The control store is put back from a backup of its own, or the message store is."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest

from tests.clock import START
from tests.contract.conftest import DRIVERS, sqlite_uri
from tests.contract.steps import (
    GivenPost,
    after,
    bodies,
    everything,
    first,
    new_message,
    post,
    subscribe,
)
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.findings import Level
from zaqar_notify.models import JsonObject, Queue, QueueRef
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import open_storage
from zaqar_notify.storage.restoring import COMPARED_AT_ONCE, Difference, Restored

OLD = {"_max_claim_count": 1}
NEW = {"_max_claim_count": 9}


class TwoDatabases:
    """A message store of some driver, and a control store that is a file in a directory of its own."""

    def __init__(self, message_uri: str, control: Path) -> None:
        self._message_uri = message_uri
        self._control = control
        self.storage: Storage

    async def open(self) -> Storage:
        self._control.mkdir(exist_ok=True)
        self.storage = await open_storage(
            self._message_uri, control_uri=f"sqlite://{self._control}/control.db"
        )
        return self.storage

    async def back_up_control(self) -> Storage:
        return await self.back_up(self._control)

    async def restore_control(self) -> Storage:
        return await self.restore(self._control)

    async def back_up(self, directory: Path) -> Storage:
        await self.storage.close()
        shutil.copytree(directory, _backup_of(directory))
        return await self.open()

    async def restore(self, directory: Path) -> Storage:
        await self.storage.close()
        shutil.rmtree(directory)
        shutil.copytree(_backup_of(directory), directory)
        return await self.open()


def _backup_of(directory: Path) -> Path:
    return directory.with_suffix(".backup")


@pytest.fixture(params=DRIVERS)
async def databases(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[TwoDatabases]:
    databases = TwoDatabases(DRIVERS[request.param](tmp_path), tmp_path / "control")
    await databases.open()
    yield databases
    await databases.storage.close()


OF_ONE_POOL = [each for each in Difference if each is not Difference.PLACE]


async def restored(storage: Storage) -> Restored:
    return await storage.restored(now=START)


async def rules_in_force(storage: Storage, queue: QueueRef) -> JsonObject:
    given = GivenPost([new_message("probe")])
    await storage.post(queue, given, now=START)
    return given.applied_rules[-1]


async def shown(storage: Storage, queue: QueueRef) -> JsonObject:
    found = await storage.queues.get(queue)
    assert found is not None
    return found.metadata


async def is_notified(storage: Storage, queue: QueueRef, *, now: datetime) -> bool:
    return (await post(storage, queue, bodies=["a"], now=now)).owes_deliveries


async def test_a_queue_obeys_the_metadata_that_came_back(
    databases: TwoDatabases, queue: QueueRef
) -> None:
    await databases.storage.queues.create(queue, metadata=OLD, now=START)
    storage = await databases.back_up_control()
    for _ in range(3):
        await storage.queues.update(queue, lambda _: {**NEW, "colour": "red"})
    storage = await databases.restore_control()

    done = await restored(storage)

    assert done.mended == Counter([Difference.RULES])
    assert await shown(storage, queue) == await rules_in_force(storage, queue) == OLD


async def test_a_queue_that_was_made_after_the_backup_is_listed_and_can_be_changed(
    databases: TwoDatabases, queue: QueueRef
) -> None:
    storage = await databases.back_up_control()
    await storage.queues.create(queue, metadata={**NEW, "colour": "red"}, now=START)
    await post(storage, queue, bodies=["a"])
    storage = await databases.restore_control()

    done = await restored(storage)

    assert done.mended == Counter([Difference.RECORD])
    assert await storage.queues.list(queue.project, marker=None, limit=10) == [
        Queue(queue, NEW, START)
    ]
    assert bodies(await everything(storage, queue)) == ["a"]
    assert await storage.queues.update(queue, lambda _: OLD) == OLD
    assert await rules_in_force(storage, queue) == OLD


async def test_a_subscription_that_came_back_is_notified_as_long_as_it_lives(
    databases: TwoDatabases, queue: QueueRef
) -> None:
    kept = await subscribe(databases.storage, queue, ttl=60)
    storage = await databases.back_up_control()
    await storage.subscriptions.delete(queue, kept.id)
    storage = await databases.restore_control()
    assert await is_notified(storage, queue, now=START) is False

    done = await restored(storage)

    assert done.mended == Counter([Difference.SUBSCRIPTIONS])
    assert await is_notified(storage, queue, now=after(59)) is True
    assert await is_notified(storage, queue, now=after(60)) is False


async def test_a_deleted_queue_that_came_back_is_empty_and_as_it_shows(
    databases: TwoDatabases, queue: QueueRef
) -> None:
    await databases.storage.queues.create(queue, metadata=OLD, now=START)
    await subscribe(databases.storage, queue)
    storage = await databases.back_up_control()
    await post(storage, queue, bodies=["deleted"])
    await storage.queues.delete(queue, now=START)
    storage = await databases.restore_control()

    done = await restored(storage)

    assert (done.compared, done.mended) == (0, Counter())
    assert await everything(storage, queue) == []
    assert await shown(storage, queue) == await rules_in_force(storage, queue) == OLD
    assert await is_notified(storage, queue, now=START) is True
    await storage.queues.delete(queue, now=START)
    assert await storage.queues.get(queue) is None


async def test_a_queue_that_was_made_anew_obeys_the_metadata_that_came_back(
    databases: TwoDatabases, queue: QueueRef
) -> None:
    await databases.storage.queues.create(queue, metadata=OLD, now=START)
    storage = await databases.back_up_control()
    await storage.queues.delete(queue, now=START)
    await storage.queues.create(queue, metadata=NEW, now=START)
    storage = await databases.restore_control()

    await restored(storage)

    assert await shown(storage, queue) == await rules_in_force(storage, queue) == OLD


async def test_a_message_store_that_came_back_alone_obeys_the_records_and_subscriptions(
    tmp_path: Path, queue: QueueRef, other_queue: QueueRef
) -> None:
    messages = tmp_path / "messages"
    messages.mkdir()
    databases = TwoDatabases(sqlite_uri(messages), tmp_path / "control")
    await databases.open()
    for ref in (queue, other_queue):
        await databases.storage.queues.create(ref, metadata=OLD, now=START)
    storage = await databases.back_up(messages)
    await storage.queues.update(queue, lambda _: NEW)
    await subscribe(storage, queue)
    await storage.queues.delete(other_queue, now=START)
    storage = await databases.restore(messages)

    done = await restored(storage)

    assert done.mended == Counter(OF_ONE_POOL)
    assert await shown(storage, queue) == await rules_in_force(storage, queue) == NEW
    assert await is_notified(storage, queue, now=START) is True
    assert await shown(storage, other_queue) == OLD
    await storage.close()


async def test_once_more_finds_nothing(databases: TwoDatabases, queue: QueueRef) -> None:
    await subscribe(databases.storage, queue)
    storage = await databases.back_up_control()
    await storage.queues.update(queue, lambda _: NEW)
    await storage.subscriptions.delete_all(queue)
    await post(storage, QueueRef(queue.project, "unlisted"), bodies=["a"])
    storage = await databases.restore_control()
    at_first = await restored(storage)

    once_more = await restored(storage)

    assert at_first.mended == Counter(OF_ONE_POOL)
    assert (once_more.compared, once_more.mended) == (2, Counter())
    assert not [each for each in await storage.diagnose() if each.level is Level.PROBLEM]


async def test_a_run_that_broke_off_is_begun_again(
    databases: TwoDatabases, queue: QueueRef
) -> None:
    refs = [QueueRef(queue.project, f"{number:03}") for number in range(COMPARED_AT_ONCE + 1)]
    storage = await databases.back_up_control()
    for ref in refs:
        await storage.queues.create(ref, metadata={}, now=START)
    storage = await databases.restore_control()

    def break_off(compared: int) -> None:
        raise StorageUnavailable(f"after {compared} queues")

    with pytest.raises(StorageUnavailable, match=f"after {COMPARED_AT_ONCE} queues"):
        await storage.restored(now=START, progress=break_off)
    done = await restored(storage)

    assert done.mended == Counter({Difference.RECORD: 1})
    assert await storage.queues.count(queue.project) == len(refs)


@pytest.mark.parametrize("moment", ["get", "create"])
async def test_a_queue_that_is_deleted_meanwhile_stays_deleted(
    databases: TwoDatabases, queue: QueueRef, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    storage = await databases.back_up_control()
    await post(storage, queue, bodies=["a"])
    storage = await databases.restore_control()
    delete = partial(storage.queues.delete, queue, now=START)
    first(monkeypatch, storage.control.records, moment, delete)

    await restored(storage)

    assert await storage.queues.get(queue) is None
    assert await storage.heads.get(queue) is None


async def test_a_queue_whose_record_is_made_while_it_is_deleted_stays_deleted(
    databases: TwoDatabases, queue: QueueRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = await databases.back_up_control()
    await post(storage, queue, bodies=["a"])
    storage = await databases.restore_control()
    first(monkeypatch, storage.heads, "drop", partial(restored, storage))

    await storage.queues.delete(queue, now=START)

    assert await storage.queues.get(queue) is None
    assert await storage.heads.get(queue) is None


async def test_a_change_made_meanwhile_is_in_force(
    databases: TwoDatabases, queue: QueueRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    await databases.storage.queues.create(queue, metadata={}, now=START)
    storage = await databases.back_up_control()
    await storage.queues.update(queue, lambda _: OLD)
    storage = await databases.restore_control()
    change = partial(storage.queues.update, queue, lambda _: NEW)
    first(monkeypatch, storage.heads, "put", change)

    await restored(storage)

    assert await shown(storage, queue) == await rules_in_force(storage, queue) == NEW


async def test_the_doctor_tells_of_each_difference(
    databases: TwoDatabases, queue: QueueRef
) -> None:
    await subscribe(databases.storage, queue)
    storage = await databases.back_up_control()
    await storage.queues.update(queue, lambda _: NEW)
    await storage.subscriptions.delete_all(queue)
    await post(storage, QueueRef(queue.project, "unlisted"), bodies=["a"])
    storage = await databases.restore_control()

    finding = (await storage.diagnose())[-1]

    assert "of the first 2 queues 1 without a record, 1 with other rules" in finding.sentence
    assert "1 with subscriptions that posts do not notify" in finding.sentence
    assert "zaqar-notify restored" in finding.remedy
