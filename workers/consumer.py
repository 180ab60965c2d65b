"""One internal queue, consumed under leases: what is in hand, and giving it back or finishing it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import TypeAlias

import msgspec

from workers.insist import Stop, insist
from workers.sharing import Budget
from zaqar_notify.clock import Clock, new_id
from zaqar_notify.delivery import OWED_TTL_SECONDS, Work, WrittenLater, read_work
from zaqar_notify.errors import (
    ClaimNotHeld,
    MessageIsClaimed,
    StorageUnavailable,
)
from zaqar_notify.models import Claim, Message, QueueRef
from zaqar_notify.poison import poison_rule
from zaqar_notify.storage.base import Storage

logger = logging.getLogger(__name__)

MAX_PER_CLAIM = 32
"""Jobs in one claim. With posts of 256 KiB that is 8 MiB at once; more would save little."""

MAX_PER_DELETION = 200
FINISH_SECONDS = 0.01
ENOUGH_FINISHED = 16
"""Finished jobs are gathered for so long, or until there are so many: nobody waits for their deletion,
but should this process be killed before it, they are done once more."""

LOOK_BEHIND_SECONDS = 0.05
LOOK_BEHIND_PART = 20
"""What projects with their share in hand hide is looked for every so often at most, and at most for
this part of the time: such a look may have to pass over all that they are owed."""

Spawn: TypeAlias = Callable[[Coroutine[object, object, None]], object]


class Taken:
    """A job or delivery in hand. It has parts, and is finished when all of them are."""

    __slots__ = ("_consumer", "_has_failed", "_parts", "claim_id", "message", "work")

    def __init__(
        self, consumer: Consumer, claim_id: str, message: Message, work: Work | WrittenLater | None
    ) -> None:
        self._consumer = consumer
        self._parts = 1
        self._has_failed = False
        self.claim_id = claim_id
        self.message = message
        self.work = work
        """None: it can't be read here."""

    @property
    def project(self) -> str:
        """Whose deliveries it is about."""
        return "" if isinstance(self.work, WrittenLater | None) else self.work.project

    @property
    def due_at(self) -> datetime:
        """When it became visible first. Records live so long from then on: see `delivery`."""
        delay = max(0, self.message.ttl - OWED_TTL_SECONDS)
        return self.message.posted_at + timedelta(seconds=delay)

    @property
    def is_held(self) -> bool:
        """Whether it is still ours to do. Once it is not, it never is again: it is somebody else's."""
        return self._consumer.holds(self.claim_id)

    def part_begins(self) -> None:
        self._parts += 1

    def part_ends(self) -> None:
        """Its results are recorded, or the job is not ours any more. With the last part it is deleted."""
        self._parts -= 1
        if self._parts:
            return
        if self._has_failed or not self.is_held:
            self._consumer.let_go(self)
        else:
            self._consumer.finish(self)

    def part_fails(self) -> None:
        """Its results are not recorded. The job is kept, to be claimed anew when its lease lapses."""
        self._has_failed = True
        self.part_ends()


class _Lease(msgspec.Struct):
    """Of one claim: until when, and how many of its messages are in hand, finished or not."""

    ends_at: datetime
    in_hand: int
    unfinished: int


