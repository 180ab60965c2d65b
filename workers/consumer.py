"""Claims the visible messages of one internal queue, fair between the projects they are about."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from functools import partial

from workers.in_hand import InHand
from workers.store import Asked
from workers.taken import Taken, read_job
from zaqar_notify.clock import Clock, new_id
from zaqar_notify.delivery import Replay
from zaqar_notify.delivery.poison import poison_rule
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import Claim, QueueRef
from zaqar_notify.storage.base import MessageStore

logger = logging.getLogger(__name__)

MAX_PER_CLAIM = 32
"""Jobs in one claim. With posts of 256 KiB that is 8 MiB at once; more would save little."""

LOOK_BEHIND_SECONDS = 0.05
LOOK_BEHIND_PART = 20
"""A claim that passes over projects with their share in hand is made this often at most, and takes at most
this part of the time: it may have to pass over all jobs of those projects."""


class Consumer:
    """Of one internal queue; the jobs that it takes are in its `in_hand`."""

    def __init__(
        self,
        asked: Asked,
        in_hand: InHand,
        *,
        clock: Clock,
        lease_seconds: int,
        bell: asyncio.Event,
        is_durable: bool,
    ) -> None:
        """`bell` is set when there may be more to take. Leases that are not durable are quicker, and a fail-over of
        the store may undo them: deliveries are made twice then, as after any crash."""
        self.in_hand = in_hand
        self.bell = bell
        self._full: frozenset[str] = frozenset()
        """The projects that the last claim passed over."""
        self._ahead: frozenset[str] = frozenset()
        """The project that had all of the last claim: others may stand behind it."""
        self._look_behind_at = 0.0
        self._asked = asked
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._is_durable = is_durable
        self._poison = poison_rule(lease_seconds)

    @property
    def ref(self) -> QueueRef:
        return self.in_hand.ref

    @property
    def room(self) -> int:
        """How many messages one claim may bring now."""
        return min(MAX_PER_CLAIM, self.in_hand.jobs.free)

    async def take(self, limit: int) -> list[Taken]:
        """Lease up to `limit` messages of the projects that may have more in hand, oldest first.

        A project that had a claim to itself lets others go first. The bell rings when there may be more,
        after a list that is shorter than the limit.

        Raises:
            StorageUnavailable: The stop came before the store's answer.
        """
        self._full = self.in_hand.full()
        hide_others = self._full or self._ahead
        if hide_others:
            taken = await self._take_behind(limit, hide_others)
            if taken or self._full:
                return taken
        return await self._take(limit, frozenset())

    def look_again(self) -> None:
        """Ring the bell if a project that was passed over may have more again."""
        if self._full and not self._full <= self.in_hand.full():
            self.bell.set()

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

    async def _take(self, limit: int, without: frozenset[str]) -> list[Taken]:
        claim = await self._asked.until_answered(partial(self._claim, limit, without))
        if claim is None:
            self._ahead = frozenset()
            return []
        taken = [
            Taken(self.in_hand, claim.id, message, read_job(message)) for message in claim.messages
        ]
        self.in_hand.add(claim, taken)
        if not self._is_durable and any(isinstance(each.work, Replay) for each in taken):
            await self._make_durable(claim)
        projects = {each.project for each in taken}
        has_all = len(projects) == 1 and len(taken) == limit
        self._ahead = frozenset(projects) if has_all else frozenset()
        for message in claim.messages:
            if message.claim_count >= self._poison.max_claim_count:
                logger.error(
                    "A job is claimed for the last time; it is put aside if it fails again",
                    extra={"action": "job_poisonous", "queue": self.ref.name, "job": message.id},
                )
        return taken

    async def _claim(
        self, limit: int, without: frozenset[str], store: MessageStore
    ) -> Claim | None:
        return await store.claims.create(
            self.ref,
            claim_id=new_id(),
            ttl=self._lease_seconds,
            grace=0,
            limit=limit,
            now=self._clock.now(),
            dead_letter=lambda _: self._poison,
            without_clients=without,
            is_durable=self._is_durable,
        )

    async def _make_durable(self, claim: Claim) -> None:
        """Have the lease outlive a fail-over: a replay is alone in the cluster by its lease."""
        ttl, now = self._lease_seconds, self._clock.now()
        with suppress(StorageUnavailable):  # It is renewed soon, or lapses.
            await self._asked.once(
                lambda store: store.claims.renew_many(
                    self.ref, [claim.id], ttl=ttl, grace=0, now=now
                )
            )
