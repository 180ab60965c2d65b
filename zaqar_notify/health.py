"""Whether this process and its store work.

A request for the health starts a probe of the store, with writes of its own, at most every
`PROBE_SECONDS`. The answer is the result of the last probe.
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
from zaqar_notify.models import NewMessage, QueueRef
from zaqar_notify.readiness import Readiness
from zaqar_notify.storage.internal import probe_ref
from zaqar_notify.storage.planes import Storage

PROBE_SECONDS = 10.0
"""Pause between two probes, at least."""

STALE_SECONDS = 60.0
"""After this time the results of a probe are of no use."""

OPERATION_SECONDS = 10.0
"""After which an operation has failed."""

PROBE_TTL_SECONDS = 60
"""Life of a probe's messages and claim, so that a broken-off probe leaves nothing for long."""

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


class Health:
    """Of one process. `is_draining` is set once it is about to stop."""

    def __init__(self) -> None:
        self.is_draining = False
        self.outage = OutageLog()
        self.readiness = Readiness()
        self._queue = probe_ref(new_id())
        self._operations: dict[str, ProbeResult] = {}
        self._probed_at = -math.inf
        self._probing: asyncio.Task[None] | None = None

    async def operations(self, storage: Storage, clock: Clock) -> dict[str, ProbeResult]:
        """The results of the last probe, by the contract's names.

        The caller waits for a probe only when there is none yet or the last one was long ago.
        """
        age = time.monotonic() - self._probed_at
        if self._probing is None and age >= PROBE_SECONDS:
            self._probing = asyncio.create_task(self._probe(storage, clock))
        if self._probing is not None and age >= STALE_SECONDS:
            await asyncio.shield(self._probing)
        return self._operations

    async def _probe(self, storage: Storage, clock: Clock) -> None:
        try:
            self._operations = await probe(storage, self._queue, clock)
        finally:
            self._probed_at = time.monotonic()
            self._probing = None


async def probe(storage: Storage, queue: QueueRef, clock: Clock) -> dict[str, ProbeResult]:
    """Try each operation on a queue of our own; the first that fails is the last of them."""
    now = clock.now()
    results: dict[str, ProbeResult] = {}
    claim_id = new_id()
    messages = [NewMessage(b"{}", PROBE_TTL_SECONDS), NewMessage(b"{}", PROBE_TTL_SECONDS)]

    async def claim() -> None:
        await storage.claim(
            queue, claim_id=claim_id, ttl=PROBE_TTL_SECONDS, grace=0, limit=1, now=now
        )

    async def delete_all() -> None:
        page = await storage.messages.page(queue, marker=None, limit=2, now=now)
        ids = [message.id for message in page.messages]
        await storage.messages.delete_many(queue, ids, claim_ids=None, now=now)

    async def step(name: str, work: Awaitable[object]) -> None:
        results[name] = await _timed(name, work)
        if not results[name].succeeded:
            raise _Failed

    try:
        await step("create_queue", storage.heads.put(queue, {}, revision=1, subscribed_until=None))
        posted = storage.post(queue, InternalPost(messages), now=now)
        await step("post_messages", posted)
        await step("claim_messages", claim())
        await step("list_messages", storage.messages.page(queue, marker=None, limit=2, now=now))
        await step("delete_claim", storage.claims.release(queue, claim_id, now=now))
        popped = storage.messages.pop(queue, limit=1, now=now)
        await step("delete_messages", popped)
        await step("bulk_delete_messages", delete_all())
        await step("delete_queue", storage.heads.drop_internal([queue]))
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
