"""Moves of queues to other pools: each process of the engine carries out one at a time."""

from __future__ import annotations

import logging

from workers.outages import Stop
from zaqar_notify.clock import Clock
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.storage.internal import MOVES_REF
from zaqar_notify.storage.moving.runner import carry_out_next
from zaqar_notify.storage.planes import Storage

LOOK_SECONDS = 2.5

logger = logging.getLogger(__name__)


async def carry_out_regularly(storage: Storage, *, clock: Clock, stop: Stop) -> None:
    """Carry out the moves that are asked for, until the stop. While there are no pools, there is none."""
    while not stop.is_set():
        if not storage.open_pools.is_any:
            await stop.pause(LOOK_SECONDS)
            continue
        try:
            with storage.messages.watch(MOVES_REF, exclusive=True) as watch:
                while await carry_out_next(storage, clock):
                    if stop.is_set():
                        return
                await watch.changed(timeout_seconds=LOOK_SECONDS)
        except StorageUnavailable as error:
            stop.outage.met(error)
            await stop.pause(LOOK_SECONDS)
        except Exception as error:  # Outermost place: the move comes back when its lease lapses.
            facts = {"action": "job_failed"}
            logger.error("A defect met the move of a queue", extra=facts, exc_info=error)
            await stop.pause(LOOK_SECONDS)
