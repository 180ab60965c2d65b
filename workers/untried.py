"""Deliveries that are stored without an attempt, in the pool of their queue: deferred, held, given up, or cut short."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from workers.attempts import Batch
from workers.giving_up import GivingUp
from workers.ledger import Ledger
from workers.recorder import Recorder
from workers.retries import Retries
from zaqar_notify.clock import Clock
from zaqar_notify.delivery import (
    InternalMessage,
    Outgoing,
    parked_record,
    too_many_hops,
    undelivered_record,
)
from zaqar_notify.models import Outcome, QueueRef, Subscription, Verdict


class Untried:
    def __init__(
        self,
        retries: Retries,
        giving_up: GivingUp,
        ledger: Ledger,
        recorder: Recorder,
        *,
        clock: Clock,
    ) -> None:
        self._retries = retries
        self._giving_up = giving_up
        self._ledger = ledger
        self._recorder = recorder
        self._clock = clock

    async def defer(self, batches: Iterable[Batch]) -> None:
        """Write batches that can't start now to the retry queue, or park them; their attempt is unspent."""
        owed: dict[str, tuple[Subscription, list[InternalMessage]]] = {}
        now = self._clock.now()
        for batch in batches:
            if batch.taken.is_held(now):
                subscription = batch.receiver.subscription
                _, records = owed.setdefault(subscription.id, (subscription, []))
                records += self._retries.deferred(batch.messages, batch.receiver, batch.attempt)
        # Together, so that the store can write them together.
        await asyncio.gather(*(self._ledger.write_for(*each) for each in owed.values()))

    async def hold(self, messages: Iterable[Outgoing], subscription: Subscription) -> None:
        """Keep deliveries for a disabled subscription until they are replayed."""
        records = [self._retries.held(message, subscription) for message in messages]
        await self._ledger.write_for(subscription, records)

    async def park(
        self, messages: Iterable[Outgoing], subscription: Subscription, *, attempt: int = 1
    ) -> None:
        """Put deliveries on the own queue of a paced subscription, behind the others."""
        now = self._clock.now()
        await self._ledger.write_for(
            subscription,
            [
                parked_record(message, subscription, attempt=attempt, due_at=now)
                for message in messages
            ],
        )

    async def fetch_parked(self, subscription: Subscription) -> None:
        """Have deliveries that are parked already fetched."""
        await self._ledger.fetch_parked(subscription)

    async def forget(self, queue: QueueRef, subscription_id: str) -> None:
        """Drop deliveries that were parked for a subscription that is gone."""
        await self._ledger.forget(queue, subscription_id)

    async def give_up(
        self,
        given_up: Sequence[tuple[Outgoing, int]],
        subscription: Subscription,
        detail: str,
    ) -> None:
        """Record deliveries that are given up after so many attempts each; they are logged as one."""
        outcome = Outcome(Verdict.TRY_LATER, detail=detail)
        records: list[InternalMessage] = []
        for message, attempts in given_up:
            records += await self._giving_up.records(
                message, subscription, outcome=outcome, attempts=attempts
            )
        self._recorder.given_up_together(subscription, detail, count=len(given_up))
        await self._ledger.write_for(subscription, records)

    async def cut_short(self, message: Outgoing, subscription: Subscription) -> None:
        """Record that a job's messages go no further by queue subscriptions, once for all of them."""
        self._recorder.hops_exceeded(message, subscription)
        outcome = too_many_hops(message.hops)
        now = self._clock.now()
        record = undelivered_record(message, subscription, outcome=outcome, attempts=0, now=now)
        await self._ledger.write_for(subscription, [record])