class Consumer:
    """Takes the visible messages of one internal queue, and deletes those that are finished."""

    def __init__(
        self,
        storage: Storage,
        ref: QueueRef,
        *,
        clock: Clock,
        lease_seconds: int,
        most_in_hand: int,
        bytes_in_hand: Budget,
        stop: Stop,
        spawn: Spawn,
        freed: Callable[[], None],
    ) -> None:
        """`bytes_in_hand` may be shared with other consumers."""
        self.ref = ref
        self.bell = asyncio.Event()
        self._jobs = Budget(most_in_hand)
        self._bytes = bytes_in_hand
        self._full: frozenset[str] = frozenset()
        """The projects that the last claim passed over."""
        self._ahead: frozenset[str] = frozenset()
        """The project that had all of the last claim: others may stand behind it."""
        self._look_behind_at = 0.0
        self._storage = storage
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._poison = poison_rule(lease_seconds)
        self._stop = stop
        self._spawn = spawn
        self._tell_freed = freed
        self._leases: dict[str, _Lease] = {}
        """By claim; those that lapsed are not in it."""
        self._finished: list[Taken] = []
        self._is_enough_finished = asyncio.Event()
        self._is_deleting = False

    @property
    def in_hand(self) -> int:
        return self._jobs.used

    @property
    def room(self) -> int:
        """How many messages one claim may bring now."""
        return min(MAX_PER_CLAIM, self._jobs.free)

    async def take(self, limit: int) -> list[Taken]:
        """Lease up to `limit` messages of the projects that may have more in hand, oldest first.

        A project that had a claim to itself lets others go first. The bell rings when there may be more,
        after a list that is shorter than the limit.

        Raises:
            StorageUnavailable: The stop came before the store's answer.
        """
        self._full = self._jobs.full() | self._bytes.full()
        hide_others = self._full or self._ahead
        if hide_others:
            taken = await self._take_behind(limit, hide_others)
            if taken or self._full:
                return taken
        return await self._take(limit, frozenset())

    async def _take_behind(self, limit: int, projects: frozenset[str]) -> list[Taken]:
        began = time.monotonic()
        if began < self._look_behind_at:
            if self._full:
                self._ring_in(self._look_behind_at - began)
            return []
        taken = await self._take(limit, projects)
        if not taken:
            present = time.monotonic()
            pause = max(LOOK_BEHIND_SECONDS, LOOK_BEHIND_PART * (present - began))
            self._look_behind_at = present + pause
        return taken

    def _ring_in(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self.bell.set)

    def look_again(self) -> None:
        """Ring the bell if a project that was passed over may have more again."""
        if self._full and not self._full <= self._jobs.full() | self._bytes.full():
            self.bell.set()

    async def _take(self, limit: int, without: frozenset[str]) -> list[Taken]:
        claim = await insist(partial(self._claim, limit, without), self._stop)
        if claim is None:
            self._ahead = frozenset()
            return []
        self._leases[claim.id] = _Lease(
            claim.expires_at, in_hand=len(claim.messages), unfinished=len(claim.messages)
        )
        taken = [Taken(self, claim.id, message, _read(message)) for message in claim.messages]
        for each in taken:
            self._jobs.take(each.project)
            self._bytes.take(each.project, len(each.message.body))
        projects = {each.project for each in taken}
        has_all = len(projects) == 1 and len(taken) == limit
        self._ahead = frozenset(projects) if has_all else frozenset()
        for message in claim.messages:
            if message.claim_count >= self._poison.max_claim_count:
                logger.error(
                    "A job is claimed for the last time; should it fail again, it is put aside",
                    extra={"action": "job_poisonous", "queue": self.ref.name, "job": message.id},
                )
        return taken

    def holds(self, claim_id: str) -> bool:
        """Whether its lease still runs. One that lapsed is not renewed any more."""
        lease = self._leases.get(claim_id)
        if lease is None:
            return False
        if self._clock.now() < lease.ends_at:
            return True
        self._lose(claim_id)
        return False

    def finish(self, taken: Taken) -> None:
        """Delete it soon, together with what else is finished by then."""
        lease = self._leases.get(taken.claim_id)
        if lease is not None:
            lease.unfinished -= 1
        self._finished.append(taken)
        if len(self._finished) >= ENOUGH_FINISHED:
            self._is_enough_finished.set()
        if not self._is_deleting:
            self._is_deleting = True
            self._spawn(self._delete_finished())

    def let_go(self, taken: Taken) -> None:
        """Count it no longer; if it was not deleted, its lease lapses."""
        self._jobs.give(taken.project)
        self._bytes.give(taken.project, len(taken.message.body))
        lease = self._leases.get(taken.claim_id)
        if lease is not None:
            lease.in_hand -= 1
            if not lease.in_hand:
                del self._leases[taken.claim_id]
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
            if lease.ends_at <= soon and self.holds(claim_id)
        ]
        if not due:
            return
        renewed = await self._storage.claims.renew_many(
            self.ref, due, ttl=self._lease_seconds, grace=0, now=now
        )
        for claim_id in due:
            lease = self._leases.get(claim_id)
            if lease is None:
                continue
            if claim_id in renewed:
                lease.ends_at = now + timedelta(seconds=self._lease_seconds)
            elif lease.unfinished:  # Otherwise it may have been deleted meanwhile.
                self._lose(claim_id)

    async def put_back(self, taken: Sequence[Taken]) -> None:
        """Release a claim none of which was begun, uncounted.

        Raises:
            StorageUnavailable: It comes back when its lease lapses.
        """
        try:
            for claim_id in {each.claim_id for each in taken}:
                await self._storage.claims.release(
                    self.ref, claim_id, now=self._clock.now(), counted=False
                )
        finally:
            for each in taken:
                self.let_go(each)

    async def give_back(self) -> None:
        """Release all that is in hand, uncounted: this worker stops.

        Raises:
            StorageUnavailable: What was not released comes back when its lease lapses.
        """
        for claim_id in list(self._leases):
            await self._storage.claims.release(
                self.ref, claim_id, now=self._clock.now(), counted=False
            )
            del self._leases[claim_id]
        self._jobs = Budget(self._jobs.total)

    def _lose(self, claim_id: str) -> None:
        del self._leases[claim_id]
        logger.warning(
            "A lease has lapsed; its jobs are done once more",
            extra={"action": "lease_lost", "queue": self.ref.name},
        )

    async def _claim(self, limit: int, without: frozenset[str]) -> Claim | None:
        return await self._storage.claims.create(
            self.ref,
            claim_id=new_id(),
            ttl=self._lease_seconds,
            grace=0,
            limit=limit,
            now=self._clock.now(),
            dead_letter=lambda _: self._poison,
            without_clients=without,
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
                    await insist(partial(self._delete, batch), self._stop)
                except StorageUnavailable as error:  # Only when stopping: see `insist`.
                    logger.warning(
                        "Finished jobs could not be deleted; they are done once more",
                        extra={"action": "storage_unavailable", "error": str(error)},
                    )
                for taken in batch:
                    self.let_go(taken)
        finally:
            self._is_deleting = False

    async def _delete(self, batch: list[Taken]) -> None:
        """Deletions that are asked for together are one write of the store."""
        await asyncio.gather(*(self._delete_one(taken) for taken in batch))

    async def _delete_one(self, taken: Taken) -> None:
        try:
            await self._storage.messages.delete(
                self.ref, taken.message.id, claim_id=taken.claim_id, now=self._clock.now()
            )
        except (ClaimNotHeld, MessageIsClaimed):
            logger.warning(
                "A finished job is with another worker, who does it once more",
                extra={"action": "lease_lost", "queue": self.ref.name, "job": taken.message.id},
            )


def _read(message: Message) -> Work | WrittenLater | None:
    try:
        return read_work(message.body)
    except WrittenLater as later:
        return later
    except ValueError as error:
        logger.error(
            "A job can't be read; after many claims it is put aside",
            extra={"action": "job_unreadable", "job": message.id, "error": str(error)},
        )
        return None
