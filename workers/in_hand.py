"""Claimed messages of one internal queue: their leases, and the deletion of those that are finished."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial

import msgspec

from workers.slots import Spawn
from workers.store import Asked
from workers.taken import Taken
from zaqar_notify.clock import Clock
from zaqar_notify.errors import ClaimNotHeld, MessageIsClaimed, StorageUnavailable
from zaqar_notify.models import Claim, QueueRef
from zaqar_notify.rules.sharing import Budget
from zaqar_notify.storage.base import MessageStore

logger = logging.getLogger(__name__)

MAX_PER_DELETION = 200
FINISH_SECONDS = 0.01
ENOUGH_FINISHED = 16
"""Finished jobs are gathered for so long, or until there are so many: no task waits for their deletion.
If this process is killed before it, they are done once more."""


class _Lease(msgspec.Struct, eq=False):
    """Of one claim: until when, and how many of its messages are in hand, finished or not."""

    claim_id: str
    ends_at: datetime
    in_hand: int
    unfinished: int


class InHand:
    """The claimed messages of one internal queue, until they are deleted or given back."""

    def __init__(
        self,
        asked: Asked,
        ref: QueueRef,
        *,
        pool: str,
        clock: Clock,
        lease_seconds: int,
        most: int,
        bytes_in_hand: Budget,
        spawn: Spawn,
        freed: Callable[[], None],
    ) -> None:
        """`bytes_in_hand` may be shared with other queues; `freed` is called for each that goes."""
        self.pool = pool
        self.ref = ref
        self.jobs = Budget(most)
        self.bytes = bytes_in_hand
        self._asked = asked
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._spawn = spawn
        self._tell_freed = freed
        self._freed = asyncio.Event()
        self._leases: dict[str, _Lease] = {}
        """By claim; those that lapsed are not in it."""
        self._finished: list[Taken] = []
        self._is_enough_finished = asyncio.Event()
        self._is_deleting = False

    def add(self, claim: Claim, taken: Sequence[Taken]) -> None:
        """Count the messages of a claim as in hand."""
        self._leases[claim.id] = _Lease(claim.id, claim.expires_at, len(taken), len(taken))
        for each in taken:
            self.jobs.take(each.project)
            self.bytes.take(each.project, len(each.message.body))

    def full(self) -> frozenset[str]:
        """The projects that have their share."""
        return self.jobs.full() | self.bytes.full()

    async def down_to(self, count: int) -> None:
        """Wait until no more than so many are in hand."""
        while self.jobs.used > count:
            self._freed.clear()
            await self._freed.wait()

    def holds(self, claim_id: str, now: datetime) -> bool:
        """Whether its lease still runs. One that lapsed is not renewed any more."""
        lease = self._leases.get(claim_id)
        if lease is None:
            return False
        if now < lease.ends_at:
            return True
        self._lose(lease)
        return False

    def finish(self, taken: Taken) -> None:
        """Delete it soon, together with the others that are finished by then; not once its lease has lapsed."""
        if not self.holds(taken.claim_id, self._clock.now()):
            self.let_go(taken)
            return
        self._leases[taken.claim_id].unfinished -= 1
        self._finished.append(taken)
        if len(self._finished) >= ENOUGH_FINISHED:
            self._is_enough_finished.set()
        if not self._is_deleting:
            self._is_deleting = True
            self._spawn(self._delete_finished())

    def let_go(self, *batch: Taken) -> None:
        """Count these no longer; the lease of one that was not deleted lapses."""
        for taken in batch:
            self.jobs.give(taken.project)
            self.bytes.give(taken.project, len(taken.message.body))
            lease = self._leases.get(taken.claim_id)
            if lease is not None:
                lease.in_hand -= 1
                if not lease.in_hand:
                    del self._leases[taken.claim_id]
        self._freed.set()
        self._tell_freed()

    async def renew(self) -> None:
        """Prolong the leases that have lost a third of their length, all in one write.

        Raises:
            StorageUnavailable: Some may not be prolonged.
        """
        now = self._clock.now()
        soon = now + timedelta(seconds=self._lease_seconds * 2 / 3)
        due = [
            claim_id
            for claim_id, lease in list(self._leases.items())
            if lease.ends_at <= soon and self.holds(claim_id, now)
        ]
        if not due:
            return
        renewed = await self._asked.once(
            lambda store: store.claims.renew_many(
                self.ref, due, ttl=self._lease_seconds, grace=0, now=now
            )
        )
        for claim_id in due:
            lease = self._leases.get(claim_id)
            if lease is None:
                continue
            if claim_id in renewed:
                lease.ends_at = now + timedelta(seconds=self._lease_seconds)
            elif lease.unfinished:  # Otherwise it may have been deleted meanwhile.
                self._lose(lease)

    async def put_back(self, taken: Sequence[Taken]) -> None:
        """Release claims none of which was begun, uncounted.

        Raises:
            StorageUnavailable: They come back when their leases lapse.
        """
        try:
            for claim_id in {each.claim_id for each in taken}:
                await self._release(claim_id)
        finally:
            self.let_go(*taken)

    async def give_back(self) -> None:
        """Release all jobs in hand, uncounted: this worker stops.

        Raises:
            StorageUnavailable: Jobs that were not released come back when their leases lapse.
        """
        for claim_id in list(self._leases):
            await self._release(claim_id)
            del self._leases[claim_id]
        self.jobs = Budget(self.jobs.total)

    async def _release(self, claim_id: str) -> None:
        now = self._clock.now()
        await self._asked.once(
            lambda store: store.claims.release(self.ref, claim_id, now=now, counted=False)
        )

    def _lose(self, lease: _Lease) -> None:
        del self._leases[lease.claim_id]
        logger.warning(
            "A lease has lapsed; its jobs are repeated",
            extra={"action": "lease_lost", "queue": self.ref.name},
        )

    async def _delete_finished(self) -> None:
        try:
            while self._finished:
                with suppress(TimeoutError):
                    async with asyncio.timeout(FINISH_SECONDS):
                        await self._is_enough_finished.wait()
                self._is_enough_finished.clear()
                batch = self._finished[:MAX_PER_DELETION]
                del self._finished[:MAX_PER_DELETION]
                try:
                    await self._asked.until_answered(partial(self._delete, batch))
                except StorageUnavailable as error:  # When stopping, or its pool has gone.
                    logger.warning(
                        "Finished jobs could not be deleted; they are repeated",
                        extra={"action": "storage_unavailable", "error": str(error)},
                    )
                self.let_go(*batch)
        finally:
            self._is_deleting = False

    async def _delete(self, batch: Sequence[Taken], store: MessageStore) -> None:
        """Deletions that are asked for together are one write of the store."""
        await asyncio.gather(*(self._delete_one(taken, store) for taken in batch))

    async def _delete_one(self, taken: Taken, store: MessageStore) -> None:
        try:
            await store.messages.delete(
                self.ref, taken.message.id, claim_id=taken.claim_id, now=self._clock.now()
            )
        except (ClaimNotHeld, MessageIsClaimed):
            logger.warning(
                "A finished job belongs to another worker, which repeats it",
                extra={"action": "lease_lost", "queue": self.ref.name, "job": taken.message.id},
            )
