"""The message stores of this process that can be asked now, by the names of their pools."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext

from msgspec.structs import replace

from zaqar_notify.errors import PoolAway, StorageUnavailable
from zaqar_notify.findings import Finding, ok, problem
from zaqar_notify.storage.base import MessageStore
from zaqar_notify.storage.internal import DEFAULT_POOL


class Stores(Mapping[str, MessageStore]):
    """Without those that are away: to ask for one raises StorageUnavailable at once, with the reason."""

    def __init__(self, default: MessageStore) -> None:
        self.default = default
        self.away: dict[str, str] = {}
        """Of the pools that can't be asked now, the reason."""
        self.refusing: dict[str, str] = {}
        """Of the pools that answer and refuse writes, the reason."""
        self._present = {DEFAULT_POOL: default}

    def __getitem__(self, pool: str) -> MessageStore:
        try:
            return self._present[pool]
        except KeyError:
            reason = self.away.get(pool, "it is not known to this process")
            raise PoolAway(f"Pool {pool}: {reason}") from None

    def __contains__(self, pool: object) -> bool:
        return pool in self._present

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._present))

    def __len__(self) -> int:
        return len(self._present)

    def is_away(self, pool: str) -> bool:
        """Whether it can't be asked now, or there is none."""
        return pool not in self._present

    def present(self, pool: str) -> MessageStore | None:
        """The pool's store, unless it is away."""
        return self._present.get(pool)

    def on(self, pool: str) -> AbstractAsyncContextManager[MessageStore]:
        """An operation on internal queues of the pool: its context gives the pool's store."""
        return nullcontext(self[pool])

    def check_all(self) -> None:
        """Raise StorageUnavailable if a pool is away, for work that is of no use unless it is done on all."""
        for pool, reason in self.away.items():
            raise PoolAway(f"Pool {pool} gives no answer ({reason}): do it when it does")

    @contextmanager
    def tolerated(self, pool: str) -> Iterator[None]:
        """Work on all pools, in which one that gives no answer is passed over; not so the default one."""
        try:
            yield
        except StorageUnavailable:
            if pool == DEFAULT_POOL:
                raise

    def put(self, pool: str, store: MessageStore) -> None:
        """The pool's store answers."""
        store.clock = self.default.clock
        self._present[pool] = store
        self.away.pop(pool, None)

    def miss(self, pool: str, reason: str) -> None:
        """The pool's store gives no answer."""
        self._present.pop(pool, None)
        self.away[pool] = reason

    def forget(self, pool: str) -> None:
        """There is no such pool any more."""
        self._present.pop(pool, None)
        self.away.pop(pool, None)
        self.refusing.pop(pool, None)


async def diagnose_pools(stores: Stores) -> list[Finding]:
    """Findings about the registered pools, for an operator."""
    findings = [
        problem(
            f"pool {pool}",
            f"Its store can't be used: {reason}",
            "Start it, or correct the pool's URI; its queues are answered 503 until then",
        )
        for pool, reason in sorted(stores.away.items())
    ]
    for pool, store in stores.items():
        if pool != DEFAULT_POOL:
            with stores.tolerated(pool):
                found = await store.diagnose()
                findings.append(ok(f"pool {pool}", "Its store answers"))
                findings += [replace(each, check=f"pool {pool}") for each in found]
    return findings
