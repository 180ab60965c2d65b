"""A paced subscription's own queue, read in order and without leases: its replay job's lease stands for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence, Set
from contextlib import suppress
from datetime import datetime
from functools import partial

from workers.slots import Spawn
from workers.store import Asked
from workers.taken import Taken, read_job
from zaqar_notify.clock import Clock
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import Message, QueueRef
from zaqar_notify.rules.sharing import Budget
from zaqar_notify.storage.base import MessageStore

READ_AT_ONCE = 64
READ_LEAST = 1
"""When so many bytes are in hand that the project has its share."""

LARGEST = 512
"""Deliveries in hand of one subscription."""

DELETE_SECONDS = 0.01
"""Deliveries that are done are gathered for so long: no attempt waits for their deletion. If this process is killed
before it, they are made once more, in their order."""


class Line:
    """Deliveries on one own queue. Those in hand are being made, or wait for their turn."""

    def __init__(
        self,
        asked: Asked,
        ref: QueueRef,
        job: Taken,
        memory: Budget,
        spawn: Spawn,
        *,
        clock: Clock,
        freed: Callable[[], None],
    ) -> None:
        """`job` is the replay that reads them; `freed` is called after each deletion."""
        self.ref = ref
        self.pool = job.pool
        self._asked = asked
        self._job = job
        self._memory = memory
        self._spawn = spawn
        self._clock = clock
        self._tell_freed = freed
        self._in_hand: dict[str, Taken] = {}
        self._done: list[Taken] = []
        self._is_deleting = False

    @property
    def in_hand(self) -> Set[str]:
        """The ids of the records that are read and not deleted."""
        return self._in_hand.keys()

    @property
    def has_room(self) -> bool:
        return len(self._in_hand) < LARGEST

    async def read(self, count: int) -> list[Taken]:
        """Up to `count` more from the beginning of the queue, and those in hand among them; in order.

        From the beginning each time: a post that was under way longer than others comes before theirs.
        """
        room = self._memory.has_room_for(self._job.project)
        before = set(self._in_hand)
        limit = min(LARGEST, len(before) + (count if room else READ_LEAST))
        messages = await self._asked.until_answered(partial(self._page, limit))
        return [
            self._in_hand.get(each.id) or self._take(each)
            for each in messages
            # Some may have been deleted while the page was read.
            if each.id in self._in_hand or each.id not in before
        ]

    async def get(self, ids: Sequence[str]) -> list[Taken]:
        """Take those of these records that are on the queue."""
        messages = await self._asked.until_answered(
            lambda store: store.messages.get(self.ref, ids, now=self._clock.now())
        )
        return [self._in_hand.get(each.id) or self._take(each) for each in messages]

    async def others_than(self, known: Set[str]) -> Set[str]:
        """The ids of records on the queue that are not among the known ones; of many, the first."""
        limit = min(LARGEST, len(known) + 1)
        messages = await self._asked.until_answered(partial(self._page, limit))
        return {message.id for message in messages} - known

    async def deleted(self) -> None:
        """Wait until all that are done are deleted."""
        while self._is_deleting or self._done:  # noqa: ASYNC110 - the deletion is under way
            await asyncio.sleep(DELETE_SECONDS)

    def close(self) -> None:
        """Let go of all: another job reads them again."""
        for taken in list(self._in_hand.values()):
            self.let_go(taken)

    # As the holder of what it took

    def holds(self, claim_id: str, now: datetime) -> bool:
        return self._job.is_held(now)

    def full(self) -> frozenset[str]:
        return self._memory.full()

    def finish(self, taken: Taken) -> None:
        """Delete it soon."""
        if not self._job.is_held(self._clock.now()):
            self.let_go(taken)
            return
        self._done.append(taken)
        if not self._is_deleting:
            self._is_deleting = True
            self._spawn(self._delete_done())

    def let_go(self, taken: Taken) -> None:
        if self._in_hand.pop(taken.message.id, None) is not None:
            self._memory.give(taken.project, len(taken.message.body))

    async def _page(self, limit: int, store: MessageStore) -> Sequence[Message]:
        page = await store.messages.page(
            self.ref, marker=None, limit=limit, now=self._clock.now(), include_claimed=True
        )
        return page.messages

    def _take(self, message: Message) -> Taken:
        taken = Taken(self, "", message, read_job(message))
        self._in_hand[message.id] = taken
        self._memory.take(taken.project, len(message.body))
        return taken

    async def _delete_done(self) -> None:
        try:
            while self._done:
                await asyncio.sleep(DELETE_SECONDS)
                done, self._done = self._done, []
                ids = [each.message.id for each in done]
                with suppress(StorageUnavailable):  # When stopping: they are made once more.
                    await self._asked.until_answered(partial(self._delete, ids))
                for each in done:
                    self.let_go(each)
        finally:
            self._is_deleting = False
            self._tell_freed()

    async def _delete(self, ids: Sequence[str], store: MessageStore) -> None:
        await store.messages.delete_many(self.ref, ids, claim_ids=None, now=self._clock.now())
