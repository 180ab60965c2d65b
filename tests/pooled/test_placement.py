"""The pool of a new queue is chosen once, by weight within the flavor, and found by every process."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.clock import START
from tests.contract.steps import after, bodies, post
from tests.mongod import beside, mongo_uri
from tests.pools import open_pooled, register, unregister
from zaqar_notify.errors import PoolExists, StorageUnavailable
from zaqar_notify.models import FlavorRef, QueueRef
from zaqar_notify.pools import AskedPool, register_pool
from zaqar_notify.settings import Settings
from zaqar_notify.storage import open_pools
from zaqar_notify.storage.catalogue import Entry
from zaqar_notify.storage.open_pools import TAKES_QUEUES_AFTER
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import open_storage
from zaqar_notify.storage.restoring import Difference
from zaqar_notify.storage.steps import UNUSED_KEPT

QUEUE = QueueRef("project1", "orders")
GOLD = FlavorRef("project1", "gold")


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[Storage]:
    storage = await open_storage(f"sqlite:///{tmp_path}/store.db")
    yield storage
    await storage.close()


def uri(tmp_path: Path, name: str) -> str:
    return f"sqlite:///{tmp_path}/{name}.db"


async def make(storage: Storage, name: str, **metadata: object) -> str:
    """Make the queue; in which pool it is."""
    ref = QueueRef("project1", name)
    await storage.queues.create(ref, metadata=metadata, now=START)
    return storage.pool_of(ref)


async def pools_of(storage: Storage, ref: QueueRef) -> list[str]:
    """The pools that have messages of the queue."""
    totals = {
        pool: (await store.messages.stats(ref, now=START)).total
        for pool, store in storage.pools.items()
    }
    return [pool for pool, total in totals.items() if total]


async def test_without_pools_the_catalogue_stays_empty(storage: Storage) -> None:
    await post(storage, QUEUE, bodies=["a"])

    assert await storage.control.catalogue.get(QUEUE) is None
    assert await pools_of(storage, QUEUE) == ["default"]


async def test_a_first_post_is_on_a_pool_and_the_catalogue_says_so(
    storage: Storage, tmp_path: Path
) -> None:
    await register(storage, "p1", uri(tmp_path, "p1"))

    await post(storage, QUEUE, bodies=["a"])
    await post(storage, QUEUE, bodies=["b"])

    assert await storage.control.catalogue.get(QUEUE) == "p1"
    assert await pools_of(storage, QUEUE) == ["p1"]
    async with storage.at(QUEUE) as store:
        page = await store.messages.page(QUEUE, marker=None, limit=10, now=START)
    assert bodies(page.messages) == ["a", "b"]


async def test_new_queues_spread_by_weight(storage: Storage, tmp_path: Path) -> None:
    await register(storage, "light", uri(tmp_path, "light"), weight=1)
    await register(storage, "heavy", uri(tmp_path, "heavy"), weight=9)
    await register(storage, "full", uri(tmp_path, "full"), weight=0)

    places = Counter([await make(storage, f"q{number}") for number in range(300)])

    assert places.keys() == {"light", "heavy"}
    assert 5 < places["light"] < 75  # 30 on average, 5 the deviation


async def test_a_flavored_queue_is_on_a_pool_of_its_flavor_and_others_are_not(
    storage: Storage, tmp_path: Path
) -> None:
    await register(storage, "golden", uri(tmp_path, "golden"), flavor=GOLD)

    assert await make(storage, "precious", _flavor="gold") == "golden"
    assert await make(storage, "plain") == "default"


async def test_a_flavor_of_another_project_is_another_one(storage: Storage, tmp_path: Path) -> None:
    await register(storage, "golden", uri(tmp_path, "golden"), flavor=FlavorRef("project2", "gold"))

    with pytest.raises(StorageUnavailable, match="No pool of flavor gold"):
        await make(storage, "precious", _flavor="gold")

    assert await storage.queues.get(QueueRef("project1", "precious")) is None


async def test_a_queue_that_was_made_before_there_were_pools_stays(
    storage: Storage, tmp_path: Path
) -> None:
    await post(storage, QUEUE, bodies=["a"])
    await register(storage, "p1", uri(tmp_path, "p1"))

    await post(storage, QUEUE, bodies=["b"])

    assert await pools_of(storage, QUEUE) == ["default"]
    assert await storage.control.catalogue.get(QUEUE) == "default"


async def test_reads_of_a_queue_that_there_is_not_make_no_entry(
    storage: Storage, tmp_path: Path
) -> None:
    await register(storage, "p1", uri(tmp_path, "p1"))

    async with storage.at(QUEUE) as store:
        page = await store.messages.page(QUEUE, marker=None, limit=10, now=START)

    assert page.messages == []
    assert await storage.control.catalogue.get(QUEUE) is None


async def test_a_deleted_queue_stays_in_its_pool_and_is_chosen_anew_a_day_later(
    storage: Storage, tmp_path: Path
) -> None:
    await register(storage, "p1", uri(tmp_path, "p1"))
    await make(storage, QUEUE.name)
    await storage.queues.delete(QUEUE, now=START)
    await register(storage, "p1", uri(tmp_path, "p1"), weight=0)
    catalogue, day = storage.control.catalogue, UNUSED_KEPT.total_seconds()

    await storage.sweep(now=after(day), limit=10)
    assert await catalogue.get(QUEUE) == "p1"
    assert await make(storage, QUEUE.name) == "p1"

    await storage.sweep(now=after(day + 1), limit=10)
    assert await catalogue.get(QUEUE) == "p1", "there is such a queue again"
    await storage.queues.delete(QUEUE, now=after(day + 2))
    await storage.sweep(now=after(2 * day + 3), limit=10)
    assert await catalogue.get(QUEUE) is None
    storage.places.read_again()
    assert await make(storage, QUEUE.name) == "default"


async def test_an_entry_of_a_pool_that_is_no_more_gives_way(
    storage: Storage, tmp_path: Path
) -> None:
    await register(storage, "p1", uri(tmp_path, "p1"))
    await make(storage, QUEUE.name)
    await storage.queues.delete(QUEUE, now=START)
    await unregister(storage, "p1")
    await register(storage, "p2", uri(tmp_path, "p2"))

    await post(storage, QUEUE, bodies=["a"])

    assert await pools_of(storage, QUEUE) == ["p2"]
    assert await storage.control.catalogue.get(QUEUE) == "p2"


async def test_a_pool_that_was_removed_while_it_got_a_queue_loses_no_message(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await register(storage, "p1", uri(tmp_path, "p1"))
    create = storage.control.records.create

    async def remove_pool_and_create(*args: object, **rest: object) -> object:
        with monkeypatch.context() as unnoticed:
            unnoticed.setattr(storage.open_pools, "look", nothing)
            await unregister(storage, "p1")
        return await create(*args, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(storage.control.records, "create", remove_pool_and_create)

    with pytest.raises(StorageUnavailable, match="removed"):
        await post(storage, QUEUE, bodies=["a"])
    await post(storage, QUEUE, bodies=["a"])

    assert await pools_of(storage, QUEUE) == ["default"]


async def nothing() -> None:
    """Stands for a process that has not read the list of pools again."""


async def test_a_wait_for_a_queue_that_there_is_not_yet_ends_with_its_first_post(
    storage: Storage, tmp_path: Path
) -> None:
    await register(storage, "p1", uri(tmp_path, "p1"))

    with storage.watch(QUEUE) as watch:
        waiting = asyncio.create_task(watch.changed(timeout_seconds=30))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await post(storage, QUEUE, bodies=["a"])

        assert await waiting


@pytest.fixture
async def processes() -> AsyncIterator[list[Storage]]:
    """Storages of several processes on one control store, with two pools."""
    control_uri = mongo_uri()
    pools = {name: beside(control_uri) for name in ("p1", "p2")}
    processes = [await open_pooled(control_uri, pools)]
    processes += [await open_storage(control_uri) for _ in range(2)]
    for name in ("p1", "p2"):
        await weigh(processes, name, 1)
    yield processes
    for storage in processes:
        await storage.close()


async def weigh(processes: list[Storage], name: str, weight: int) -> None:
    pool_uri = await uri_of(processes[0], name)
    for storage in processes:
        await register(storage, name, pool_uri, weight=weight)


async def uri_of(storage: Storage, name: str) -> str:
    return (await storage.control.pools.read()).pools[name].uri or ""


async def test_processes_that_make_a_queue_at_once_agree_on_its_pool(
    processes: list[Storage],
) -> None:
    refs = [QueueRef("project1", f"q{number}") for number in range(10)]
    posts = [post(each, ref, bodies=["a"]) for ref in refs for each in processes]

    await asyncio.gather(*posts)

    places = Counter[str]()
    for ref in refs:
        [pool] = await pools_of(processes[0], ref)
        places[pool] += 1
        assert {each.pool_of(ref) for each in processes} == {pool}
    assert places.keys() == {"p1", "p2"}


async def test_a_wait_in_another_process_finds_the_queue_that_a_post_makes(
    processes: list[Storage],
) -> None:
    with processes[1].watch(QUEUE, exclusive=True) as watch:
        waiting = asyncio.create_task(watch.changed(timeout_seconds=30))
        await asyncio.sleep(0.01)

        await post(processes[0], QUEUE, bodies=["a"])

        assert await waiting


async def test_a_pool_takes_queues_when_all_processes_know_it(processes: list[Storage]) -> None:
    [storage, *_] = processes
    await weigh(processes, "p1", 0)
    await weigh(processes, "p2", 0)
    await register(storage, "young", beside(await uri_of(storage, "p1")), at=START)

    assert await make(storage, "early") == "default"
    later = START + TAKES_QUEUES_AFTER
    await storage.queues.create(QUEUE, metadata={}, now=later)
    assert storage.pool_of(QUEUE) == "young"


async def test_a_process_that_may_have_missed_a_pool_makes_no_new_queues(
    processes: list[Storage], monkeypatch: pytest.MonkeyPatch
) -> None:
    [storage, *_] = processes
    await post(storage, QUEUE, bodies=["a"])
    monkeypatch.setattr(open_pools, "FRESH_SECONDS", -1.0)

    await post(storage, QUEUE, bodies=["b"])
    with pytest.raises(StorageUnavailable, match="no new queues"):
        await post(storage, QueueRef("project1", "new"), bodies=["a"])


async def test_queues_whose_entries_a_restored_control_store_lacks_are_found_again(
    storage: Storage, tmp_path: Path
) -> None:
    await register(storage, "p1", uri(tmp_path, "p1"))
    other = QueueRef("project1", "bills")
    for ref in (QUEUE, other):
        await post(storage, ref, bodies=["a"])
    catalogue = storage.control.catalogue
    await catalogue.remove(Entry(QUEUE, "p1", START))
    assert await catalogue.move(other, "p1", "default")
    storage.places.read_again()
    [finding] = [each for each in await storage.diagnose() if "catalogue" in each.sentence]
    assert "2 on a pool that the catalogue does not name" in finding.sentence

    done = await storage.restored(now=START)

    assert done.mended == Counter({Difference.PLACE: 2})
    for ref in (QUEUE, other):
        async with storage.at(ref) as store:
            page = await store.messages.page(ref, marker=None, limit=10, now=START)
        assert bodies(page.messages) == ["a"]
    assert not (await storage.restored(now=START)).mended.total()


async def test_the_control_store_s_database_is_no_pool(tmp_path: Path) -> None:
    control_uri = mongo_uri()
    storage = await open_storage(uri(tmp_path, "store"), control_uri=control_uri)
    by_another_name = AskedPool(control_uri.replace("127.0.0.1", "localhost"), 1)

    with pytest.raises(PoolExists):
        await register_pool(storage, Settings(), "p1", by_another_name, now=START)

    assert not (await storage.control.pools.read()).pools
    await storage.close()
