"""Puts the worker together: the storage, the sinks, the engine."""

from __future__ import annotations

from sinks.queue import Relay
from sinks.registry import Sinks
from workers.engine import Engine
from zaqar_notify.clock import Clock
from zaqar_notify.settings import Settings
from zaqar_notify.storage.base import Storage


def build_engine(storage: Storage, settings: Settings, clock: Clock, relay: Relay) -> Engine:
    """The delivery engine of this process.

    The caller awaits `engine.run()` and, to stop it, `engine.drain(…)`; that closes the sinks. The
    storage stays the caller's.
    """
    return Engine(storage, Sinks(settings, relay), clock=clock, settings=settings)
