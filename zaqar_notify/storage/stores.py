"""The message stores of this process that can be asked now, by the names of their pools."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext

from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.storage.base import MessageStore
from zaqar_notify.storage.internal import DEFAULT_POOL


class Stores(Mapping[str, MessageStore]):
    """Without those that are away: to ask for one raises StorageUnavailable at once, with the reason."""

    def __init__(self, default: MessageStore) -> None:
        self.default = default
        self.away: dict[str, str] = {}
        """Of the pools that can't be asked now, the reason."""
        self._present = {DEFAULT_POOL: default}

    def __getitem__(self, pool: str) -> MessageStore:
        try:
            return self._present[pool]
        except KeyError:
            reason = self.away.get(pool, "it is not known to this process")
            raise StorageUnavailable(f"Pool {pool}: {reason}") from None

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
