"""The registered pools, as a process follows them: their stores are opened, tried again while they are away, and closed.

A pool takes new queues only some seconds after its registration, when each process on the control store knows that
there are pools; a process that has not read the list for a while makes no new queues.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta

from zaqar_notify.clock import running_seconds
from zaqar_notify.errors import NoPoolFits, StartRefused, StorageUnavailable
from zaqar_notify.models import FlavorRef, Pool
from zaqar_notify.rules.uris import hidden
from zaqar_notify.storage.base import MessageStore
from zaqar_notify.storage.ending import end
from zaqar_notify.storage.internal import DEFAULT_POOL
from zaqar_notify.storage.pools import Pools, Registered
from zaqar_notify.storage.stores import Stores

logger = logging.getLogger(__name__)

LOOK_SECONDS = 3.0
"""Between two looks at the list, and between two questions to a pool's store whether it answers."""
FRESH_SECONDS = 8.0
"""A process with an older list makes no new queues."""
WITHOUT_POOLS_SECONDS = 45.0
"""A process that found no pool registered uses the default one for so long without a look: an election of MongoDB may take
some seconds. Moves begin later than that after the first registration."""
TAKES_QUEUES_AFTER = timedelta(seconds=10)
"""From its registration on: longer than a list counts as fresh."""
ANSWER_SECONDS = 3.0
"""Within which a store answers that is not away."""
LONGEST_PAUSE_SECONDS = 15.0
"""Between two attempts at a store that is away."""
FIRST_ATTEMPT_SECONDS = 5.0
BELIEVED_SECONDS = 4 * 3600.0
"""For so long a remembered place is believed; the catalogue keeps the entry of a queue that is gone for a day."""

Open = Callable[[str], Awaitable[MessageStore]]
"""Opens the store that a pool's URI names; raises StartRefused if that can't be used."""


class OpenPools:
    """Of one process. `stores` has those that answer."""

    def __init__(self, pools: Pools, stores: Stores, open_: Open, *, is_shared: bool) -> None:
        """`is_shared`: other processes may be on the control store."""
        self.stores = stores
        self.registered = Registered()
        self.on_doubt: Callable[[], None] = _ignore
        """Is called when the places of queues may be others than those that are remembered: when the first pool is
        registered, when one goes, and from time to time."""
        self._pools = pools
        self._open = open_
        self.is_shared = is_shared
        self._read_at = self._believed_since = time.monotonic()
        self.without_pools_until = 0.0
        """By `running_seconds`: for so long it is known that no queue leaves the default pool."""
        self._kept: dict[str, _KeptPool] = {}
        self._closing: set[asyncio.Task[None]] = set()
        """Of stores whose pools are gone."""
        self._looking = asyncio.Lock()
        self._following: asyncio.Task[None] | None = None

    @property
    def is_any(self) -> bool:
        """Whether pools are registered; while there are none, all queues are on the default one."""
        return bool(self.registered.pools)

    def has(self, pool: str) -> bool:
        """Whether there is such a pool, by the list that was read last."""
        return pool == DEFAULT_POOL or pool in self.registered.pools

    def keeps(self, pool: str) -> bool:
        """Whether there is such a pool, and it is not about to be removed, by the list that was read last."""
        return pool == DEFAULT_POOL or (
            self.has(pool) and not self.registered.pools[pool].is_leaving
        )

    async def begin(self) -> None:
        """Read the list, and follow it until `close`.

        Raises:
            StorageUnavailable: The control store gave no answer.
        """
        await self.look()
        self._following = asyncio.create_task(self._follow())

    async def look(self) -> None:
        """Read the list now. The stores of new pools are open afterwards, unless that takes long.

        Raises:
            StorageUnavailable: The control store gave no answer.
        """
        async with self._looking:
            await self._look()
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_ATTEMPT_SECONDS):
                for kept in list(self._kept.values()):
                    await kept.attempted.wait()

    async def _look(self) -> None:
        began = time.monotonic()
        registered = await self._pools.read()
        if began < self._read_at:
            return  # A look that began later was answered before, and knows more.
        before, self.registered, self._read_at = self.registered, registered, began
        if not registered.pools:
            self.without_pools_until = running_seconds() - (time.monotonic() - began)
            self.without_pools_until += WITHOUT_POOLS_SECONDS
        gone = [name for name, kept in self._kept.items() if _differs(kept.pool, registered)]
        # Not waited for: a store that is away takes its time.
        closing = {name: self._kept.pop(name).end() for name in gone}
        for name, pool in registered.pools.items():
            if name not in self._kept:
                former = closing.get(name)
                self._kept[name] = _KeptPool(pool, self.stores, self._open, after=former)
        self._closing = {task for task in self._closing if not task.done()} | {*closing.values()}
        if (
            bool(before.pools) < self.is_any
            or gone
            or began - self._believed_since > BELIEVED_SECONDS
        ):
            self._believed_since = began
            self.on_doubt()

    def check_fresh(self) -> None:
        """Raise StorageUnavailable if there may be pools of which this process does not know."""
        age = time.monotonic() - self._read_at
        if self.is_shared and age > FRESH_SECONDS:
            raise StorageUnavailable(
                f"The list of pools was read {age:.0f} s ago: no new queues until the control store answers"
            )

    def choose(self, flavor: FlavorRef | None, *, now: datetime) -> str:
        """The pool for a new queue: at random among those of the flavor that take writes, in proportion to their weights.

        Raises:
            StorageUnavailable: No pool of the flavor takes queues.
        """
        since = now - TAKES_QUEUES_AFTER if self.is_shared else now
        fit = [
            pool
            for pool in self.registered.pools.values()
            if pool.flavor == flavor
            and pool.weight
            and not pool.is_leaving
            and pool.registered_at <= since
            and pool.name in self.stores
            and pool.name not in self.stores.refusing
        ]
        if fit:
            [chosen] = random.choices(fit, [pool.weight for pool in fit])  # noqa: S311
            return chosen.name
        if flavor is None:
            return DEFAULT_POOL
        raise NoPoolFits(f"No pool of flavor {flavor.name} takes new queues now")

    async def close(self) -> None:
        """Close the stores of all pools but the default one."""
        if self._following is not None:
            await end(self._following)
        ending = [kept.end() for kept in self._kept.values()]
        self._kept.clear()
        await asyncio.gather(*ending, *self._closing)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.look()
            except StorageUnavailable as error:
                logger.debug(
                    "The list of pools could not be read",
                    extra={"action": "storage_unavailable", "error": str(error)},
                )


