"""Registers Zaqar's pools and flavors here, and says on which pool a queue is to be.

A pool of ours is a database of its own on the server of Zaqar's pool, with the same name, weight and flavor.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl, urlsplit

from zaqar_notify.errors import NotifyError, StorageUnavailable
from zaqar_notify.models import FlavorRef, Pool
from zaqar_notify.operations.admin import Site
from zaqar_notify.operations.zaqar.importing.addresses import REDIS, Address, address_of
from zaqar_notify.operations.zaqar.importing.found import FoundFlavor, FoundPool, Odd
from zaqar_notify.operations.zaqar.importing.report import Report
from zaqar_notify.operations.zaqar.stores import OUR_DATABASE, our_uri
from zaqar_notify.pools import AskedPool, make_flavor, register_pool
from zaqar_notify.storage.open_pools import TAKES_QUEUES_AFTER

_NO_DATABASE_NAME = re.compile("[^A-Za-z0-9_-]")
MOST_DATABASE_CHARACTERS = 63


class Pooling:
    """Takes pools, and then flavors."""

    def __init__(self, site: Site, report: Report) -> None:
        self._site = site
        self._report = report
        self._here: Mapping[str, Pool] = {}

    async def take(
        self, pools: Sequence[FoundPool], flavors: Sequence[FoundFlavor], messages: Address
    ) -> None:
        """Register what is not here yet; afterwards pools take queues.

        Args:
            messages: The message store of Zaqar's configuration, whose options the pools share.
        """
        owners = self._owners(flavors)
        self._here = await self._registered()
        for pool in pools:
            flavor = None if pool.flavor is None else owners.get(pool.flavor)
            await self._pool(pool, flavor, messages)
        if self._report.pools.imported and not self._report.is_dry:
            await self._settle()
        self._here = await self._registered()
        for ref in owners.values():
            await self._flavor(ref, [each.name for each in pools if each.flavor == ref.name])

    def has(self, pool: str) -> bool:
        """Whether there is a pool of this name here."""
        return pool in self._here

    def _owners(self, flavors: Sequence[FoundFlavor]) -> Mapping[str, FlavorRef]:
        """The flavors by name. Zaqar's pools know a flavor by its name only; here it is of one project."""
        of_name = defaultdict[str, list[FlavorRef]](list)
        for ref in sorted(flavors):
            of_name[ref.name].append(ref)
        for first, *others in of_name.values():
            for other in others:
                reason = f"its pools are of the flavor of project {first.project}"
                self._report.note_left_out(Odd("flavor", other.project, other.name, reason))
        return {name: refs[0] for name, refs in of_name.items()}

    async def _pool(self, found: FoundPool, flavor: FlavorRef | None, messages: Address) -> None:
        present = self._here.get(found.name)
        if present is not None:
            self._compare(found, flavor, present)
            return
        weight = found.weight
        if found.flavor is not None and flavor is None:
            weight = 0
            reason = f"there is no flavor {found.flavor}: it has weight 0, so it takes no queues"
            self._report.note_kept(Odd("pool", "", found.name, reason))
        asked = AskedPool(pool_uri(found, messages), weight, flavor)
        site = self._site
        try:
            if not self._report.is_dry:
                await register_pool(
                    site.storage, site.settings, found.name, asked, now=site.clock.now()
                )
        except StorageUnavailable:
            raise
        except NotifyError as error:
            self._report.note_left_out(Odd("pool", "", found.name, str(error)))
            return
        self._report.pools.imported += 1

    def _compare(self, found: FoundPool, flavor: FlavorRef | None, present: Pool) -> None:
        if (found.weight, flavor) == (present.weight, present.flavor):
            self._report.pools.present += 1
            return
        reason = "its weight or its flavor here differs from Zaqar's"
        self._report.note_kept(Odd("pool", "", found.name, reason))

    async def _flavor(self, ref: FlavorRef, names: Sequence[str]) -> None:
        storage = self._site.storage
        registered = await storage.control.pools.read()
        if ref in registered.flavors:
            self._report.flavors.present += 1
            return
        known = [name for name in names if name in self._here]
        try:
            if not self._report.is_dry:
                await make_flavor(storage, ref, known)
        except StorageUnavailable:
            raise
        except NotifyError as error:
            self._report.note_left_out(Odd("flavor", ref.project, ref.name, str(error)))
            return
        self._report.flavors.imported += 1

    async def _settle(self) -> None:
        """Until other processes know the new pools."""
        if self._site.storage.open_pools.is_shared:
            await asyncio.sleep(TAKES_QUEUES_AFTER.total_seconds())

    async def _registered(self) -> Mapping[str, Pool]:
        return (await self._site.storage.control.pools.read()).pools


def pool_uri(found: FoundPool, messages: Address) -> str:
    """The URI of our pool. On Redis it has the database that Zaqar's pool has; the keys differ."""
    address = address_of(found.uri, tls=messages.tls)
    if address.kind != REDIS:
        database = _NO_DATABASE_NAME.sub("_", f"{OUR_DATABASE}_{found.name}")
        return our_uri(found.uri, database[:MOST_DATABASE_CHARACTERS], address.tls)
    parts = urlsplit(found.uri)
    options = dict(parse_qsl(parts.query))
    return f"{parts.scheme}://{parts.netloc}/{options.get('dbid', '0')}"
