"""The delivery log: every attempt that failed, and others as the operator wishes (docs/decisions/0022).

Attempts that failed are written beside the records of what is owed. Others wait in memory and are written
together, each second. No delivery waits for the log, or fails with it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import TypeVar

import msgspec

from workers.delivery_counts import MOST_SUBSCRIPTIONS, DeliveryCounts
from zaqar_notify.clock import Clock, new_id
from zaqar_notify.delivery import InternalMessage, InternalPost
from zaqar_notify.delivery.attempts import (
    GROUPS_KEPT,
    MOST_TEXT,
    Attempt,
    State,
    attempt_records,
    read_attempts,
    state_after,
)
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import Delivery, Message, Outcome, Subscription, Verdict
from zaqar_notify.settings import Settings
from zaqar_notify.storage.internal import attempts_ref
from zaqar_notify.storage.planes import Storage

logger = logging.getLogger(__name__)

T = TypeVar("T")

EVERY_SECONDS = 1.0
MANY_WAITING = 2_000
"""So many attempts are written before the second is over."""
MOST_WAITING = 10_000
"""Attempts in memory that wait for the store; further ones are left out."""
SUBSCRIPTIONS_TOGETHER = 32
"""How many subscriptions' records are written at once."""
LAST_SECONDS = 2.0
"""How long a process that stops writes what is left."""
TRIMMED_EVERY = 50
"""A subscription's records are counted when a process has written so many, and with its first one."""


class Waiting(msgspec.Struct):
    """Attempts at one subscription that are to be written."""

    subscription: Subscription
    attempts: list[Attempt]


