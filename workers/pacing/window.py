"""The deliveries of a line that were read and have not begun, in order."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import NamedTuple

from msgspec.structs import replace

from workers.filtering import policy_of
from workers.pacing.lanes import lanes_of
from workers.pacing.line import READ_AT_ONCE, Line
from workers.receivers import Receivers
from workers.recorder import Recorder
from workers.sorting import Sorting
from workers.taken import Taken
from zaqar_notify.delivery import Outgoing, OwedDelivery, Replay, outgoing_messages
from zaqar_notify.delivery.subscribers import subscribed_queue
from zaqar_notify.models import Subscription
from zaqar_notify.rules.filter_policy import Candidate
from zaqar_notify.rules.pacing import Pace

MOST_BATCH_BYTES = 1 << 20
"""Of the payloads in one batch; a larger one goes alone."""

READ_AGAIN_SECONDS = 0.05
"""Between two reads that find nothing new, while requests are under way."""


class Ready(NamedTuple):
    """A delivery that has not begun, with the number of its next attempt."""

    taken: Taken
    message: Outgoing
    attempt: int
    lane: str | None


class Window:
    def __init__(
        self,
        line: Line,
        pace: Pace,
        replay: Replay,
        *,
        sorting: Sorting,
        receivers: Receivers,
        recorder: Recorder,
    ) -> None:
        self.line = line
        self.lanes: set[str] = set()
        """Those in which a request is under way, or keeps its place."""
        self._pace = pace
        self._replay = replay
        if pace.keeps_places:
            # No try of those behind others fell due while the receiver failed.
            self._replay = replace(replay, failed_at=None)
        self._sorting = sorting
        self._receivers = receivers
        self._recorder = recorder
        self._lane_of = lanes_of(pace)
        self._ready: dict[str, Ready] = {}
        """By the ids of their records, in order."""
        self._known: set[str] = set()
        """The ids of records in hand that were looked at."""
        self._read_again_at = 0.0

    @property
    def has_ready(self) -> bool:
        return bool(self._ready)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is in hand, nor being deleted."""
        return not self._ready and not self.line.in_hand

    async def read(self, subscription: Subscription, *, is_busy: bool) -> bool:
        """Read more, if there is little to begin with; whether there was more."""
        if time.monotonic() < self._read_again_at or not self.line.has_room:
            return False
        least = self._pace.batching.count if self._pace.batching else 1
        if len(self.startable(least)) >= least:
            return False
        records = await self.line.read(max(READ_AT_ONCE, least))
        new = [each for each in records if each.message.id not in self._known]
        self._known.intersection_update(self.line.in_hand)
        if not new:
            self._read_again_at = time.monotonic() + (READ_AGAIN_SECONDS if is_busy else 0.0)
            return False
        for ready in await self.live(new, subscription):
            self._ready[ready.taken.message.id] = ready
        ids = (each.message.id for each in records)
        self._ready = {each: self._ready[each] for each in ids if each in self._ready}
        return True

    async def has_missed_some(self) -> bool:
        """Whether there are deliveries on the queue that were not read."""
        return bool(await self.line.others_than(self._known))

    def startable(self, count: int) -> list[Ready]:
        """The first deliveries whose lanes are free, up to so many."""
        return list(islice((each for each in self._ready.values() if self._is_free(each)), count))

    def next_request(self, now: datetime) -> tuple[list[Ready], float | None]:
        """The deliveries of the next request; or in how many seconds a batch that is not full is sent, if one waits."""
        batching = self._pace.batching
        chosen = self.startable(batching.count if batching else 1)
        if batching is None or not chosen:
            return chosen, None
        fitting = _within_bytes(chosen)
        waits_until = chosen[0].taken.message.posted_at + timedelta(seconds=batching.seconds)
        is_full = len(chosen) == batching.count or len(fitting) < len(chosen)
        if is_full or now >= waits_until:
            return fitting, None
        return [], (waits_until - now).total_seconds()

    def take(self, chosen: Sequence[Ready]) -> None:
        """They begin."""
        for ready in chosen:
            del self._ready[ready.taken.message.id]

    def _is_free(self, ready: Ready) -> bool:
        return ready.lane is None or ready.lane not in self.lanes

    async def live(self, records: Sequence[Taken], subscription: Subscription) -> list[Ready]:
        """Those that are to be tried; the others are done with."""
        self._known.update(each.message.id for each in records)
        meant = [each for each in records if await self._is_meant(each, subscription)]
        live = await self._sorting.sort(meant, subscription, self._replay)
        return [
            Ready(taken, message, attempt, self._lane_of(message))
            for taken, message, attempt in live
        ]

    async def _is_meant(self, record: Taken, subscription: Subscription) -> bool:
        """Whether it is for this subscription: a post parks all its messages, and asks for nothing else."""
        work = record.work
        if work is None:
            await self._sorting.put_aside(record)
            return False
        if not isinstance(work, OwedDelivery) or work.due_at is not None:
            return True
        posted_at = work.posted_at or record.message.posted_at
        record.work = replace(work, since=work.since or record.due_at, posted_at=posted_at)
        if not self._receivers.may_notify(subscription) or subscribed_queue(
            subscription.subscriber
        ) in (work.queue, *work.visited):
            is_meant = False
        else:
            is_meant = self._passes(record.work, subscription)
        if not is_meant:
            with record:
                pass
        return is_meant

    def _passes(self, work: OwedDelivery, subscription: Subscription) -> bool:
        """Whether the subscription's filter policy lets it through."""
        recorder = self._recorder
        policy = policy_of(subscription, recorder)
        if policy is None:
            return True
        [message] = outgoing_messages(work)
        undecided = partial(recorder.filter_undecided, subscription, message)
        passes = policy.accepts(Candidate(message.message), undecided=undecided)
        recorder.filtered(subscription, accepted=int(passes), rejected=int(not passes))
        return passes


def _within_bytes(chosen: list[Ready]) -> list[Ready]:
    """Those at the beginning that one request may have together."""
    size = 0
    for number, ready in enumerate(chosen):
        size += len(ready.message.payload)
        if number and size > MOST_BATCH_BYTES:
            return chosen[:number]
    return chosen
