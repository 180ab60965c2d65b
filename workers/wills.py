"""The wills of processes that held WebSockets: the subscriptions that are named there end."""

from __future__ import annotations

import logging

from workers.outages import Stop
from zaqar_notify.clock import Clock, new_id
from zaqar_notify.delivery.wills import Held, Times, read_will
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import Claim
from zaqar_notify.settings import Settings
from zaqar_notify.storage.internal import WILLS_REF
from zaqar_notify.storage.planes import Storage
from zaqar_notify.subscriptions import end_if_held

TURN = "wills"
MOST_EVERY_SECONDS = 2.0
AT_ONCE = 10

logger = logging.getLogger(__name__)


async def carry_out_regularly(
    storage: Storage, *, clock: Clock, settings: Settings, stop: Stop
) -> None:
    """Carry out the wills that are due, one process at a time, until the stop."""
    times = Times(settings.websocket_grace_seconds)
    every = min(MOST_EVERY_SECONDS, times.grace / 4)
    while not stop.is_set():
        try:
            if await storage.take_turn(TURN, seconds=every, now=clock.now()):
                while await carry_out(storage, clock=clock, times=times):
                    pass
        except StorageUnavailable as error:
            stop.outage.met(error)
        await stop.pause(every)


async def carry_out(storage: Storage, *, clock: Clock, times: Times) -> bool:
    """Carry out some wills that are due; whether there were any.

    A will that is found for the first time is left alone for a while: a process that was only cut off from the store
    replaces it.

    Raises:
        StorageUnavailable: No answer came.
    """
    claim = await storage.claims.create(
        WILLS_REF,
        claim_id=new_id(),
        ttl=times.doubted_for,
        grace=0,
        limit=AT_ONCE,
        now=clock.now(),
    )
    if claim is None:
        return False
    await _carry_out(storage, claim, clock)
    return True


async def _carry_out(storage: Storage, claim: Claim, clock: Clock) -> None:
    for message in claim.messages:
        if message.claim_count < 2:
            continue
        for held in read_will(message.body).held:
            if await end_if_held(storage, held, now=clock.now()):
                _log_end(held)
        # Under any claim, since that of this worker may be over: to end many subscriptions may take longer than the claim lasts.
        await storage.messages.delete_many(WILLS_REF, [message.id], claim_ids=None, now=clock.now())


def _log_end(held: Held) -> None:
    logger.info(
        "The client of a WebSocket did not come back; its subscription ends",
        extra={
            "action": "socket_subscription_ended",
            "project": held.project,
            "queue": held.queue,
            "connection_id": held.connection_id,
        },
    )
