"""A pool that is down makes its own queues unavailable, and no others; so does a control store for new queues."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.clock import START, ManualClock
from tests.contract.steps import bodies, claim, post
from tests.mongod import Mongod
from tests.pools import open_pooled, put_on, register, unregister
from tests.workers.office import (
    DEADLINE_SECONDS,
    TRY_LATER,
    ClientPost,
    Hanging,
    Office,
    until_stored,
)
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.findings import Level
from zaqar_notify.models import NewMessage, QueueRef
from zaqar_notify.readiness import Readiness
from zaqar_notify.settings import Settings
from zaqar_notify.storage import open_pools
from zaqar_notify.storage.internal import Partition, outbox_ref
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import open_storage

HERE = QueueRef("project1", "here")
THERE = QueueRef("project1", "there")
"""A queue on the pool that goes down."""
POOL = "other"


@pytest.fixture
async def storage(tmp_path: Path, other_uri: str, other_server: Mongod) -> AsyncIterator[Storage]:
    storage = await open_pooled(f"sqlite:///{tmp_path}/store.db", {POOL: other_uri})
    await put_on(storage, HERE, "default")
    await put_on(storage, THERE, POOL)
    yield storage
    await storage.close()


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until the condition holds. A server's end and start take a while."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.01)


async def lose(storage: Storage, server: Mongod, *, hangs: bool = False) -> None:
    """Kill or halt the pool's server, and wait until the process has noticed."""
    if hangs:
        server.pause()
    else:
        server.kill()
    await until(lambda: storage.pools.is_away(POOL))


async def find(storage: Storage, server: Mongod) -> None:
    if server.process is None:
        server.start()
    else:
        server.go_on()
    await until(lambda: not storage.pools.is_away(POOL))


async def all_of(storage: Storage, ref: QueueRef) -> list[str]:
    async with storage.at(ref) as store:
        page = await store.messages.page(ref, marker=None, limit=20, now=START)
    return bodies(page.messages)


async def test_only_the_queues_of_a_pool_that_is_down_are_unavailable(
    storage: Storage, other_server: Mongod
) -> None:
    for ref in (HERE, THERE):
        await post(storage, ref, bodies=["a"])

    await lose(storage, other_server)

    with pytest.raises(StorageUnavailable, match=f"Pool {POOL}"):
        await post(storage, THERE, bodies=["b"])
    with pytest.raises(StorageUnavailable, match=f"Pool {POOL}"):
        await claim(storage, THERE)
    await post(storage, HERE, bodies=["b"])
    assert await claim(storage, HERE) is not None
    listed = await storage.queues.list(
        "project1", marker=None, limit=10, name_contains="", metadata_equals={}
    )
    assert [queue.ref for queue in listed] == [HERE, THERE]
    assert await Readiness().is_able(storage)
    [finding] = [each for each in await storage.diagnose() if each.check == f"pool {POOL}"]
    assert finding.level is Level.PROBLEM

    await find(storage, other_server)
    await post(storage, THERE, bodies=["b"])
    assert await all_of(storage, THERE) == ["a", "b"]


async def test_a_change_that_a_pool_did_not_get_stops_no_sweep_and_is_applied_later(
    storage: Storage, other_server: Mongod
) -> None:
    await post(storage, THERE, bodies=["a"])
    await lose(storage, other_server)
    with pytest.raises(StorageUnavailable):
        await storage.queues.update(THERE, lambda _: {"_default_message_ttl": 77})

    await storage.sweep(now=START, limit=10)
    await find(storage, other_server)
    await storage.sweep(now=START, limit=10)

    async with storage.at(THERE) as store:
        head = await store.heads.get(THERE)
    assert head is not None
    assert head.rules == {"_default_message_ttl": 77}


async def test_new_queues_are_made_on_pools_that_answer(
    storage: Storage, other_server: Mongod, other_uri: str, tmp_path: Path
) -> None:
    await register(storage, POOL, other_uri, weight=1000)
    await lose(storage, other_server)

    await post(storage, QueueRef("project1", "first"), bodies=["a"])
    await register(storage, "third", f"sqlite:///{tmp_path}/third.db")
    await post(storage, QueueRef("project1", "second"), bodies=["a"])

    assert storage.pool_of(QueueRef("project1", "first")) == "default"
    assert storage.pool_of(QueueRef("project1", "second")) == "third"


async def test_new_queues_are_made_on_pools_that_take_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(open_pools, "LOOK_SECONDS", 0.05)
    storage = await open_pooled(f"sqlite:///{tmp_path}/store.db", {})
    await register(storage, POOL, f"sqlite:///{tmp_path}/pool/pool.db", weight=1000)
    await post(storage, THERE, bodies=["a"])

    shutil.rmtree(tmp_path / "pool")
    await until(lambda: POOL in storage.pools.refusing)
    await post(storage, HERE, bodies=["a"])

    assert (storage.pool_of(THERE), storage.pool_of(HERE)) == (POOL, "default")
    assert await all_of(storage, THERE) == ["a"]
    refusals = [each for each in caplog.records if vars(each).get("action") == "pool_refuses"]
    assert [vars(each)["pool"] for each in refusals] == [POOL]
    await storage.close()


