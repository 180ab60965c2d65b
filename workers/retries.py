"""Decides how a delivery goes on after an attempt that failed: as a record to be stored."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from workers.disabling import Disabling
from workers.endpoints import LONGEST_DEFERRAL_SECONDS
from workers.giving_up import GivingUp
from workers.receivers import Receiver
from workers.recorder import Recorder
from workers.store import RetryingStore
from zaqar_notify.clock import Clock
from zaqar_notify.delivery import (
    InternalMessage,
    Outgoing,
    held_record,
    link_expires_at,
    parked_record,
    retry_record,
)
from zaqar_notify.delivery.kinds import Kinds
from zaqar_notify.models import Delivery, MessageType, Outcome, Subscription, Verdict
from zaqar_notify.rules.retry import Plan, applicable_plan, next_attempt_at
from zaqar_notify.rules.retry_policy import Bounds
from zaqar_notify.rules.schedules import Preset, Schedule
from zaqar_notify.settings import Settings


class Retries:
    def __init__(
        self,
        store: RetryingStore,
        disabling: Disabling,
        giving_up: GivingUp,
        recorder: Recorder,
        *,
        clock: Clock,
        kinds: Kinds,
        settings: Settings,
        random: Callable[[], float],
    ) -> None:
        self._store = store
        self._disabling = disabling
        self._giving_up = giving_up
        self._recorder = recorder
        self._clock = clock
        self._kinds = kinds
        self._settings = settings
        self._random = random

    async def after_failure(
        self,
        outcome: Outcome,
        delivery: Delivery,
        message: Outgoing,
        receiver: Receiver,
        *,
        was_suspect: bool,
    ) -> list[InternalMessage]:
        """The records after an attempt that failed: a retry, held where the receiver is gone, or undelivered."""
        subscription, attempt = receiver.subscription, delivery.attempt
        if outcome.verdict is Verdict.GONE:
            await self._disabling.gone(receiver, outcome)
            receiver.is_disabled = True
            return [self.held(message, subscription)]
        await self._disabling.failed(receiver, delivery, outcome)
        if receiver.is_disabled and message.kind is MessageType.NOTIFICATION:
            return [self.held(message, receiver.subscription)]
        delay = await self.delay_after(outcome, message, subscription, attempt)
        if delay is None:
            self._recorder.given_up(outcome, delivery)
            return await self._giving_up.records(
                message, subscription, outcome=outcome, attempts=attempt
            )
        self._recorder.failed(outcome, delivery, next_try_seconds=delay, is_suspect=was_suspect)
        return [self.retry(message, subscription, attempt + 1, delay)]

    async def postponed(
        self, messages: Sequence[Outgoing], receiver: Receiver, attempt: int, outcome: Outcome
    ) -> list[InternalMessage]:
        """They come back with their attempt unspent, unless it would be too late then."""
        subscription, now = receiver.subscription, self._clock.now()
        delay = max(1, outcome.retry_after_seconds or 0)
        are_over = await self.are_over(messages, subscription, now + timedelta(seconds=delay))
        if any(are_over):
            self._recorder.given_up_together(subscription, outcome.detail, count=sum(are_over))
        records: list[InternalMessage] = []
        for message, is_over in zip(messages, are_over, strict=True):
            if is_over:
                records += await self._giving_up.records(
                    message, subscription, outcome=outcome, attempts=attempt - 1
                )
            else:
                records.append(self.retry(message, subscription, attempt, delay))
        return records

    def deferred(
        self, messages: Sequence[Outgoing], receiver: Receiver, attempt: int
    ) -> list[InternalMessage]:
        """Messages that can't be tried soon come back at the receiver's pace, or are parked; no attempt is spent."""
        return [self._deferred_one(message, receiver, attempt) for message in messages]

    def held(self, message: Outgoing, subscription: Subscription) -> InternalMessage:
        return held_record(message, subscription, now=self._clock.now())

    async def plan(self, subscription: Subscription) -> Plan:
        def named(preset: Preset | None) -> Schedule:
            return self._kinds.schedule(
                subscription.subscriber, preset or self._settings.retry_default
            )

        queue = await self._store.queue(subscription.queue)
        metadata = {} if queue is None else queue.metadata
        return applicable_plan(subscription.options, metadata, named=named)

    def is_too_old(self, message: Outgoing, bounds: Bounds, at: datetime) -> bool:
        """Whether it will have been owed at `at` for as long as it may be: by the settings, or by the policy."""
        most = self._settings.delivery_max_age_seconds
        if bounds.max_age is not None:
            most = min(most, bounds.max_age)
        return message.since is not None and at >= message.since + timedelta(seconds=most)

    async def are_over(
        self, messages: Sequence[Outgoing], subscription: Subscription, at: datetime
    ) -> list[bool]:
        """For each message, whether a try at that instant would come too late."""
        bounds = (await self.plan(subscription)).bounds
        return [self._is_over(message, bounds, at) for message in messages]

    def _is_over(self, message: Outgoing, bounds: Bounds, at: datetime) -> bool:
        """Whether a try at that instant would come too late: it is too old, or its link has ended."""
        useless_at = link_expires_at(message)
        if useless_at is not None and at >= useless_at:
            return True
        return self.is_too_old(message, bounds, at)

    async def delay_after(
        self, outcome: Outcome, message: Outgoing, subscription: Subscription, attempt: int
    ) -> int | None:
        """Seconds until the next attempt, or None when there is to be none."""
        plan = await self.plan(subscription)
        now = self._clock.now()
        at = next_attempt_at(
            plan,
            attempt=attempt,
            outcome=outcome,
            now=now,
            jitter=self._settings.retry_jitter,
            random=self._random,
        )
        if at is None or self._is_over(message, plan.bounds, at):
            return None
        return round((at - now).total_seconds())

    def _deferred_one(self, message: Outgoing, receiver: Receiver, attempt: int) -> InternalMessage:
        subscription = receiver.subscription
        is_notification = message.kind is MessageType.NOTIFICATION
        is_parked = is_notification and subscription.replay_id is not None
        delay = None if is_parked else receiver.endpoint.book_turn(time.monotonic())
        if delay is None and is_notification:
            now = self._clock.now()
            return parked_record(message, subscription, attempt=attempt, due_at=now)
        delay = LONGEST_DEFERRAL_SECONDS if delay is None else delay
        return self.retry(message, subscription, attempt, delay)

    def retry(
        self, message: Outgoing, subscription: Subscription, attempt: int, delay: int
    ) -> InternalMessage:
        """The record of a delivery whose attempt of this number is due in `delay` seconds."""
        return retry_record(
            message, subscription, attempt=attempt, delay=delay, settings=self._settings
        )
