"""Trusts of users: those that no subscription uses any more are deleted in Keystone."""

from __future__ import annotations

from workers.outages import Stop
from zaqar_notify.clock import Clock
from zaqar_notify.delivery.trusts import Delegations
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.storage.planes import Storage

TURN = "trusts"
EVERY_SECONDS = 30


async def delete_regularly(
    delegations: Delegations | None, storage: Storage, *, clock: Clock, stop: Stop
) -> None:
    """Delete unused trusts, one process at a time, until the stop."""
    while delegations is not None and not stop.is_set():
        try:
            if await storage.take_turn(TURN, seconds=EVERY_SECONDS, now=clock.now()):
                await delegations.delete_unused()
        except StorageUnavailable as error:
            stop.outage.met(error)
        await stop.pause(EVERY_SECONDS)