class _KeptPool:
    """The store of one pool: a task opens it, and asks it from time to time."""

    def __init__(
        self, pool: Pool, stores: Stores, open_: Open, *, after: asyncio.Task[None] | None
    ) -> None:
        """`after` closes the store that the pool had before, which may be the same one."""
        self.pool = pool
        self.attempted = asyncio.Event()
        self._stores = stores
        self._open = open_
        self._store: MessageStore | None = None
        self._is_away = False
        self._is_over = False
        stores.miss(pool.name, "its store is not open yet")
        self._keeping = asyncio.create_task(self._keep(after))

    def end(self) -> asyncio.Task[None]:
        """Give the store to nobody any more, and close it in the task that this returns."""
        self._is_over = True
        self._stores.forget(self.pool.name)
        self._keeping.cancel()
        self.attempted.set()
        return asyncio.create_task(self._close())

    async def _close(self) -> None:
        await end(self._keeping)
        if self._store is not None:
            self._store.stop_waiting()
            await self._store.close()

    async def _keep(self, after: asyncio.Task[None] | None) -> None:
        if after is not None:
            await asyncio.wait([after])
        pause = LOOK_SECONDS
        while True:
            store, failure = None, ""
            try:
                store = await self._ask()
            except Exception as error:  # Of a driver that we need not know: the other pools go on.
                failure = refusal(error, self.pool.uri or "") or "its store gives no answer"
            if self._is_over:
                return  # A library may take the cancellation for a failed connection.
            if store is None:
                self._miss(failure)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            else:
                self._found(store, await _refusal_of_writes(store))
                pause = LOOK_SECONDS
            self.attempted.set()
            await asyncio.sleep(pause)

    async def _ask(self) -> MessageStore:
        if self._store is None:
            if self.pool.uri is None:
                raise StartRefused("its URI is encrypted under a key that the settings lack")
            self._store = await self._opened(self.pool.uri)
        async with asyncio.timeout(ANSWER_SECONDS):
            await self._store.ping()
        return self._store

    async def _opened(self, uri: str) -> MessageStore:
        """The store, if it is the one that was registered: an empty one in its place would seem to have lost everything."""
        store = await self._open(uri)
        try:
            if self.pool.identity not in ("", await store.identity()):
                raise StartRefused(
                    "another store than the registered one is at its URI: restore that one, or register this one "
                    "under another name"
                )
        except BaseException:
            await store.close()
            raise
        return store

    def _found(self, store: MessageStore, refused: str | None) -> None:
        self._stores.put(self.pool.name, store)
        self._note_refusal(refused)
        if self._is_away:
            self._is_away = False
            logger.warning(
                "A pool's store answers again",
                extra={"action": "pool_back", "pool": self.pool.name},
            )

    def _note_refusal(self, refused: str | None) -> None:
        name, refusing = self.pool.name, self._stores.refusing
        if refused is None:
            refusing.pop(name, None)
        elif name not in refusing:
            logger.error(
                "A pool's store refuses writes: new queues go to other pools",
                extra={"action": "pool_refuses", "pool": name, "error": refused},
            )
            refusing[name] = refused

    def _miss(self, reason: str) -> None:
        self._stores.miss(self.pool.name, reason)
        if not self._is_away:
            self._is_away = True
            logger.error(
                "A pool's store gives no answer: its queues are answered 503",
                extra={"action": "pool_away", "pool": self.pool.name, "error": reason},
            )


async def _refusal_of_writes(store: MessageStore) -> str | None:
    """The reason why the store acknowledges no writes; None: it does. One that takes long may be busy."""
    with suppress(TimeoutError):
        async with asyncio.timeout(ANSWER_SECONDS):
            try:
                await store.prove()
            except StorageUnavailable as error:
                return str(error)
    return None


def refusal(error: Exception, uri: str) -> str:
    """The sentence of a store that can't be opened, for a pool's URI instead of the setting's, without its password."""
    sentence = str(error).removeprefix("ZAQAR_STORE_URI: ").replace("ZAQAR_STORE_URI", "the URI")
    return hidden(sentence, uri)


def _differs(pool: Pool, registered: Registered) -> bool:
    """Whether the pool is gone, or its store another one."""
    present = registered.pools.get(pool.name)
    return present is None or (present.uri, present.options) != (pool.uri, pool.options)


def _ignore() -> None:
    """Does nothing."""
