"""Fan-out: the messages of jobs are offered to every subscription of their queue.

Subscriptions are read page by page. While a project has all slots that it may have and as many of its
batches wait as there are slots, no further one is looked at. So no more batches wait than jobs in hand
times slots, 150 bytes each.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence, Set
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeAlias

from workers.attempts import Batch
from workers.filtering import policy_of
from workers.receivers import Receivers
from workers.recorder import Recorder
from workers.slots import Slots
from workers.store import RetryingStore
from workers.taken import Taken, working_on
from workers.untried import Untried
from zaqar_notify.clock import Clock
from zaqar_notify.delivery import FanOut, Outgoing, outgoing_messages
from zaqar_notify.delivery.subscribers import subscribed_queue
from zaqar_notify.models import QueueRef, Subscription
from zaqar_notify.rules.filter_policy import Candidate, FilterPolicy
from zaqar_notify.rules.pacing import Pace, pace_of
from zaqar_notify.settings import Settings

SUBSCRIPTIONS_PER_PAGE = 100
BATCHES_PER_DEFERRAL = 64

LONG_SINCE = datetime(1970, 1, 1, tzinfo=UTC)

FILTERING_SECONDS = 0.005
"""Filter policies may take long over large bodies: after so much of it, other work has its turn."""

CLOCK_SKEW = timedelta(seconds=5)
"""A subscription made so much later than a post, by two processes' clocks, is surely later."""


class _Job:
    """A fan-out job in hand, with its messages ready to be sent."""

    __slots__ = ("_candidates", "_job", "_most_hops", "cut", "messages", "posted_by", "taken")

    def __init__(self, taken: Taken, job: FanOut, *, most_hops: int) -> None:
        self._job = job
        self._most_hops = most_hops
        self._candidates: list[tuple[Outgoing, Candidate]] = []
        self.cut: list[tuple[Outgoing, Subscription]] = []
        """Of the queue subscriptions that a further hop would have led to, the first, with its first message."""
        self.taken = taken
        posted_at = taken.message.posted_at
        self.messages = outgoing_messages(job, since=taken.due_at, posted_at=posted_at)
        self.posted_by = taken.message.posted_at + CLOCK_SKEW

    @property
    def due(self) -> dict[str, datetime]:
        """By id, when those of its messages were due that were posted with a delay.

        A job that was put aside and given back has none any more. Whether a purge came before its
        delayed messages were due can't be told then: they are taken for due long since.
        """
        is_delayed = self.taken.due_at > self.taken.message.posted_at
        at = self.taken.due_at if is_delayed else LONG_SINCE
        return {
            each.message_id: each.owed.not_before or at
            for each in self.messages
            if each.message.delay or each.owed.not_before
        }

    def is_parked_for(self, subscription: Subscription) -> bool:
        """Whether the post itself has parked its messages for this one."""
        return subscription.id in self._job.parked_for

    @property
    def parked_for(self) -> Sequence[str]:
        return self._job.parked_for

    def leave_out(self, ids: Set[str]) -> None:
        """Deliver nothing of these messages."""
        self.messages = [each for each in self.messages if each.message_id not in ids]

    @property
    def candidates(self) -> Sequence[tuple[Outgoing, Candidate]]:
        """The messages, as filter policies see them."""
        if not self._candidates:
            self._candidates = [(each, Candidate(each.message)) for each in self.messages]
        return self._candidates

    def may_cross(
        self, queue: str, subscription: Subscription, messages: Sequence[Outgoing]
    ) -> bool:
        """Whether these messages go on to this queue: not if they crossed it already, nor beyond the last hop."""
        if queue == self._job.queue or queue in self._job.visited:
            return False
        if self._job.hops < self._most_hops:
            return True
        self.cut = self.cut or [(messages[0], subscription)]
        return False


_Meant: TypeAlias = tuple[_Job, list[Outgoing]]


