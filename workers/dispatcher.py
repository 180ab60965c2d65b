"""Begins the work of claimed jobs: fan-out, redelivery, replay, move or bulk work. Jobs of a later release are left to it."""

from __future__ import annotations

from collections.abc import Sequence

from workers.bulk import BulkWork
from workers.fan_out import FanOuts
from workers.ledger import Ledger
from workers.moves import Moves
from workers.redelivery import Redeliveries
from workers.replay import Replays
from workers.slots import Spawn
from workers.taken import Taken, working_on
from zaqar_notify.delivery import (
    BulkJob,
    FanOut,
    Letter,
    Move,
    OwedDelivery,
    Replay,
    WrittenLater,
    later_record,
    say_written_later,
)
from zaqar_notify.models import QueueRef


class Dispatcher:
    def __init__(
        self,
        fan_outs: FanOuts,
        redeliveries: Redeliveries,
        replays: Replays,
        moves: Moves,
        bulk_work: BulkWork,
        ledger: Ledger,
        spawn: Spawn,
    ) -> None:
        self._fan_outs = fan_outs
        self._redeliveries = redeliveries
        self._replays = replays
        self._moves = moves
        self._bulk_work = bulk_work
        self._ledger = ledger
        self._spawn = spawn

    def start(self, batch: Sequence[Taken]) -> None:
        """Begin the work of one claim."""
        jobs: dict[QueueRef, list[tuple[Taken, FanOut]]] = {}
        owed: list[tuple[Taken, OwedDelivery]] = []
        for taken in batch:
            match taken.work:
                case FanOut() as job:
                    jobs.setdefault(QueueRef(job.project, job.queue), []).append((taken, job))
                case OwedDelivery() as delivery:
                    owed.append((taken, delivery))
                case Replay() as replay:
                    self._spawn(self._replays.run(taken, replay))
                case Move() | Letter() as move:
                    self._spawn(self._moves.run(taken, move))
                case BulkJob() as bulk:
                    self._spawn(self._bulk_work.run(taken, bulk))
                case WrittenLater(version=version):
                    self._spawn(self._leave(taken, version))
                case None:
                    taken.fail_part()
        for ref, of_queue in jobs.items():
            self._spawn(self._fan_outs.run(ref, of_queue))
        if owed:
            self._spawn(self._redeliveries.run(owed))

    async def _leave(self, taken: Taken, version: int) -> None:
        """Put a job where workers of its release look. Claimed here time and again, it would be poison."""
        with working_on([taken]):
            say_written_later(version)
            later = later_record(taken.message.body, version)
            await self._ledger.write(taken.pool, [later], project="")
