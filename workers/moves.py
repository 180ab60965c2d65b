"""Moves: dead letters are stored on their queue, which is on another message store than their source."""

from __future__ import annotations

from workers.ledger import Ledger
from workers.outages import Outage
from workers.store import RetryingStore
from workers.taken import Taken, working_on
from zaqar_notify.delivery import Move, move_record, moved_post
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import QueueRef
from zaqar_notify.settings import Settings

PUT_OFF_SECONDS = 30
"""How long a move waits for a store that gives no answer."""


class Moves:
    def __init__(self, store: RetryingStore, ledger: Ledger, *, settings: Settings) -> None:
        self._store = store
        self._ledger = ledger
        self._settings = settings
        self._outage = Outage()

    async def run(self, taken: Taken, move: Move) -> None:
        """Store the letter, or leave that to a later job: the jobs of this store do not wait for another one."""
        with working_on([taken]):
            try:
                await self._store.try_post(QueueRef(move.project, move.target), moved_post(move))
            except StorageUnavailable as error:
                self._outage.met(error)
                later = move_record(move, self._settings, delay=PUT_OFF_SECONDS)
                await self._ledger.write(taken.pool, [later], project=move.project)
            else:
                self._outage.over()