async def test_a_pool_that_is_down_at_the_start_is_opened_when_it_answers(
    tmp_path: Path, other_uri: str, other_server: Mongod
) -> None:
    other_server.kill()
    storage = await open_pooled(f"sqlite:///{tmp_path}/store.db", {POOL: other_uri})
    assert storage.pools.is_away(POOL)

    await find(storage, other_server)
    await put_on(storage, THERE, POOL)
    await post(storage, THERE, bodies=["a"])

    assert await all_of(storage, THERE) == ["a"]
    await storage.close()


@pytest.mark.parametrize("is_the_same", [True, False])
async def test_another_store_in_the_place_of_a_pool_s_is_not_taken_for_it(
    storage: Storage, tmp_path: Path, is_the_same: bool
) -> None:
    uri = f"sqlite:///{tmp_path}/third.db"
    await register(storage, "third", uri)
    identity = await storage.pools["third"].identity()
    await unregister(storage, "third")

    present = uri if is_the_same else f"sqlite:///{tmp_path}/fourth.db"
    await register(storage, "third", present, identity=identity)

    assert storage.pools.is_away("third") is not is_the_same
    assert is_the_same or "another store" in storage.pools.away["third"]


@pytest.mark.parametrize("does", ["die", "hang"])
async def test_deliveries_of_other_pools_go_on_and_those_of_the_pool_follow(
    storage: Storage, other_server: Mongod, does: str
) -> None:
    office = Office(storage, ManualClock(), Settings(retry_jitter=0))
    for ref in (HERE, THERE):
        await office.subscribe(f"http://{ref.name}", queue=ref)

    async def send(ref: QueueRef, body: bytes) -> None:
        sent = ClientPost([NewMessage(body, ttl=3600)], office.settings, ref)
        await storage.post(ref, sent, now=office.clock.now())

    async with office.open():
        await send(THERE, b"1")
        await until(lambda: office.sink.bodies("http://there") == [b"1"])
        await lose(storage, other_server, hangs=does == "hang")
        for number in range(20):
            await send(HERE, b"%d" % number)
        await until(lambda: len(office.sink.bodies("http://here")) == 20)
        await find(storage, other_server)
        await send(THERE, b"2")
        await until(lambda: b"2" in office.sink.bodies("http://there"))


async def test_attempts_whose_results_a_pool_does_not_take_leave_their_slots_to_others(
    storage: Storage, other_server: Mongod
) -> None:
    settings = Settings(retry_jitter=0, delivery_concurrency=4, delivery_concurrency_per_endpoint=4)
    office = Office(storage, ManualClock(), settings)
    failing = Hanging(TRY_LATER)
    office.sink.answers["http://there"] = failing
    for ref in (HERE, THERE):
        await office.subscribe(f"http://{ref.name}", queue=ref)

    async with office.open(drain_seconds=1):
        for number in range(8):
            sent = ClientPost([NewMessage(b"%d" % number, ttl=3600)], settings, THERE)
            await storage.post(THERE, sent, now=office.clock.now())
        await office.sink.received(3)
        await lose(storage, other_server)
        failing.let_go.set()
        sent = ClientPost([NewMessage(b"1", ttl=3600)], settings, HERE)
        await storage.post(HERE, sent, now=office.clock.now())

        await until(lambda: office.sink.bodies("http://here") == [b"1"])


async def test_an_engine_takes_on_a_new_pool_and_leaves_one_that_goes(
    storage: Storage, tmp_path: Path
) -> None:
    office = Office(storage, ManualClock(), Settings(retry_jitter=0))
    new = QueueRef("project1", "new")
    uri = f"sqlite:///{tmp_path}/new.db"

    async def delivered(body: bytes) -> None:
        sent = ClientPost([NewMessage(body, ttl=3600)], office.settings, new)
        await storage.post(new, sent, now=office.clock.now())
        await until(lambda: body in office.sink.bodies("http://new"))

    async def is_done() -> bool:
        outbox = outbox_ref(Partition("new", 0))
        stats = await storage.pools["new"].messages.stats(outbox, now=office.clock.now())
        return not stats.total

    async with office.open() as engine:
        await register(storage, "new", uri)
        await put_on(storage, new, "new")
        await office.subscribe("http://new", queue=new)
        await delivered(b"1")
        await until_stored(is_done)
        await unregister(storage, "new")
        await until(lambda: engine.in_hand == 0)
        await register(storage, "new", uri)
        await delivered(b"2")


async def test_with_the_control_store_away_known_queues_go_on(
    tmp_path: Path, other_uri: str, other_server: Mongod
) -> None:
    storage = await open_storage(f"sqlite:///{tmp_path}/store.db", control_uri=other_uri)
    await register(storage, "third", f"sqlite:///{tmp_path}/third.db")
    await post(storage, HERE, bodies=["a"])
    assert storage.pool_of(HERE) == "third"

    other_server.kill()

    await post(storage, HERE, bodies=["b"])
    assert await all_of(storage, HERE) == ["a", "b"]
    with pytest.raises(StorageUnavailable):
        await post(storage, QueueRef("project1", "new"), bodies=["a"])
    assert not await Readiness().is_able(storage)
    storage.places.read_again()
    await post(storage, HERE, bodies=["c"])
    await storage.close()
