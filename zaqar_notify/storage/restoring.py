"""Queues whose records, subscriptions and heads are not of one state, because one store was restored alone.

Each head is compared with the queue's record and its subscriptions. A record without a head is no
difference: the queue is empty, and its first post makes the head from the record.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from enum import Enum

import msgspec

from zaqar_notify.findings import Finding, problem
from zaqar_notify.models import JsonObject, QueueRef
from zaqar_notify.storage.base import Head
from zaqar_notify.storage.control import DELETED, QueueRecord
from zaqar_notify.storage.steps import Planes

COMPARED_AT_ONCE = 50
COMPARED_BY_DOCTOR = 500


class Difference(Enum):
    """Of a queue's head from the control store; the value goes on after a number of queues."""

    PLACE = "on a pool that the catalogue does not name"
    RECORD = "without a record"
    RULES = "with other rules than the metadata that they show"
    SUBSCRIPTIONS = "with subscriptions that posts do not notify"


def told(counts: Counter[Difference]) -> str:
    """Numbers of queues by difference, for an operator."""
    return ", ".join(f"{counts[each]} {each.value}" for each in Difference if counts[each])


class Restored(msgspec.Struct):
    """How many queues were concerned: by new ids (`ahead`), by the comparison, by a difference that it mended."""

    ahead: int
    compared: int
    mended: Counter[Difference]


async def agree(
    planes: Planes, *, ahead: int, now: datetime, progress: Callable[[int], None]
) -> Restored:
    """Give each head an entry in the catalogue, a record, the rules of its record, and the life of its longest
    subscription."""
    done = Restored(ahead=ahead, compared=0, mended=Counter())
    for pool, store in planes.pools.items():
        after: QueueRef | None = None
        while refs := await store.heads.of_clients(after=after, limit=COMPARED_AT_ONCE):
            named = await asyncio.gather(*(planes.name_pool(ref, pool, now) for ref in refs))
            done.mended.update(Difference.PLACE for is_mended in named if is_mended)
            for mended in await asyncio.gather(*(_mend(planes, ref, now) for ref in refs)):
                done.mended.update(mended)
            done.compared += len(refs)
            progress(done.compared)
            after = refs[-1]
    return done


async def diagnose(planes: Planes) -> list[Finding]:
    """The differences of the first queues. Nothing is changed."""
    pools = {
        ref: pool
        for pool, store in planes.pools.items()
        for ref in await store.heads.of_clients(after=None, limit=COMPARED_BY_DOCTOR)
    }
    refs = list(pools)
    suspects = [each.ref for each in await _compare_all(planes, refs) if each.differences]
    # A change that was under way at the first look is applied at the second.
    differing = await _compare_all(planes, suspects)
    counts = Counter(difference for each in differing for difference in each.differences)
    counts[Difference.PLACE] = sum([await planes.is_elsewhere(*each) for each in pools.items()])
    if not counts.total():
        return []
    return [
        problem(
            "store",
            f"Records and subscriptions are of another state than messages: of the first {len(refs)} queues "
            f"{told(counts)}",
            "Run `zaqar-notify restored`; the service may run meanwhile",
        )
    ]


class _Comparison(msgspec.Struct, frozen=True):
    """A head, and the parts of the control store that it depends on."""

    ref: QueueRef
    head: Head | None
    record: QueueRecord | None
    rules: JsonObject
    longest: datetime | None

    @property
    def differences(self) -> Sequence[Difference]:
        if self.head is None:
            return []
        found = []
        if self.record is None:
            found.append(Difference.RECORD)
        elif self.rules != self.head.rules:
            found.append(Difference.RULES)
        if (self.longest or DELETED) > (self.head.subscribed_until or DELETED):
            found.append(Difference.SUBSCRIPTIONS)
        return found


async def _compare(planes: Planes, ref: QueueRef) -> _Comparison:
    head = await planes.head_of(ref)
    record, longest = await asyncio.gather(
        planes.control.records.get(ref), planes.control.subscriptions.longest(ref)
    )
    rules: JsonObject = {}
    if record is not None:
        async with planes.at(ref) as store:
            rules = await planes.rules(record.queue, store.heads, is_subscribed=longest is not None)
    return _Comparison(ref, head, record, rules, longest)


async def _compare_all(planes: Planes, refs: Sequence[QueueRef]) -> list[_Comparison]:
    compared: list[_Comparison] = []
    for first in range(0, len(refs), COMPARED_AT_ONCE):
        together = refs[first : first + COMPARED_AT_ONCE]
        compared += await asyncio.gather(*(_compare(planes, ref) for ref in together))
    return compared


async def _mend(planes: Planes, ref: QueueRef, now: datetime) -> Sequence[Difference]:
    found = await _compare(planes, ref)
    if found.record is not None and Difference.RULES in found.differences:
        await planes.apply_change(found.record)
    if found.longest is not None and Difference.SUBSCRIPTIONS in found.differences:
        await planes.raise_subscribed(ref, found.longest)
    if found.head is not None and found.record is None:
        await planes.make_record(ref, found.head, now)
    return found.differences
