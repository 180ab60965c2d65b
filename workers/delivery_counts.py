"""Numbers of deliveries, by subscription: each process writes its own from time to time (docs/decisions/0022).

A number costs no write of its own. A process that is killed takes the numbers of the last seconds with it.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator

from zaqar_notify.clock import Clock, new_id
from zaqar_notify.delivery import InternalPost
from zaqar_notify.delivery.attempts import COUNTED_TOGETHER, Counts, counts_record
from zaqar_notify.delivery.records import PLAIN
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import QueueRef, Subscription
from zaqar_notify.storage.internal import counts_ref
from zaqar_notify.storage.planes import Storage

EVERY_SECONDS = 10.0
"""How long a number stays in memory alone, where a process has few subscriptions."""
MOST_AT_ONCE = 50
"""Subscriptions whose numbers are written in one second, at most."""
MOST_SUBSCRIPTIONS = 10_000
"""Whose numbers are in memory; beyond that the oldest ones are forgotten."""


class Tally:
    """The numbers of this process about one subscription."""

    __slots__ = ("counts", "has_changed", "queue", "subscription_id", "written_at", "written_id")

    def __init__(self, subscription: Subscription, counts: Counts) -> None:
        self.queue: QueueRef = subscription.queue
        self.subscription_id = subscription.id
        self.counts = counts
        self.has_changed = False
        self.written_at = time.monotonic()
        self.written_id: str | None = None
        """The message of the record that the next one replaces."""


class DeliveryCounts:
    def __init__(self, storage: Storage, *, clock: Clock, keep_seconds: int) -> None:
        self._storage = storage
        self._clock = clock
        self._keep_seconds = keep_seconds
        self._tallies: OrderedDict[str, Tally] = OrderedDict()
        """Those written longest ago first."""

    def of(self, subscription: Subscription) -> Counts:
        """The numbers, to be changed: they are written later."""
        tally = self._tallies.get(subscription.id)
        if tally is None:
            counts = Counts(PLAIN, new_id(), 0, self._clock.host_now())
            tally = self._tallies[subscription.id] = Tally(subscription, counts)
            if len(self._tallies) > MOST_SUBSCRIPTIONS:
                self._tallies.popitem(last=False)
        tally.has_changed = True
        return tally.counts

    def due(self) -> list[Tally]:
        """Those that are to be written now, and forget those that are over."""
        long_ago = time.monotonic() - EVERY_SECONDS
        return [each for each in self._changed() if each.written_at <= long_ago][:MOST_AT_ONCE]

    def all_changed(self) -> list[Tally]:
        return list(self._changed())

    async def write(self, tally: Tally) -> None:
        """Replace the record. Where the store gives no answer, a later call does so."""
        counts = tally.counts
        counts.serial += 1
        tally.has_changed = False
        tally.written_at = time.monotonic()
        self._tallies.move_to_end(tally.subscription_id)
        ref = counts_ref(tally.subscription_id)
        post = InternalPost(
            [counts_record(counts, keep_seconds=self._keep_seconds)], project=tally.queue.project
        )
        former = tally.written_id
        try:
            async with self._storage.at(tally.queue) as store:
                posted = await store.messages.post(ref, post, now=self._clock.now())
                tally.written_id = posted.ids[0]
                if former is not None:
                    await store.messages.delete_many(
                        ref, [former], claim_ids=None, now=self._clock.now()
                    )
        except StorageUnavailable:
            tally.has_changed = True

    def _changed(self) -> Iterator[Tally]:
        over = self._clock.host_now() - COUNTED_TOGETHER
        for tally in list(self._tallies.values()):
            if tally.has_changed:
                yield tally
            elif tally.counts.since <= over:
                del self._tallies[tally.subscription_id]
