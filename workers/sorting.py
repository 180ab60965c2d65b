"""Sorting: which of the deliveries that a replay fetched are tried now, and the end of the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from workers.ledger import Ledger
from workers.receivers import Receivers
from workers.recorder import Recorder
from workers.retries import Retries
from workers.taken import Taken, ending_part_of_each
from workers.untried import Untried
from zaqar_notify.clock import Clock
from zaqar_notify.delivery import (
    OWED_TTL_SECONDS,
    Outgoing,
    OwedDelivery,
    Replay,
    WrittenLater,
    later_record,
    outgoing_messages,
)
from zaqar_notify.models import NewMessage, Subscription
from zaqar_notify.rules.retry import attempt_after
from zaqar_notify.rules.schedules import Schedule
from zaqar_notify.storage.internal import POISON_REF

Numbered: TypeAlias = tuple[Taken, Outgoing, int]
"""A delivery that is to be tried, with the number of its next attempt; or to be given up, with the attempts
that it had."""


class Sorting:
    def __init__(
        self,
        receivers: Receivers,
        retries: Retries,
        ledger: Ledger,
        untried: Untried,
        recorder: Recorder,
        *,
        clock: Clock,
    ) -> None:
        self._receivers = receivers
        self._retries = retries
        self._ledger = ledger
        self._untried = untried
        self._recorder = recorder
        self._clock = clock

    async def sort(
        self, batch: Sequence[Taken], subscription: Subscription, job: Replay
    ) -> list[Numbered]:
        """Those to be tried. Others are given up if their last attempt counts as made or they are too old,
        dropped, or left to a later release."""
        plan = await self._retries.plan(subscription)
        now = self._clock.now()
        hopeless: list[Numbered] = []
        live: list[Numbered] = []
        for taken in batch:
            match taken.work:
                case OwedDelivery() as owed if not self._receivers.may_notify(subscription):
                    with taken:
                        self._recorder.dropped(owed, "unconfirmed")
                case OwedDelivery() as owed:
                    owed = _as_if_held(owed, job)
                    [message] = outgoing_messages(owed)
                    attempt = _attempt(owed, job, plan.schedule)
                    if attempt is None or self._retries.is_too_old(message, plan.bounds, now):
                        hopeless.append((taken, message, attempt or plan.schedule.retries + 1))
                    else:
                        live.append((taken, message, attempt))
                case WrittenLater(version=version):
                    with taken:
                        later = later_record(taken.message.body, version)
                        await self._ledger.write(taken.pool, [later], project="")
                case _:
                    taken.fail_part()
        await self._give_up(hopeless, subscription)
        return live

    async def put_aside(self, taken: Taken) -> None:
        """Put a delivery that can't be read where an operator finds it."""
        with taken:
            poison = NewMessage(body=taken.message.body, ttl=OWED_TTL_SECONDS)
            await self._ledger.write(taken.pool, [(POISON_REF, poison)], project="")

    async def _give_up(self, hopeless: Sequence[Numbered], subscription: Subscription) -> None:
        if not hopeless:
            return
        with ending_part_of_each(taken for taken, _, _ in hopeless):
            await self._untried.give_up(
                [(message, attempts) for _, message, attempts in hopeless],
                subscription,
                "the receiver did not recover while they were owed",
            )


def _as_if_held(owed: OwedDelivery, job: Replay) -> OwedDelivery:
    """One that was parked before its subscription was disabled begins anew, as those do that were held meanwhile."""
    if job.resumed_at is None or owed.due_at is None or owed.due_at >= job.resumed_at:
        return owed
    return msgspec.structs.replace(owed, attempt=1, since=None, due_at=None)


def _attempt(owed: OwedDelivery, job: Replay, schedule: Schedule) -> int | None:
    """The number of its next attempt; None: the last one counts as made."""
    if owed.due_at is None or job.failed_at is None:
        return owed.attempt
    return attempt_after(
        schedule, attempt=owed.attempt, due_at=owed.due_at, failed_at=job.failed_at
    )
