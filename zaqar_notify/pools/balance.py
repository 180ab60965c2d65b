"""Proposals that bring queues to the pools that have too few of them, by weight."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence

import msgspec

from zaqar_notify.models import FlavorRef, Pool, QueueRef
from zaqar_notify.storage.internal import DEFAULT_POOL
from zaqar_notify.storage.planes import Storage

LISTED_AT_ONCE = 1000
MOST_PROPOSED = 500
"""Moves of one run; the next one goes on."""


class Proposal(msgspec.Struct, frozen=True):
    """A queue that should be on another pool."""

    project: str
    queue: str
    source: str
    pool: str


async def proposals(storage: Storage) -> Sequence[Proposal]:
    """Moves after which the pools of each flavor have queues in proportion to their weights.

    Pools that take queues of no flavor share those of the default pool, too.
    """
    groups: defaultdict[FlavorRef | None, list[Pool]] = defaultdict(list)
    for pool in storage.open_pools.registered.pools.values():
        groups[pool.flavor].append(pool)
    proposed: list[Proposal] = []
    for flavor, pools in groups.items():
        weights = {pool.name: pool.weight for pool in pools}
        if flavor is None:
            weights[DEFAULT_POOL] = 0
        found = {name: [ref async for ref in _queues(storage, name)] for name in weights}
        proposed += _balanced(found, weights)
    return proposed[:MOST_PROPOSED]


def _balanced(
    found: Mapping[str, Sequence[QueueRef]], weights: Mapping[str, int]
) -> list[Proposal]:
    """The fewest moves that give each pool its part."""
    whole = sum(weights.values())
    total = sum(map(len, found.values()))
    if not whole:
        return []
    parts = {name: total * weight // whole for name, weight in weights.items()}
    # A queue that rounding leaves stays where it is, if it is on a pool that takes queues.
    spare = total - sum(parts.values())
    for name in sorted(parts, key=lambda each: parts[each] - len(found[each])):
        if spare and weights[name]:
            parts[name] += 1
            spare -= 1
    takers = [name for name, part in parts.items() for _ in range(part - len(found[name]))]
    givers = [(name, ref) for name, refs in found.items() for ref in refs[parts[name] :]]
    return [
        Proposal(ref.project, ref.name, source, target)
        for (source, ref), target in zip(givers, takers, strict=False)
    ]


async def _queues(storage: Storage, pool: str) -> AsyncIterator[QueueRef]:
    """The queues of a pool. Those of the default pool may be from before there were pools, and have no entry."""
    after: QueueRef | None = None
    while True:
        if pool == DEFAULT_POOL:
            refs = await storage.heads.of_clients(after=after, limit=LISTED_AT_ONCE)
        else:
            refs = await storage.control.catalogue.of_pool(pool, after=after, limit=LISTED_AT_ONCE)
        for ref in refs:
            if await storage.control.records.get(ref) is not None:
                yield ref
        if len(refs) < LISTED_AT_ONCE:
            return
        after = refs[-1]
