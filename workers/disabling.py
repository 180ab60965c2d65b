"""Disables subscriptions: their receiver is gone, or has only failed for too long.

What is known of failures is on the subscription itself, so it holds for all workers: `failing_since` is written
when an attempt is repeated and fails again (or the receiver is suspect), and taken away by the next success of any worker.
"""

from __future__ import annotations

from datetime import datetime

from msgspec.structs import replace

from workers.receivers import Receiver
from workers.recorder import Recorder
from workers.store import RetryingStore
from zaqar_notify.clock import Clock
from zaqar_notify.delivery.letters import disabled_notice
from zaqar_notify.metadata import NOTIFY_OF_DISABLING, named_queue
from zaqar_notify.models import Delivery, DisabledReason, Outcome, Subscription
from zaqar_notify.rules.states import disabled, is_failing_for
from zaqar_notify.settings import Settings


class Disabling:
    def __init__(
        self, store: RetryingStore, recorder: Recorder, *, clock: Clock, settings: Settings
    ) -> None:
        self._store = store
        self._recorder = recorder
        self._clock = clock
        self._settings = settings
        self._most_seconds = settings.disable_after_failing_seconds

    async def gone(self, receiver: Receiver, outcome: Outcome) -> None:
        """The receiver wants no more."""
        await self._disable(receiver, DisabledReason.GONE, outcome)

    async def failed(self, receiver: Receiver, delivery: Delivery, outcome: Outcome) -> None:
        """An attempt failed. The first failure of a delivery tells nothing yet, unless many others failed, too."""
        subscription, now = receiver.subscription, self._clock.now()
        if not self._most_seconds or (delivery.attempt == 1 and not receiver.endpoint.is_suspect):
            return
        if subscription.failing_since is None:
            await self._mark(receiver, now)
        elif is_failing_for(subscription, self._most_seconds, now):
            await self._disable(receiver, DisabledReason.FAILING, outcome)

    async def succeeded(self, receiver: Receiver) -> None:
        """The receiver took a delivery: the failures before count no more."""
        if receiver.subscription.failing_since is not None:
            await self._mark(receiver, None)

    async def _mark(self, receiver: Receiver, since: datetime | None) -> None:
        subscriber = receiver.subscription.subscriber

        def marked(current: Subscription) -> Subscription:
            is_same = current.subscriber == subscriber
            is_news = (current.failing_since is None) != (since is None)
            return replace(current, failing_since=since) if is_same and is_news else current

        after = await self._store.update_subscription(receiver.subscription, marked)
        if after is not None:
            receiver.knows(after)

    async def _disable(self, receiver: Receiver, reason: DisabledReason, outcome: Outcome) -> None:
        subscription, now = receiver.subscription, self._clock.now()
        detail = _detail(reason, outcome, subscription)
        is_news = False

        def changed(current: Subscription) -> Subscription:
            nonlocal is_news
            # Another receiver by now said nothing of the kind. Of several tries at once, one is told. Another worker
            # may have had a success meanwhile.
            is_news = (
                current.subscriber == subscription.subscriber
                and current.disabled_at is None
                and (
                    reason is DisabledReason.GONE
                    or is_failing_for(current, self._most_seconds, now)
                )
            )
            return disabled(current, reason, detail, now) if is_news else current

        receiver.knows(await self._store.subscription(subscription.queue, subscription.id))
        if receiver.is_disabled or receiver.is_over:
            return
        # First: a worker that dies in between leaves a notice that finds nothing disabled, and no disabled subscription
        # without its notice.
        await self._notify(disabled(subscription, reason, detail, now))
        after = await self._store.update_subscription(subscription, changed)
        if after is not None:
            receiver.knows(after)
            if is_news:
                self._recorder.disabled(after, outcome, receiver.failures)

    async def _notify(self, subscription: Subscription) -> None:
        """Leave the notice for the queue that the subscription or its queue names, if one does."""
        ref = subscription.queue
        target = named_queue(subscription.options, NOTIFY_OF_DISABLING)
        if target is None:
            queue = await self._store.queue(ref)
            target = named_queue({} if queue is None else queue.metadata, NOTIFY_OF_DISABLING)
        if target is not None:
            outbox, notice = disabled_notice(subscription, target, self._settings)
            await self._store.post(self._store.at(ref), outbox, [notice], project=ref.project)


def _detail(reason: DisabledReason, outcome: Outcome, subscription: Subscription) -> str:
    answer = outcome.detail or (f"status {outcome.status}" if outcome.status else "no answer")
    if reason is DisabledReason.GONE or subscription.failing_since is None:
        return answer
    since = subscription.failing_since.isoformat(timespec="seconds")
    return f"every attempt has failed since {since}; the last one: {answer}"
