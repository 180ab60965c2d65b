"""An import, step by step: pools and flavors, queues, the subscriptions of all message stores, and their messages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, closing
from typing import TypeAlias, TypeVar

from zaqar_notify.delivery.kinds import Kinds
from zaqar_notify.errors import StartRefused
from zaqar_notify.models import FlavorRef, QueueRef, Subscription
from zaqar_notify.operations.admin import Site
from zaqar_notify.operations.zaqar.importing.addresses import Address, address_of
from zaqar_notify.operations.zaqar.importing.api import ZaqarApi
from zaqar_notify.operations.zaqar.importing.found import FoundPool, FoundQueue, Odd
from zaqar_notify.operations.zaqar.importing.messages import Copying
from zaqar_notify.operations.zaqar.importing.pooling import Pooling
from zaqar_notify.operations.zaqar.importing.report import Report
from zaqar_notify.operations.zaqar.importing.sources import Store, open_store
from zaqar_notify.operations.zaqar.importing.wish import Api, Wish
from zaqar_notify.operations.zaqar.importing.writing import Writing

Progress: TypeAlias = Callable[[str], Callable[[int], None]]
"""Of a sentence with `{}` for a number, makes what is told the number now and then."""
Thing = TypeVar("Thing", FoundPool, FlavorRef)
Found = TypeVar("Found", FoundQueue, Subscription)


async def copied(site: Site, kinds: Kinds, wish: Wish, progress: Progress) -> Report:
    """Copy what a Zaqar has into our store.

    Raises:
        StartRefused: Zaqar's databases can't be read, or its API gives no answer.
        StorageUnavailable: Our own store is away.
    """
    async with AsyncExitStack() as stack:
        return await _Import(site, kinds, wish, progress, stack).run()


class _Import:
    def __init__(
        self, site: Site, kinds: Kinds, wish: Wish, progress: Progress, stack: AsyncExitStack
    ) -> None:
        self._site = site
        self._wish = wish
        self._stack = stack
        self._report = Report(wish.is_dry, wish.replaces)
        self._progress = progress
        self._pooling = Pooling(site, self._report)
        self._places: dict[QueueRef, str] = {}
        self._writing = Writing(
            site,
            kinds,
            self._report,
            progress("{} queues and subscriptions seen so far …"),
            pool_of=self._places.get,
        )

    async def run(self) -> Report:
        """All of it, in an order in which nothing is made before what it needs."""
        management = await self._open(self._wish.addresses.management, has_queues=True)
        stores = [await self._open(self._wish.addresses.messages)]
        pools = await self._all(management.pools())
        stores += await self._open_pools(pools)
        await self._take_pools(management, pools)
        await self._writing.queues(self._of_project(management.queues()))
        for store in stores:
            found = store.subscriptions(now=self._site.clock.now())
            await self._writing.subscriptions(self._of_project(found))
        if self._wish.api is not None:
            await self._messages(self._wish.api, management, stores)
        return self._report

    async def _messages(self, api: Api, management: Store, stores: Sequence[Store]) -> None:
        """Each queue of each store: a queue that Zaqar placed anew may have left messages in another one."""
        with closing(ZaqarApi(api)) as zaqar:
            copying = Copying(
                self._site,
                zaqar,
                self._report,
                rate=self._wish.rate,
                is_dry=self._wish.is_dry,
                progress=self._progress("{} messages copied so far …"),
            )
            async for found in self._of_project(management.queues()):
                if isinstance(found, FoundQueue) and self._writing.has_messages(found.ref):
                    for store in stores:
                        await copying.queue(found.ref, store)

    async def _open(
        self, address: Address, *, has_queues: bool = False, may_be_empty: bool = False
    ) -> Store:
        store = open_store(address)
        self._stack.push_async_callback(store.close)
        await store.check(has_queues=has_queues, may_be_empty=may_be_empty)
        return store

    async def _take_pools(self, management: Store, pools: Sequence[FoundPool]) -> None:
        """Pools, flavors, and the places of queues: they are of all projects."""
        if not pools:
            return
        flavors = await self._all(management.flavors())
        await self._pooling.take(pools, flavors, self._wish.addresses.messages)
        async for ref, pool in management.catalogue():
            if self._pooling.has(pool):
                self._places[ref] = pool

    async def _all(self, found: AsyncIterator[Thing | Odd]) -> list[Thing]:
        """All that can be read; what can't is told."""
        things = []
        async for each in found:
            if isinstance(each, Odd):
                self._report.note_left_out(each)
            else:
                things.append(each)
        return things

    async def _open_pools(self, pools: Sequence[FoundPool]) -> list[Store]:
        """The stores of pools; one that can't be read is told."""
        stores = []
        for pool in pools:
            try:
                stores.append(await self._open(self._address_of(pool), may_be_empty=True))
            except StartRefused as error:
                reason = f"its subscriptions and messages can't be read: {error}"
                self._report.note_left_out(Odd("pool", "", pool.name, reason))
        return stores

    def _address_of(self, pool: FoundPool) -> Address:
        """The pool's options win over those of the configuration."""
        default = self._wish.addresses.messages
        database = pool.options.get("database") or default.database
        return address_of(pool.uri, database=database, tls=default.tls)

    async def _of_project(self, found: AsyncIterator[Found | Odd]) -> AsyncIterator[Found | Odd]:
        """Those of the project that is wished for."""
        only = self._wish.only_project
        async for each in found:
            if only is None or _project_of(each) == only:
                yield each


def _project_of(found: FoundQueue | Subscription | Odd) -> str:
    if isinstance(found, Odd):
        return found.project
    return found.ref.project if isinstance(found, FoundQueue) else found.queue.project
