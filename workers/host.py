"""The event loop of a worker process: a thread that opens the store and runs the engine.

Celery runs in the process's other threads and knows nothing of it, except that it rings.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import suppress

import uvloop

from sinks.registry import load_kinds
from workers.build import build_engine
from workers.doorbell import LocalDoorbell
from workers.engine import Engine
from zaqar_notify.auth.keystone import asked_keystone, delegations_of
from zaqar_notify.errors import StartRefused, StorageUnavailable
from zaqar_notify.files import raise_file_limit
from zaqar_notify.health import Health
from zaqar_notify.metrics import BrokerCounts
from zaqar_notify.operations.broker import LOOK_AGAIN_SECONDS
from zaqar_notify.operations.metrics_port import serving_metrics
from zaqar_notify.service import Service
from zaqar_notify.settings import Settings
from zaqar_notify.storage.clock import store_clock
from zaqar_notify.storage.internal import Partition
from zaqar_notify.storage.registry import open_storage_of

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 5.0
"""Before the store is opened anew, after the engine could not run."""

STOP_SECONDS = 5.0
"""Time for the stop, beside the time in which the engine finishes its jobs in hand."""


class EngineHost:
    """Made and started in the process that delivers: nothing of it survives a fork."""

    def __init__(self, settings: Settings, broker: BrokerCounts) -> None:
        self._settings = settings
        self._broker = broker
        self._loop = uvloop.new_event_loop()
        self._stop = asyncio.Event()
        self._doorbell = LocalDoorbell()
        self._looking_again: set[Partition] = set()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Begin; returns at once. While the store can't be opened, it is tried again and again."""
        raise_file_limit()
        self._thread.start()

    def ring(self, partition: Partition) -> None:
        """Have the engine look at the partition's work now. From any thread; never waits."""
        # A closed loop takes no rings.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._ring, partition)

    def _ring(self, partition: Partition) -> None:
        self._doorbell.ring(partition)
        if partition not in self._looking_again:
            self._looking_again.add(partition)
            self._loop.call_later(LOOK_AGAIN_SECONDS, self._ring_again, partition)

    def _ring_again(self, partition: Partition) -> None:
        self._looking_again.discard(partition)
        self._doorbell.ring(partition)

    def stop(self) -> None:
        """Finish the jobs in hand within `shutdown_seconds`, give back the others, and end."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(self._settings.shutdown_seconds + STOP_SECONDS)
        if self._thread.is_alive():
            logger.error(
                "The engine did not stop in time; its jobs come back when their leases end",
                extra={"action": "drain_timeout"},
            )

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._keep_running())

    async def _keep_running(self) -> None:
        while not self._stop.is_set():
            try:
                await self._run_engine()
            except (StartRefused, StorageUnavailable) as error:
                logger.error(
                    "The engine can't run; it is tried again",
                    extra={"action": "engine_failed", "error": str(error)},
                )
            except Exception:  # A worker without an engine would look alive and deliver nothing.
                logger.exception("The engine has failed", extra={"action": "engine_failed"})
            await self._pause()

    async def _run_engine(self) -> None:
        """Deliver until the stop.

        Raises:
            StartRefused: The store can't be used as it is.
            StorageUnavailable: It gave no answer.
        """
        kinds = load_kinds(self._settings)
        storage = await open_storage_of(self._settings)
        try:
            async with (
                store_clock(storage) as clock,
                asked_keystone(self._settings) as keystone,
            ):
                service = Service(
                    storage=storage,
                    settings=self._settings,
                    clock=clock,
                    doorbell=self._doorbell,
                    kinds=kinds,
                    delegations=delegations_of(keystone, storage, clock),
                )
                service.metrics.broker = self._broker
                engine = build_engine(service, self._doorbell)
                async with serving_metrics(service):
                    await self._run_until_stopped(engine, service.health)
        finally:
            await storage.close()

    async def _run_until_stopped(self, engine: Engine, health: Health) -> None:
        running = asyncio.create_task(engine.run())
        stopping = asyncio.create_task(self._stop.wait())
        logger.info(
            "The engine delivers", extra={"action": "engine_started", "worker": engine.worker}
        )
        await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        health.is_draining = True
        await engine.drain(self._settings.shutdown_seconds)
        await running

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(PAUSE_SECONDS):
                await self._stop.wait()
