"""Leftovers on the own queues of a subscription that is gone.

These queues are removed with the subscription. But a worker may write to them at the same time. It
then checks whether the subscription still exists, and it may die before the check. So a periodic
duty looks through these queues, but not through those of the delivery log: its records expire by themselves.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable

from workers.outages import Stop
from zaqar_notify.clock import Clock
from zaqar_notify.delivery import OwedDelivery, Undelivered, read_undelivered, read_work
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.base import MessageStore
from zaqar_notify.storage.internal import (
    PREFIXES_OF_DELIVERIES,
    UNDELIVERED_PREFIX,
    internal_ref,
)
from zaqar_notify.storage.planes import Storage

TURN = "leftovers"
EVERY_SECONDS = 3600

LISTED_AT_ONCE = 100
PAUSE = 9
"""After each look at some queues, so many times as long as it took: others have work, too."""

Forget = Callable[[QueueRef, str], Awaitable[None]]
"""Empties the own queues of a subscription, given its queue and its id."""


async def remove_regularly(storage: Storage, forget: Forget, *, clock: Clock, stop: Stop) -> None:
    """Remove leftovers each hour, until the stop."""
    while not stop.is_set():
        try:
            if await storage.take_turn(TURN, seconds=EVERY_SECONDS, now=clock.now()):
                await remove(storage, forget, clock=clock, stop=stop)
        except StorageUnavailable as error:
            stop.outage.met(error)
        await stop.pause(EVERY_SECONDS)


async def remove(storage: Storage, forget: Forget, *, clock: Clock, stop: Stop) -> None:
    """Look through the own queues of all subscriptions, and empty those whose subscription is gone.

    Raises:
        StorageUnavailable: No answer came.
    """
    for prefix in PREFIXES_OF_DELIVERIES:
        for pool, store in storage.pools.items():
            with storage.pools.tolerated(pool):
                async for name in _names(store, prefix, stop):
                    await _remove_if_left(storage, store, prefix, name, forget, clock=clock)


async def _remove_if_left(
    storage: Storage, store: MessageStore, prefix: str, name: str, forget: Forget, *, clock: Clock
) -> None:
    owner = await _owner(store, name, clock)
    subscription_id = name.removeprefix(prefix)
    if owner is None:
        return
    if await storage.subscriptions.get(owner, subscription_id, now=clock.now()) is None:
        await forget(owner, subscription_id)


async def _names(store: MessageStore, prefix: str, stop: Stop) -> AsyncIterator[str]:
    """The names of internal queues that begin so."""
    marker = prefix
    while not stop.is_set():
        began = time.monotonic()
        following = await store.heads.internal(after=marker, limit=LISTED_AT_ONCE)
        names = [name for name in following if name.startswith(prefix)]
        for name in names:
            yield name
        if len(names) < LISTED_AT_ONCE:
            return
        marker = names[-1]
        await stop.pause(PAUSE * (time.monotonic() - began))


async def _owner(store: MessageStore, name: str, clock: Clock) -> QueueRef | None:
    """Of which queue the subscription is, as the first record says; None: there is none to read."""
    page = await store.messages.page(
        internal_ref(name),
        marker=None,
        limit=1,
        now=clock.now(),
        include_claimed=True,
        include_delayed=True,
    )
    read = read_undelivered if name.startswith(UNDELIVERED_PREFIX) else read_work
    for message in page.messages:
        try:
            record = read(message.body)
        except ValueError:  # Damaged, or of a later release.
            return None
        if isinstance(record, OwedDelivery | Undelivered):
            return QueueRef(record.project, record.queue)
    return None
