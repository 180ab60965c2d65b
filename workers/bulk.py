"""Bulk work: replays and redrives, step by step, at the pace that was asked for.

Each step may be repeated: what it stores has an idempotency key, and how far it is, is noted after it. So a worker that is
killed leaves a job that another one goes on with, and nothing is stored twice.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias

from workers.ledger import Ledger
from workers.outages import Stop
from workers.redriving import Redriving
from workers.replaying import Replaying
from workers.store import RetryingStore
from workers.taken import Taken, working_on
from zaqar_notify.clock import Clock
from zaqar_notify.delivery import BulkJob
from zaqar_notify.delivery import bulk as journal
from zaqar_notify.delivery.bulk import Bulk, Kind, State
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.settings import Settings
from zaqar_notify.storage.base import MessageStore
from zaqar_notify.storage.internal import DEFAULT_POOL

AT_ONCE = 100
"""Of one step at most."""
PUT_OFF_SECONDS = 30
"""How long a job waits for a store that gives no answer."""
NOTE_SECONDS = 1.0
"""How often it is noted how far a look has come that finds nothing to take; and whether it is to be cancelled."""
IDLE_SECONDS = 1.0
"""Until a step follows one that found nothing."""

Step: TypeAlias = Callable[[Bulk, int], Awaitable[Bulk]]
"""Does up to so many; the state after it."""


class BulkWork:
    def __init__(
        self,
        store: RetryingStore,
        ledger: Ledger,
        replaying: Replaying,
        redriving: Redriving,
        *,
        clock: Clock,
        settings: Settings,
        stop: Stop,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._steps: dict[Kind, Step] = {
            Kind.REPLAY: replaying.step,
            Kind.REDRIVE: redriving.step,
        }
        self._clock = clock
        self._settings = settings
        self._stop = stop

    async def run(self, taken: Taken, job: BulkJob) -> None:
        """Go on until it is over, or leave the rest to a later job."""
        with working_on([taken]):
            try:
                await self._begin(taken, job)
            except StorageUnavailable:
                if self._stop.is_set():
                    raise
                # The pool of a queue is away. Let go, the job would be claimed again and again, and be poison.
                await self._come_back(taken, job, delay=PUT_OFF_SECONDS)

    async def _begin(self, taken: Taken, job: BulkJob) -> None:
        find = partial(_find, job, self._clock)
        bulk, is_cancelled = await self._store.on(DEFAULT_POOL).until_answered(find)
        if bulk is None:
            # The request stores the job first: if its process died, there is nothing to do.
            if self._clock.now() < job.ordered_at + journal.REQUEST_LASTS:
                await self._come_back(taken, job, delay=1)
        elif not bulk.is_over:
            await self._go_on(taken, job, bulk, is_cancelled=is_cancelled)

    async def _go_on(self, taken: Taken, job: BulkJob, bulk: Bulk, *, is_cancelled: bool) -> None:
        noted, noted_at = bulk, time.monotonic()
        while taken.is_held(self._clock.now()):
            if self._stop.is_set():
                await self._come_back(taken, job, delay=0)
                return
            began, before = time.monotonic(), bulk
            if is_cancelled:
                bulk = bulk.ended(State.CANCELLED, self._clock.now())
            else:
                bulk = await self._steps[bulk.kind](bulk, min(AT_ONCE, bulk.per_second))
            if not taken.is_held(self._clock.now()):
                return
            if _has_progress(noted, bulk) or time.monotonic() >= noted_at + NOTE_SECONDS:
                note = partial(_note, bulk, self._clock)
                is_cancelled = await self._store.on(DEFAULT_POOL).until_answered(note)
                noted, noted_at = bulk, time.monotonic()
            if bulk.is_over:
                return
            paced = (bulk.moved - before.moved) / bulk.per_second
            wait = IDLE_SECONDS if bulk.seen == before.seen else paced - (time.monotonic() - began)
            await self._stop.pause(max(0.0, wait))

    async def _come_back(self, taken: Taken, job: BulkJob, *, delay: int) -> None:
        again = journal.again(job, self._settings, delay=delay)
        await self._ledger.write(taken.pool, [again], project=job.project)


def _has_progress(noted: Bulk, bulk: Bulk) -> bool:
    """Whether a worker that goes on from what was noted would do something once more."""
    done = bulk.moved != noted.moved or bulk.left != noted.left
    return done or bulk.is_over or noted.total is None


async def _find(job: BulkJob, clock: Clock, store: MessageStore) -> tuple[Bulk | None, bool]:
    return await journal.find(store, job.project, job.id, now=clock.now())


async def _note(bulk: Bulk, clock: Clock, store: MessageStore) -> bool:
    return await journal.note(store, bulk, now=clock.now())
