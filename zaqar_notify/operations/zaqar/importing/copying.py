"""An import, step by step: queues, then the subscriptions of all message stores."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from zaqar_notify.delivery.kinds import Kinds
from zaqar_notify.errors import StartRefused
from zaqar_notify.operations.admin import Site
from zaqar_notify.operations.zaqar.importing.addresses import Address, Addresses, address_of
from zaqar_notify.operations.zaqar.importing.found import FoundPool, Odd
from zaqar_notify.operations.zaqar.importing.report import Report
from zaqar_notify.operations.zaqar.importing.sources import Store, open_store
from zaqar_notify.operations.zaqar.importing.writing import Writing


async def copied(
    site: Site,
    kinds: Kinds,
    addresses: Addresses,
    *,
    is_dry: bool,
    progress: Callable[[int], None],
) -> Report:
    """Copy what Zaqar's databases have into our store; with `is_dry` only say what would be copied.

    Args:
        progress: Told how many things were seen so far.

    Raises:
        StartRefused: Zaqar's databases can't be read.
        StorageUnavailable: Our own store is away.
    """
    report = Report(is_dry)
    writing = Writing(site.storage, site.settings, kinds, site.clock, report, progress)
    async with _opened(addresses.management) as management:
        await management.check(has_queues=True)
        async with _opened(addresses.messages) as messages:
            await messages.check(has_queues=False)
            await writing.queues(management.queues())
            await writing.subscriptions(messages.subscriptions(now=site.clock.now()))
        async for pool in management.pools():
            if isinstance(pool, Odd):
                report.note_left_out(pool)
            else:
                await _subscriptions_of(pool, addresses, writing, report, site)
    return report


async def _subscriptions_of(
    pool: FoundPool, addresses: Addresses, writing: Writing, report: Report, site: Site
) -> None:
    database = pool.options.get("database") or addresses.messages.database
    try:
        address = address_of(pool.uri, database=database, tls=addresses.messages.tls)
        async with _opened(address) as store:
            await writing.subscriptions(store.subscriptions(now=site.clock.now()))
    except StartRefused as error:
        reason = f"its subscriptions can't be read: {error}"
        report.note_left_out(Odd("pool", "", pool.name, reason))


@asynccontextmanager
async def _opened(address: Address) -> AsyncIterator[Store]:
    store = open_store(address)
    try:
        yield store
    finally:
        await store.close()
