"""Moves of queues to other pools, as operators ask for them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from zaqar_notify.clock import new_id
from zaqar_notify.errors import (
    MoveDoesNotExist,
    PoolDoesNotExist,
    PoolRefused,
    QueueDoesNotExist,
    QueueMoves,
)
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.moving import journal
from zaqar_notify.storage.moving.records import Move, Progress, State
from zaqar_notify.storage.planes import Storage


class ShownMove(msgspec.Struct, frozen=True):
    """A move, and how far it is. `copied` counts messages and notes, `total` the messages at its begin;
    `held_up_ms` is how long writes waited, in each attempt to switch."""

    id: str
    project: str
    queue: str
    pool: str
    state: State
    source: str
    copied: int
    total: int
    held_up_ms: list[int]
    reason: str
    asked_at: datetime


async def move_queue(storage: Storage, ref: QueueRef, pool: str, *, now: datetime) -> ShownMove:
    """Have a queue moved to another pool. Asked for again, it is the move that is under way.

    Raises:
        QueueDoesNotExist: There is no such queue.
        PoolDoesNotExist: There is no such pool.
        PoolRefused: The driver of one of the two pools can't move queues.
        QueueMoves: The queue moves to another pool just now.
    """
    if not storage.open_pools.has(pool):
        await storage.open_pools.look()
    if not storage.open_pools.has(pool):
        raise PoolDoesNotExist(pool)
    if await storage.control.records.get(ref) is None:
        raise QueueDoesNotExist(ref.name)
    present = await _under_way(storage, ref, now)
    if present is None:
        source = (await storage.places.find(ref)).pool
        for each in (source, pool):
            _refuse_fixed(storage, each)
        present = Move(new_id(), ref.project, ref.name, pool, now)
        await journal.ask(storage.store, present, now=now)
    elif present.target != pool:
        raise QueueMoves(ref.name, present.target)
    return await _shown(storage, present, now)


async def cancel_move(storage: Storage, ref: QueueRef, *, now: datetime) -> ShownMove:
    """Have the queue's move given up. A queue that is on the other pool by then stays there.

    Raises:
        MoveDoesNotExist: The queue does not move.
    """
    present = await _under_way(storage, ref, now)
    if present is None:
        raise MoveDoesNotExist(ref.name)
    await journal.wish_to_cancel(storage.store, present, now=now)
    return await _shown(storage, present, now)


async def moves(storage: Storage, *, now: datetime) -> Sequence[ShownMove]:
    """Those that ended in the last days, then those that are under way, in their order."""
    ended = await journal.ended(storage.store, now=now)
    under_way = await journal.under_way(storage.store, now=now)
    shown = [_as_shown(each.move, each.progress) for each in ended]
    return shown + [await _shown(storage, move, now) for _, move in under_way]


async def move_of_id(storage: Storage, move_id: str, *, now: datetime) -> ShownMove:
    """A move, under way or ended.

    Raises:
        MoveDoesNotExist: None has this id.
    """
    for _, move in await journal.under_way(storage.store, now=now):
        if move.id == move_id:
            return await _shown(storage, move, now)
    for each in await journal.ended(storage.store, now=now):
        if each.move.id == move_id:
            return _as_shown(each.move, each.progress)
    raise MoveDoesNotExist(move_id)


def _refuse_fixed(storage: Storage, pool: str) -> None:
    if storage.pools[pool].transfer is None:
        raise PoolRefused(
            f"Queues can't move to or from the store of pool {pool}: its driver can't do that"
        )


async def _under_way(storage: Storage, ref: QueueRef, now: datetime) -> Move | None:
    found = await journal.under_way(storage.store, now=now)
    return next((move for _, move in found if move.ref == ref), None)


async def _shown(storage: Storage, move: Move, now: datetime) -> ShownMove:
    progress, _ = await journal.progress_of(storage.store, move, now=now)
    return _as_shown(move, progress)


def _as_shown(move: Move, progress: Progress) -> ShownMove:
    return ShownMove(
        move.id,
        move.project,
        move.queue,
        move.target,
        progress.state,
        progress.source,
        progress.copied,
        progress.total,
        progress.held_up_ms,
        progress.reason,
        move.asked_at,
    )
