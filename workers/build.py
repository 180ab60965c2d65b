"""Puts the delivery engine together: the storage, the sinks, the engine. Knows nothing of Celery."""

from __future__ import annotations

from collections.abc import Sequence

from sinks.registry import Sinks
from workers.engine import Engine
from zaqar_notify import messages
from zaqar_notify.clock import Clock
from zaqar_notify.kinds import Kinds
from zaqar_notify.models import NewMessage, QueueRef
from zaqar_notify.service import Service
from zaqar_notify.settings import Settings
from zaqar_notify.storage.base import Storage


def build_engine(storage: Storage, settings: Settings, clock: Clock, kinds: Kinds) -> Engine:
    """The delivery engine of this process.

    The caller awaits `engine.run()` and, to stop it, `engine.drain(…)`; that closes the sinks. The
    storage stays the caller's.
    """

    async def relay(
        ref: QueueRef,
        message: NewMessage,
        *,
        origin: str,
        visited: Sequence[str],
        hops: int,
        request_id: str,
    ) -> None:
        await messages.relay(
            service,
            ref,
            message,
            origin=origin,
            visited=visited,
            hops=hops,
            request_id=request_id,
        )

    engine = Engine(storage, Sinks(kinds, settings, relay), clock=clock, settings=settings)
    # What is relayed is mostly delivered by the engine that relayed it.
    service = Service(storage=storage, settings=settings, clock=clock, doorbell=engine, kinds=kinds)
    return engine
