"""Whether this process and its store work.

A request for the health starts a probe of each store, with writes of its own, at most every
`PROBE_SECONDS`, and a count of its messages. The answer is the result of the last ones.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
import uuid
from collections.abc import Awaitable, Mapping
from types import MappingProxyType

import msgspec

from zaqar_notify.clock import Clock, new_id
from zaqar_notify.delivery import InternalPost
from zaqar_notify.errors import NotifyError, StorageUnavailable
from zaqar_notify.models import NewMessage, QueueRef, QueueStats
from zaqar_notify.readiness import Readiness
from zaqar_notify.storage.base import MessageStore
from zaqar_notify.storage.internal import DEFAULT_POOL, probe_ref
from zaqar_notify.storage.planes import Storage

PROBE_SECONDS = 10.0
"""Pause between two probes, at least."""

STALE_SECONDS = 60.0
"""After this time the results of a probe are of no use."""

OPERATION_SECONDS = 10.0
"""After which an operation has failed."""

PROBE_TTL_SECONDS = 60
"""Life of a probe's messages and claim, so that a broken-off probe leaves nothing for long."""

COUNT_SECONDS = 60.0
"""After which a count of the messages is given up."""
PAUSE_PER_COUNT = 20
"""The pause between two counts is so many times as long as the last one took, at least."""

LOG_PAUSE_SECONDS = 1.0
"""Between records of a store that fails: with a full disk each write is one more."""

NO_FACTS: Mapping[str, object] = MappingProxyType({})

logger = logging.getLogger(__name__)


class ProbeResult(msgspec.Struct, frozen=True):
    """How one operation went. `ref` is found in the log beside the failure."""

    succeeded: bool
    seconds: float
    ref: str | None


class OutageLog:
    """The log records of a failing store; clients do not see the reason."""

    def __init__(self) -> None:
        self.is_on = False
        self._noted_at = -math.inf

    def note(self, error: StorageUnavailable, facts: Mapping[str, object] = NO_FACTS) -> None:
        """The store failed; `facts` are those of the request."""
        now = time.monotonic()
        if now < self._noted_at + LOG_PAUSE_SECONDS:
            return
        self._noted_at = now
        self.is_on = True
        logger.warning(
            "The store is unavailable",
            extra={"action": "storage_unavailable", "error": str(error), **facts},
        )

    def note_end(self, facts: Mapping[str, object] = NO_FACTS) -> None:
        """The store took a write."""
        if self.is_on:
            self.is_on = False
            logger.warning(
                "The store answers again", extra={"action": "storage_available", **facts}
            )


class StoreReport(msgspec.Struct, frozen=True):
    """How one store is doing. `volume` is None until the messages were counted."""

    is_reachable: bool
    operations: Mapping[str, ProbeResult]
    volume: QueueStats | None


class Health:
    """Of one process. `is_draining` is set once it is about to stop."""

    def __init__(self) -> None:
        self.is_draining = False
        self.outage = OutageLog()
        self.readiness = Readiness()
        self._trials: dict[str, _Trial] = {}

    async def reports(self, storage: Storage, clock: Clock) -> dict[str, StoreReport]:
        """Of the store of each pool, by its name; the default pool first."""
        pools = [DEFAULT_POOL, *sorted(storage.open_pools.registered.pools)]
        self._trials = {pool: self._trials.get(pool) or _Trial() for pool in pools}
        reports = await asyncio.gather(*(self._report(storage, pool, clock) for pool in pools))
        return dict(zip(pools, reports, strict=True))

    async def is_catalog_reachable(self, storage: Storage) -> bool:
        """Whether the control store answers."""
        try:
            async with asyncio.timeout(OPERATION_SECONDS):
                await storage.control.ping()
        except (StorageUnavailable, TimeoutError):
            return False
        return True

    async def _report(self, storage: Storage, pool: str, clock: Clock) -> StoreReport:
        if pool not in storage.pools:
            return StoreReport(False, {}, None)
        trial = self._trials[pool]
        await trial.renew(storage.pools[pool], clock)
        is_able = pool != DEFAULT_POOL or await self.readiness.is_able(storage)
        return StoreReport(is_able, trial.operations, trial.volume)