class FanOuts:
    def __init__(
        self,
        store: RetryingStore,
        receivers: Receivers,
        slots: Slots[Batch],
        untried: Untried,
        recorder: Recorder,
        *,
        clock: Clock,
        settings: Settings,
    ) -> None:
        self._store = store
        self._receivers = receivers
        self._slots = slots
        self._untried = untried
        self._recorder = recorder
        self._clock = clock
        self._most_hops = settings.delivery_max_hops
        self._pause_at = 0.0

    async def run(self, ref: QueueRef, batch: Sequence[tuple[Taken, FanOut]]) -> None:
        """Offer jobs of one queue to its subscriptions; they share one look at those."""
        with working_on(taken for taken, _ in batch):
            jobs = [_Job(taken, job, most_hops=self._most_hops) for taken, job in batch]
            await self._leave_out_cancelled(ref, jobs)
            jobs = [job for job in jobs if job.messages]
            unseen = {each for job in jobs for each in job.parked_for}
            async for page in self._store.subscriptions(ref, page_size=SUBSCRIPTIONS_PER_PAGE):
                turned_away: list[Batch] = []
                unseen.difference_update(subscription.id for subscription in page)
                for subscription in page:
                    turned_away += await self._offer(subscription, jobs)
                    if len(turned_away) >= BATCHES_PER_DEFERRAL:
                        await self._untried.defer(turned_away)
                        turned_away = []
                    await self._slots.room(ref.project)
                await self._untried.defer(turned_away)
            for job in jobs:
                for cut in job.cut if job.taken.is_held(self._clock.now()) else ():
                    await self._untried.cut_short(*cut)
            if unseen:
                await self._forget_gone(ref, unseen)

    async def _forget_gone(self, ref: QueueRef, unseen: Set[str]) -> None:
        """Drop what a post has parked for subscriptions that are gone."""
        for subscription_id in unseen:
            if await self._store.subscription(ref, subscription_id) is None:
                await self._untried.forget(ref, subscription_id)
        await self._store.settle_ordered(ref)

    async def _leave_out_cancelled(self, ref: QueueRef, jobs: Sequence[_Job]) -> None:
        """Leave out the messages that were deleted before they were due."""
        for job in jobs:
            due = job.due
            if due and (cancelled := await self._store.cancelled(ref, due)):
                job.leave_out(cancelled)
                self._recorder.cancelled(ref, len(cancelled))

    async def _offer(self, subscription: Subscription, jobs: Sequence[_Job]) -> list[Batch]:
        """Have those of the jobs tried for which there are slots; return the rest."""
        if any(job.is_parked_for(subscription) for job in jobs):
            await self._untried.fetch_parked(subscription)
            jobs = [job for job in jobs if not job.is_parked_for(subscription)]
        if not self._receivers.may_notify(subscription):
            return []
        meant = await self._meant_for(subscription, jobs)
        pace = pace_of(subscription.options)
        if pace is not None or subscription.disabled_at is not None:
            if meant:
                await self._keep(meant, subscription, pace)
            return []
        receiver = self._receivers.of(subscription)
        batches = (Batch(receiver, messages, 1, job.taken) for job, messages in meant)
        return [batch for batch in batches if not self._slots.offer(batch)]

    async def _meant_for(self, subscription: Subscription, jobs: Sequence[_Job]) -> list[_Meant]:
        """The jobs with messages for the subscription: those after it was made that its filter lets pass."""
        now = self._clock.now()
        # An instant ahead of the clock: it was made before the clock was put back.
        since = (
            LONG_SINCE if subscription.created_at > now + CLOCK_SKEW else subscription.created_at
        )
        queue = subscribed_queue(subscription.subscriber)
        policy = policy_of(subscription, self._recorder)
        meant: list[_Meant] = []
        for job in jobs:
            if since > job.posted_by or not job.taken.is_held(now):
                continue
            messages = job.messages
            if policy is not None:
                messages = await self._passing(job, policy, subscription)
            if messages and (queue is None or job.may_cross(queue, subscription, messages)):
                meant.append((job, messages))
        return meant

    async def _keep(
        self, meant: Sequence[_Meant], subscription: Subscription, pace: Pace | None
    ) -> None:
        """Store the messages for a subscription whose deliveries are held, or fetched at a pace."""
        owed = [message for _, messages in meant for message in messages]
        if pace is None:
            await self._untried.hold(owed, subscription)
            return
        await self._untried.park(owed, subscription)
        if pace.is_ordered and not all(job.due for job, _ in meant):
            # The post did not know of it: a process ended before it had told the queue's head.
            await self._store.settle_ordered(subscription.queue)

    async def _passing(
        self, job: _Job, policy: FilterPolicy, subscription: Subscription
    ) -> list[Outgoing]:
        """The job's messages that the subscription gets. Other work goes on now and then."""
        passing = []
        for message, candidate in job.candidates:
            undecided = partial(self._recorder.filter_undecided, subscription, message)
            if policy.accepts(candidate, undecided=undecided):
                passing.append(message)
            if time.monotonic() >= self._pause_at:
                await asyncio.sleep(0)
                self._pause_at = time.monotonic() + FILTERING_SECONDS
        rejected = len(job.messages) - len(passing)
        self._recorder.filtered(subscription, accepted=len(passing), rejected=rejected)
        return passing