class DeliveryLog:
    def __init__(
        self, storage: Storage, counts: DeliveryCounts, *, clock: Clock, settings: Settings
    ) -> None:
        self.worker = new_id()[:8]
        """Names this process in the log. It says nothing of the operator's hosts."""
        self._storage = storage
        self._counts = counts
        self._clock = clock
        self._keeps_all = settings.delivery_log == "all"
        self._keep_seconds = settings.delivery_log_seconds
        self._waiting: dict[str, Waiting] = {}
        self._waiting_attempts = 0
        self._are_many = asyncio.Event()
        self._written: Counter[str] = Counter()
        """Records by subscription, since they were counted last."""
        self._to_trim: dict[str, Subscription] = {}

    def delivered(
        self, delivery: Delivery, outcome: Outcome, *, seconds: float, is_repeated: bool
    ) -> list[Attempt]:
        """An attempt succeeded. The end of a delivery that failed before is always kept.

        Args:
            is_repeated: It may have failed before, although this attempt is the first one that is counted.

        Returns:
            The entry, if it says more than the log has: for `write`, or for `keep`.
        """
        counts = self._counts.of(delivery.subscription)
        counts.delivered += 1
        counts.last_delivered_at = delivery.sent_at
        counts.note_duration(1000 * seconds)
        has_failed = delivery.attempt > 1 or is_repeated
        if not has_failed and not self._keeps_all:
            return []
        attempt = self._attempt(delivery, outcome, State.DELIVERED, seconds=seconds)
        if has_failed:
            return [attempt]
        self.keep(delivery.subscription, [attempt])
        return []

    def failed(
        self, delivery: Delivery, outcome: Outcome, record: InternalMessage, *, seconds: float
    ) -> Attempt:
        """The entry of an attempt that failed or was postponed, for `write`. `record` is that of the delivery."""
        counts = self._counts.of(delivery.subscription)
        if outcome.verdict is Verdict.POSTPONED:
            counts.postponed += 1
        else:
            counts.failed += 1
            counts.note_duration(1000 * seconds)
        state = state_after(record)
        next_at = None
        if state is State.RETRYING:
            next_at = self._clock.host_now() + timedelta(seconds=record[1].delay)
        return self._attempt(delivery, outcome, state, seconds=seconds, next_at=next_at)

    @asynccontextmanager
    async def writing(
        self, subscription: Subscription, attempts: Sequence[Attempt]
    ) -> AsyncIterator[None]:
        """Store the attempts beside the writes inside, so that the store can write all together."""
        if not attempts:
            yield
            return
        written = asyncio.ensure_future(self.write(subscription, attempts))
        try:
            yield
        finally:
            await written

    async def write(self, subscription: Subscription, attempts: Sequence[Attempt]) -> None:
        """Store the attempts. Where the store gives no answer, they wait for it in memory."""
        try:
            await self._post(subscription, attempts)
        except StorageUnavailable:
            self.keep(subscription, attempts)

    async def keep_writing(self) -> None:
        """Write what waits, until it is cancelled; then what is left."""
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(EVERY_SECONDS):
                        await self._are_many.wait()
                await self._safely(self._write_due)
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_SECONDS):
                    await self._safely(self.write_all)

    async def write_all(self) -> None:
        """Write all that waits, and all numbers."""
        await self._write_waiting()
        await _in_portions(self._counts.write, self._counts.all_changed())

    async def _safely(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception:  # A defect here costs lines of the log, and stops no delivery.
            logger.exception(
                "The delivery log could not be written", extra={"action": "delivery_log_failed"}
            )

    async def _write_due(self) -> None:
        await self._write_waiting()
        await _in_portions(self._counts.write, self._counts.due())
        to_trim, self._to_trim = self._to_trim, {}
        await _in_portions(self._trim, list(to_trim.values()))

    async def _write_waiting(self) -> None:
        waiting, self._waiting = self._waiting, {}
        self._waiting_attempts = 0
        self._are_many.clear()
        await _in_portions(
            lambda each: self.write(each.subscription, each.attempts), list(waiting.values())
        )

    def keep(self, subscription: Subscription, attempts: Sequence[Attempt]) -> None:
        """Have these attempts written within a second, together with others."""
        if not attempts:
            return
        if self._waiting_attempts + len(attempts) > MOST_WAITING:
            self._counts.of(subscription).left_out += len(attempts)
            return
        waiting = self._waiting.get(subscription.id)
        if waiting is None:
            waiting = self._waiting[subscription.id] = Waiting(subscription, [])
        waiting.attempts += attempts
        self._waiting_attempts += len(attempts)
        if self._waiting_attempts >= MANY_WAITING:
            self._are_many.set()

    async def _post(self, subscription: Subscription, attempts: Sequence[Attempt]) -> None:
        queue = subscription.queue
        records = attempt_records(attempts, project=queue.project, keep_seconds=self._keep_seconds)
        async with self._storage.at(queue) as store:
            await store.messages.post(
                attempts_ref(subscription.id),
                InternalPost(records, project=queue.project),
                now=self._clock.now(),
            )
        written = self._written[subscription.id] + len(records)
        if subscription.id not in self._written or written >= TRIMMED_EVERY:
            self._to_trim[subscription.id] = subscription
            written = 0
            if len(self._written) > MOST_SUBSCRIPTIONS:
                self._written.clear()
        self._written[subscription.id] = written

    async def _trim(self, subscription: Subscription) -> None:
        """Leave out the oldest records where the subscription has more than it may."""
        ref = attempts_ref(subscription.id)
        now = self._clock.now()
        with suppress(StorageUnavailable):
            async with self._storage.at(subscription.queue) as store:
                surplus = (await store.messages.stats(ref, now=now)).total - GROUPS_KEPT
                if surplus <= 0:
                    return
                page = await store.messages.page(ref, marker=None, limit=surplus, now=now)
                ids = [message.id for message in page.messages]
                if not ids:  # They can't be decrypted now.
                    return
                await store.messages.delete_many(ref, ids, claim_ids=None, now=now)
                self._counts.of(subscription).left_out += sum(
                    _size(message, subscription.queue.project) for message in page.messages
                )

    def _attempt(
        self,
        delivery: Delivery,
        outcome: Outcome,
        state: State,
        *,
        seconds: float,
        next_at: datetime | None = None,
    ) -> Attempt:
        return Attempt(
            delivery_id=delivery.id,
            message_id=delivery.message_id,
            number=delivery.attempt,
            at=delivery.sent_at,
            verdict=outcome.verdict,
            state=state,
            milliseconds=round(1000 * seconds),
            bytes=len(delivery.payload),
            worker=self.worker,
            status=outcome.status,
            detail=outcome.detail[:MOST_TEXT],
            excerpt=outcome.excerpt[:MOST_TEXT],
            next_at=next_at,
            kind=delivery.kind,
            request_id=delivery.request_id,
        )


def _size(message: Message, project: str) -> int:
    try:
        return len(read_attempts(message.body, project))
    except ValueError:  # Damaged, or of a later release.
        return 0


async def _in_portions(work: Callable[[T], Awaitable[None]], items: Sequence[T]) -> None:
    for start in range(0, len(items), SUBSCRIPTIONS_TOGETHER):
        await asyncio.gather(*map(work, items[start : start + SUBSCRIPTIONS_TOGETHER]))
