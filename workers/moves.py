"""Moves and letters: messages that jobs carry to a queue of clients, perhaps on another message store."""

from __future__ import annotations

from datetime import timedelta

from workers.ledger import Ledger
from workers.outages import Outage
from workers.store import RetryingStore
from workers.taken import Taken, working_on
from zaqar_notify.clock import Clock
from zaqar_notify.delivery import InternalMessage, Letter, Move, move_record
from zaqar_notify.delivery.letters import LetterPost, letter_post, letter_record, moved_post
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import QueueRef
from zaqar_notify.settings import Settings
from zaqar_notify.storage.values import to_ms

PUT_OFF_SECONDS = 30
"""How long a move waits for a store that gives no answer."""

DISABLING_LASTS = timedelta(minutes=1)
"""For so long a notice waits for the subscription to be disabled: its worker stores the notice first."""


class Moves:
    def __init__(
        self, store: RetryingStore, ledger: Ledger, *, clock: Clock, settings: Settings
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._clock = clock
        self._settings = settings
        self._outage = Outage()

    async def run(self, taken: Taken, job: Move | Letter) -> None:
        """Store the message, or leave that to a later job: the jobs of this store do not wait for another one."""
        with working_on([taken]):
            if isinstance(job, Letter) and not await self._is_due(job, taken):
                return
            try:
                await self._store.try_post(QueueRef(job.project, job.target), self._post(job))
            except StorageUnavailable as error:
                self._outage.met(error)
                await self._put_off(taken, job, PUT_OFF_SECONDS)
            else:
                self._outage.over()

    async def _is_due(self, letter: Letter, taken: Taken) -> bool:
        """Whether the letter is to be stored. A notice is so once the subscription is disabled since its very instant."""
        at = letter.disabled_at
        if at is None:
            return True
        ref = QueueRef(letter.project, letter.queue)
        subscription = await self._store.subscription(ref, letter.subscription_id)
        if subscription is None:
            return False
        since = subscription.disabled_at
        if since is None and self._clock.now() < at + DISABLING_LASTS:
            await self._put_off(taken, letter, 1)
        # At another instant, another worker disabled it, which has left a notice of its own.
        return since is not None and to_ms(since) == to_ms(at)

    def _post(self, job: Move | Letter) -> LetterPost:
        if isinstance(job, Move):
            return moved_post(job, self._settings)
        return letter_post(job, self._settings)

    async def _put_off(self, taken: Taken, job: Move | Letter, delay: int) -> None:
        await self._ledger.write(taken.pool, [self._later(job, delay)], project=job.project)

    def _later(self, job: Move | Letter, delay: int) -> InternalMessage:
        if isinstance(job, Move):
            return move_record(job, self._settings, delay=delay)
        return letter_record(job, self._settings, delay=delay)
