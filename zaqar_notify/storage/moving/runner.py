"""Carries out moves, one after the other, in a process of the engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from zaqar_notify.clock import Clock, new_id, running_seconds
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.storage.ending import end
from zaqar_notify.storage.internal import MOVES_REF
from zaqar_notify.storage.moving import journal
from zaqar_notify.storage.moving.mover import Mover
from zaqar_notify.storage.moving.records import Move, Progress, State
from zaqar_notify.storage.planes import Storage

LEASE_SECONDS = 15
"""When a process dies, another one goes on with its move within this time."""
RENEWED_EVERY_SECONDS = 4.0
OURS_SECONDS = 10.0
"""A process that has not renewed its lease for so long takes no further step: another one may have begun."""
AGAIN_SECONDS = 5
"""A move goes on so long after a store gave no answer."""

logger = logging.getLogger(__name__)


async def carry_out_next(storage: Storage, clock: Clock) -> bool:
    """Carry out the next move, if there is one; whether there was.

    Raises:
        StorageUnavailable: The default pool gave no answer.
    """
    async with _claimed(storage, clock) as claimed:
        if claimed is None:
            return False
        lease, message_id, move = claimed
        progress, _ = await journal.progress_of(storage.store, move, now=clock.now())
        mover = Mover(storage, move, progress, now=clock.now, is_ours=lease.is_ours)
        try:
            await _refuse_second(storage, clock, move)
            await mover.run()
        except StorageUnavailable as error:
            await _put_off(storage, clock, lease, move, mover.progress, error)
            return True
        _log(move, mover.progress)
        await journal.end(storage.store, message_id, move, mover.progress, now=clock.now())
        return True


class _Lease:
    """The claim on a move."""

    def __init__(self, storage: Storage, clock: Clock) -> None:
        self.id = new_id()
        self._storage = storage
        self._clock = clock
        self._renewed_at = running_seconds()

    def is_ours(self) -> bool:
        return running_seconds() - self._renewed_at < OURS_SECONDS

    async def take(self) -> tuple[str, Move] | None:
        claim = await self._storage.claims.create(
            MOVES_REF, claim_id=self.id, ttl=LEASE_SECONDS, grace=0, limit=1, now=self._clock.now()
        )
        if claim is None:
            return None
        [message] = claim.messages
        return message.id, journal.read(message)

    async def renew_regularly(self) -> None:
        while True:
            await asyncio.sleep(RENEWED_EVERY_SECONDS)
            asked_at = running_seconds()
            with suppress(StorageUnavailable):
                await self.renew(LEASE_SECONDS)
                self._renewed_at = asked_at

    async def renew(self, seconds: int) -> None:
        await self._storage.claims.renew_many(
            MOVES_REF, [self.id], ttl=seconds, grace=0, now=self._clock.now()
        )

    async def release(self) -> None:
        await self._storage.claims.release(MOVES_REF, self.id, now=self._clock.now(), counted=False)


@asynccontextmanager
async def _claimed(
    storage: Storage, clock: Clock
) -> AsyncIterator[tuple[_Lease, str, Move] | None]:
    """The next move, with its lease, which is renewed meanwhile; a process that stops lets another one go on."""
    lease = _Lease(storage, clock)
    taken = await lease.take()
    if taken is None:
        yield None
        return
    renewing = asyncio.create_task(lease.renew_regularly())
    try:
        yield (lease, *taken)
    except asyncio.CancelledError:
        with suppress(StorageUnavailable):
            await lease.release()
        raise
    finally:
        await end(renewing)


async def _refuse_second(storage: Storage, clock: Clock, move: Move) -> None:
    """Of two moves of a queue that were asked for at once, the later one waits until the first is over."""
    for _, other in await journal.under_way(storage.store, now=clock.now()):
        if other.id == move.id:
            return
        if other.ref == move.ref:
            raise StorageUnavailable(f"Queue {move.queue} is moving to pool {other.target}")


async def _put_off(
    storage: Storage,
    clock: Clock,
    lease: _Lease,
    move: Move,
    progress: Progress,
    error: StorageUnavailable,
) -> None:
    """A store gives no answer: say so, and let a process go on in a moment."""
    logger.warning(
        "A queue's move waits for a store",
        extra={"action": "move_waits", **_facts(move), "error": str(error)},
    )
    with suppress(StorageUnavailable):
        if lease.is_ours():
            progress.reason = str(error)
            await journal.note(storage.store, move, progress, now=clock.now())
        await lease.renew(AGAIN_SECONDS)


def _log(move: Move, progress: Progress) -> None:
    """Log how a move has ended."""
    facts = {**_facts(move), "state": progress.state.value, "copied": progress.copied}
    held_up = progress.held_up_ms[-1] if progress.held_up_ms else 0
    if progress.state is State.DONE:
        logger.info(
            "A queue is on another pool",
            extra={"action": "queue_moved", **facts, "held_up_ms": held_up},
        )
    else:
        logger.warning(
            "A queue stays on its pool",
            extra={"action": "queue_not_moved", **facts, "reason": progress.reason},
        )


def _facts(move: Move) -> dict[str, object]:
    return {"project": move.project, "queue": move.queue, "pool": move.target}
