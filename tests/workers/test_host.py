"""The engine in a thread of its own, as a worker process has it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.clock import START
from tests.cluster.processes import PATIENCE_SECONDS, Hook
from tests.partitions import partition
from tests.service import free_port
from tests.workers.office import QUEUE, ClientPost, until
from workers import host as host_module
from workers.broker_state import BrokerState
from workers.build import build_engine
from workers.doorbell import LocalDoorbell
from workers.host import EngineHost
from zaqar_notify.clock import SystemClock, new_id
from zaqar_notify.models import NewMessage, Subscription
from zaqar_notify.settings import Settings
from zaqar_notify.storage.internal import Partition
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import open_storage
from zaqar_notify.subscriptions import renewal


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        store_uri=f"sqlite://{tmp_path / 'store.db'}",
        delivery_allow="127.0.0.0/8",
        shutdown_seconds=5,
        metrics_port=free_port(),
    )


@pytest.fixture
def host(settings: Settings) -> Iterator[EngineHost]:
    host = EngineHost(settings, BrokerState())
    yield host
    host.stop()


@pytest.fixture
async def hook() -> AsyncIterator[Hook]:
    hook = Hook()
    async with hook.serving():
        yield hook


@pytest.fixture
async def storage(settings: Settings) -> AsyncIterator[Storage]:
    """The store, until the test closes it for others to use."""
    storage = await open_storage(settings.store_uri)
    yield storage
    await storage.close()


async def owe(storage: Storage, hook: Hook, settings: Settings) -> None:
    """Leave a delivery for the next process on the store."""
    now = SystemClock().now()
    subscription = Subscription(
        id=new_id(),
        queue=QUEUE,
        subscriber=hook.url,
        ttl=3600,
        options={},
        created_at=now,
        expires_at=START,
        confirmed=True,
    )
    await storage.subscriptions.create(subscription, renew=renewal(subscription), now=now)
    messages = [NewMessage(body=b'"hello"', ttl=3600)]
    await storage.post(QUEUE, ClientPost(messages, settings), now=now)


async def readiness(settings: Settings) -> int:
    url = f"http://127.0.0.1:{settings.metrics_port}/readyz"
    async with aiohttp.ClientSession() as session, session.get(url) as answered:
        return answered.status


async def test_it_delivers_what_is_owed_and_ends_when_told(
    host: EngineHost, storage: Storage, hook: Hook, settings: Settings
) -> None:
    await owe(storage, hook, settings)
    await storage.close()

    host.start()
    await hook.received("hello")
    await asyncio.to_thread(host.stop)

    again = await open_storage(settings.store_uri)
    await again.close()


async def test_it_is_not_ready_while_it_finishes_what_it_has_in_hand(
    host: EngineHost, storage: Storage, hook: Hook, settings: Settings
) -> None:
    await owe(storage, hook, settings)
    await storage.close()
    hook.may_answer.clear()
    host.start()
    await hook.received("hello")
    assert await readiness(settings) == 200

    stopping = asyncio.create_task(asyncio.to_thread(host.stop))

    async with asyncio.timeout(PATIENCE_SECONDS):
        while await readiness(settings) == 200:
            assert not stopping.done()
    assert await readiness(settings) == 503
    hook.may_answer.set()
    await stopping


async def test_it_waits_for_a_store_that_can_not_be_opened(
    host: EngineHost,
    storage: Storage,
    hook: Hook,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(host_module, "PAUSE_SECONDS", 0.05)
    await owe(storage, hook, settings)
    with caplog.at_level(logging.ERROR):
        host.start()
        await until(lambda: "The engine can't run" in caplog.text)
        assert "is open in this process already" in str(caplog.records[0].__dict__["error"])

        await storage.close()

        await hook.received("hello")


async def test_it_runs_the_engine_again_after_a_defect(
    host: EngineHost,
    storage: Storage,
    hook: Hook,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    defects = iter([ValueError("a defect")])

    def build(*arguments: object) -> object:
        for defect in defects:
            raise defect
        return build_engine(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(host_module, "PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(host_module, "build_engine", build)
    await owe(storage, hook, settings)
    await storage.close()

    host.start()

    await hook.received("hello")
    assert [record.getMessage() for record in caplog.records if record.exc_info] == [
        "The engine has failed"
    ]


async def test_ringing_and_stopping_after_the_end_does_nothing(host: EngineHost) -> None:
    host.start()
    await asyncio.to_thread(host.stop)

    host.ring(partition())
    await asyncio.to_thread(host.stop)


async def test_a_ring_that_comes_before_its_work_is_followed_by_another_look(
    host: EngineHost,
    storage: Storage,
    hook: Hook,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await storage.close()
    rung: list[Partition] = []
    has_looked_again = threading.Event()

    def ring(_bell: LocalDoorbell, partition: Partition) -> None:
        rung.append(partition)
        if len(rung) == 3:
            has_looked_again.set()

    monkeypatch.setattr(LocalDoorbell, "ring", ring)
    host.start()

    host.ring(Partition("default", 0))
    host.ring(Partition("default", 0))

    assert await asyncio.to_thread(has_looked_again.wait, PATIENCE_SECONDS)
    await asyncio.to_thread(host.stop)
    assert rung == [Partition("default", 0)] * 3
