"""The Celery application, put together: `celery -A workers.app worker`, `zaqar-notify worker`.

Celery brings wake-ups to a worker process, and starts and stops it. Each process that delivers (the
worker itself with the threads pool, its children with prefork) has an engine of its own, which runs
from the process's start to its end and finds due work by itself, broker or not. The lease on each
job keeps two engines from doing the same job, so any number of workers is right.

After SIGTERM, no more rings are taken. The engine finishes its jobs in hand within
`ZAQAR_SHUTDOWN_SECONDS` and gives back the others. The process ends with exit code 0.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import Any

from billiard.exceptions import WorkerLostError
from celery import bootsteps, signals
from celery.concurrency import get_implementation
from celery.concurrency.prefork import TaskPool as PreforkPool
from celery.worker import state
from celery.worker.request import Request

from sinks.registry import load_kinds
from workers.broker_state import BrokerState
from workers.host import EngineHost
from workers.listening import Listener
from zaqar_notify.errors import StartRefused, StorageUnavailable
from zaqar_notify.operations import logs
from zaqar_notify.operations.broker import DRAIN, celery_application
from zaqar_notify.operations.cluster import (
    cluster_settings,
    refuse_several_processes,
    warn_of_unsigned_webhooks,
)
from zaqar_notify.settings import Settings, load_settings
from zaqar_notify.storage.internal import DEFAULT_POOL, Partition
from zaqar_notify.storage.registry import open_storage_of

PULSE_SECONDS = 1.0

QUIET = (
    "celery.app.trace",
    "celery.worker.consumer.connection",
    "celery.worker.strategy",
    "kombu",
    "amqp",
)
"""Loggers with a line for every ring, or for every try to listen."""


@functools.cache
def worker_settings() -> Settings:
    try:
        return cluster_settings(load_settings())
    except StartRefused as error:
        # Celery would print a traceback, and not the sentence with the remedy.
        raise SystemExit(str(error)) from error


app = celery_application(worker_settings)
app.add_defaults(lambda: {"worker_consumer": Listener})


class ProcessEngine:
    """The engine of this process, from when the process is known to be one that delivers."""

    def __init__(self) -> None:
        self.broker = BrokerState()
        self._host: EngineHost | None = None

    def start(self) -> None:
        self._host = EngineHost(worker_settings(), self.broker)
        self._host.start()

    def ring(self, partition: Partition) -> None:
        if self._host is not None:
            self._host.ring(partition)

    def stop(self) -> None:
        if self._host is not None:
            self._host.stop()
            self._host = None


engine = ProcessEngine()


class Ring(Request):
    """A ring as the worker has it. The broker forgot it when it gave it away."""

    def acknowledge(self) -> None:
        """Say nothing to the broker: it asks for nothing, and its connection may be another by now."""
        self.acknowledged = True

    def on_failure(self, exc_info: Any, *args: Any, **kwargs: Any) -> None:
        """Nor of a process that was killed with it: the pool has said so, and its jobs come back."""
        error = exc_info.exception
        if isinstance(getattr(error, "exc", error), (WorkerLostError, SystemExit)):
            state.task_ready(self)
        else:
            super().on_failure(exc_info, *args, **kwargs)


@app.task(name=DRAIN, Request=Ring)
def drain(number: int, pool: str = DEFAULT_POOL) -> None:
    """Tell this process's engine that a partition has work.

    The task returns at once. The engine itself bounds its jobs in hand. A task that waited for the
    engine would delay the next ring and the shutdown.
    """
    engine.ring(Partition(pool, number))


class EngineStep(bootsteps.StartStopStep):
    """Runs the engine where the worker itself delivers: with every pool that does not fork."""

    requires = ("celery.worker.components:Pool",)

    def include_if(self, parent: Any) -> bool:
        return not _forks(parent)

    def start(self, parent: Any) -> None:
        engine.start()

    def stop(self, parent: Any) -> None:
        engine.stop()

    def terminate(self, parent: Any) -> None:
        engine.stop()


app.steps["worker"].add(EngineStep)


class BrokerStateStep(bootsteps.StartStopStep):
    """Notes whether the broker is heard. Stopped, and started anew, when the connection is lost."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, parent: Any) -> None:
        engine.broker.note(is_heard=True)

    def stop(self, parent: Any) -> None:
        engine.broker.note(is_heard=False)


class PulseStep(bootsteps.StartStopStep):
    """Wakes the loop that waits for rings every second, so that it sees that it is to stop.

    After a signal Python waits on where it waited; on AMQP that may be for 10 seconds.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._pulse: Any = None

    def include_if(self, parent: Any) -> bool:
        return parent.hub is not None

    def start(self, parent: Any) -> None:
        self._pulse = parent.hub.call_repeatedly(PULSE_SECONDS, parent.note_time)

    def stop(self, parent: Any) -> None:
        if self._pulse is not None:
            parent.hub.timer.cancel(self._pulse)
            self._pulse = None


app.steps["consumer"].update({BrokerStateStep, PulseStep})


@signals.worker_process_init.connect
def _open_in_child(**_: object) -> None:
    engine.start()


@signals.worker_process_shutdown.connect
def _close_in_child(**_: object) -> None:
    engine.stop()


@signals.worker_init.connect
def _refuse_what_can_not_work(sender: Any, **_: object) -> None:
    """End a start that can't succeed, with a sentence, before there are children to end."""
    settings = worker_settings()
    try:
        if _forks(sender):
            refuse_several_processes(settings, "take --pool threads")
        load_kinds(settings)
        asyncio.run(_try_store(settings))
    except StartRefused as error:
        raise SystemExit(str(error)) from error
    warn_of_unsigned_webhooks(settings)


@signals.celeryd_init.connect
@signals.setup_logging.connect
def _configure_logging(**_: object) -> None:
    settings = worker_settings()
    logs.configure(settings.log_level, settings.log_format)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


async def _try_store(settings: Settings) -> None:
    try:
        storage = await open_storage_of(settings)
    except StorageUnavailable:
        return  # It answered, and then it did not: the engine tries again.
    await storage.close()


def _forks(worker: Any) -> bool:
    """Whether the worker's own process only feeds its children."""
    pool = get_implementation(worker.pool_cls)
    return isinstance(pool, type) and issubclass(pool, PreforkPool)