class _Trial:
    """The last results of trying out one store, and of counting its messages."""

    def __init__(self) -> None:
        self.operations: Mapping[str, ProbeResult] = {}
        self.volume: QueueStats | None = None
        self._queue = probe_ref(new_id())
        self._probed_at = self._counted_at = -math.inf
        self._count_again_at = -math.inf
        self._probing: asyncio.Task[None] | None = None
        self._counting: asyncio.Task[None] | None = None

    async def renew(self, store: MessageStore, clock: Clock) -> None:
        """Begin what is due. The caller waits for it only when there is no result yet or the last one is from long ago."""
        now = time.monotonic()
        if self._probing is None and now >= self._probed_at + PROBE_SECONDS:
            self._probing = asyncio.create_task(self._probe(store, clock))
        if self._counting is None and now >= self._count_again_at:
            self._counting = asyncio.create_task(self._count(store, clock))
        awaited = [
            task
            for task, done_at in (
                (self._probing, self._probed_at),
                (self._counting, self._counted_at),
            )
            if task is not None and now >= done_at + STALE_SECONDS
        ]
        if awaited:
            await asyncio.wait(awaited, timeout=OPERATION_SECONDS)

    async def _probe(self, store: MessageStore, clock: Clock) -> None:
        try:
            self.operations = await probe(store, self._queue, clock)
        finally:
            self._probed_at = time.monotonic()
            self._probing = None

    async def _count(self, store: MessageStore, clock: Clock) -> None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(COUNT_SECONDS):
                self.volume = await store.volume(now=clock.now())
        except (NotifyError, TimeoutError):
            self.volume = None
        finally:
            self._counted_at = time.monotonic()
            pause = max(PROBE_SECONDS, PAUSE_PER_COUNT * (self._counted_at - began))
            self._count_again_at = self._counted_at + pause
            self._counting = None


async def probe(store: MessageStore, queue: QueueRef, clock: Clock) -> dict[str, ProbeResult]:
    """Try each operation on a queue of our own; the first that fails is the last of them."""
    now = clock.now()
    results: dict[str, ProbeResult] = {}
    claim_id = new_id()
    messages = [NewMessage(b"{}", PROBE_TTL_SECONDS), NewMessage(b"{}", PROBE_TTL_SECONDS)]

    async def claim() -> None:
        await store.claims.create(
            queue, claim_id=claim_id, ttl=PROBE_TTL_SECONDS, grace=0, limit=1, now=now
        )

    async def delete_all() -> None:
        page = await store.messages.page(queue, marker=None, limit=2, now=now)
        ids = [message.id for message in page.messages]
        await store.messages.delete_many(queue, ids, claim_ids=None, now=now)

    async def step(name: str, work: Awaitable[object]) -> None:
        results[name] = await _timed(name, work)
        if not results[name].succeeded:
            raise _Failed

    try:
        await step("create_queue", store.heads.put(queue, {}, revision=1, subscribed_until=None))
        await step("post_messages", store.messages.post(queue, InternalPost(messages), now=now))
        await step("claim_messages", claim())
        await step("list_messages", store.messages.page(queue, marker=None, limit=2, now=now))
        await step("delete_claim", store.claims.release(queue, claim_id, now=now))
        await step("delete_messages", store.messages.pop(queue, limit=1, now=now))
        await step("bulk_delete_messages", delete_all())
        await step("delete_queue", store.heads.drop_internal([queue]))
    except _Failed:
        return results
    return results


class _Failed(Exception):
    """Ends a probe."""


async def _timed(name: str, work: Awaitable[object]) -> ProbeResult:
    began = time.monotonic()
    ref = None
    try:
        async with asyncio.timeout(OPERATION_SECONDS):
            await work
    except (NotifyError, TimeoutError) as error:
        ref = str(uuid.uuid4())
        logger.error(
            "The store failed when it was tried out",
            extra={"action": "probe_failed", "operation": name, "ref": ref, "error": str(error)},
        )
    return ProbeResult(ref is None, round(time.monotonic() - began, 6), ref)
