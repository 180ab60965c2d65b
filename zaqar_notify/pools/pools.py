"""Service functions for pools: operators register stores, which take new queues by their weights."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import asdict, replace

from zaqar_notify.errors import (
    Conflict,
    PoolDoesNotExist,
    PoolExists,
    PoolInUse,
    PoolRefused,
    ValidationFailed,
)
from zaqar_notify.models import FlavorRef, JsonObject, Pool, undisclosed
from zaqar_notify.pools.agreement import are_alike, of_flavor, refuse_same_store, refuse_taken
from zaqar_notify.pools.connecting import identity_of
from zaqar_notify.pools.leaving import leaving
from zaqar_notify.pools.registering import change_registered
from zaqar_notify.rules.names import check_flavor_name, check_pool_name
from zaqar_notify.rules.uris import MASK, masked
from zaqar_notify.settings import Settings
from zaqar_notify.storage.internal import DEFAULT_POOL
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.pools import Registered

RESERVED = {
    DEFAULT_POOL: "that of the store of ZAQAR_STORE_URI",
    "catalog_reachable": "a field of the answer to /v2/health",
}
"""Names that no pool can have, with the reason."""
MOST_POOLS = 500
"""They are one document, which every process reads now and then."""
ENTRIES_AT_ONCE = 500
"""So many entries of the catalogue are read together."""


class AskedPool(msgspec.Struct, frozen=True):
    """A pool to be registered, or that is to take the place of the one of its name."""

    uri: str
    weight: int
    flavor: FlavorRef | None = None
    options: JsonObject = {}

    __repr__ = undisclosed


class PoolChange(msgspec.Struct, frozen=True):
    """New values of a pool; those that are unset stay."""

    uri: str | UnsetType = UNSET
    weight: int | UnsetType = UNSET
    flavor: FlavorRef | UnsetType | None = UNSET
    options: JsonObject | UnsetType = UNSET

    __repr__ = undisclosed


def shown_uri(pool: Pool) -> str:
    """The URI without its password."""
    return MASK if pool.uri is None else masked(pool.uri)


async def register_pool(
    storage: Storage, settings: Settings, name: str, asked: AskedPool, *, now: datetime
) -> None:
    """Register a store, once it was opened; a pool of that name is replaced, and keeps its queues.

    Raises:
        ValidationFailed: A name is none.
        PoolExists: Another pool has the URI.
        PoolRefused: The other pools of its flavor have other capabilities.
        PoolUnreachable: The store can't be opened.
    """
    check_pool_name(name)
    if name in RESERVED:
        raise ValidationFailed(f"The name {name} is {RESERVED[name]}; choose another name")

    def registered(before: Registered) -> Registered:
        former = before.pools.get(name)
        if former is None and len(before.pools) >= MOST_POOLS:
            raise ValidationFailed(f"There are {MOST_POOLS} pools, the most that are allowed")
        pool = Pool(
            name,
            _meant_uri(asked.uri, former),
            asked.weight,
            asked.options,
            asked.flavor,
            now if former is None else former.registered_at,
        )
        return _with(before, pool)

    await _put(storage, settings, name, registered)


async def change_pool(storage: Storage, settings: Settings, name: str, change: PoolChange) -> Pool:
    """Change a pool's values, and return it. The URI as it is shown, without its password, is no change.

    Raises:
        PoolDoesNotExist: There is no pool of this name.
        NotifyError: As `register_pool`.
    """

    def changed(before: Registered) -> Registered:
        former = _found(before, name)
        values = {each: value for each, value in asdict(change).items() if value is not UNSET}
        if isinstance(change.uri, str):
            values["uri"] = _meant_uri(change.uri, former)
        return _with(before, replace(former, is_leaving=False, **values))

    return await _put(storage, settings, name, changed)


async def remove_pool(storage: Storage, name: str, *, by_force: bool = False) -> None:
    """Remove the pool; no error when there is none. Its store stays as it is.

    Args:
        by_force: Also with queues, whose messages are lost to the service, and if its store is away.

    Raises:
        PoolInUse: It has queues, or jobs that are not done; or it is the last one of its flavor.
        StorageUnavailable: A store gave no answer, so it is not known whether the pool has any.
    """
    registered = await storage.control.pools.read()
    if name in registered.pools:
        _refuse_last(registered, registered.pools[name])
        if by_force:
            await change_registered(storage, lambda before: _without(before, name))
        else:
            async with leaving(storage, name):
                await change_registered(storage, lambda before: _without_leaving(before, name))
    await _give_to_default(storage, name)


async def _give_to_default(storage: Storage, name: str) -> None:
    """Without pools all queues are on the default pool, and the catalogue says so before there are pools again.

    Otherwise what is posted meanwhile would be hidden then. The removal is repeated if this breaks off.
    """
    if name == DEFAULT_POOL or (await storage.control.pools.read()).pools:
        return  # With other pools, the next post chooses one.
    catalogue, after = storage.control.catalogue, None
    while refs := await catalogue.of_pool(name, after=after, limit=ENTRIES_AT_ONCE):
        for ref in refs:
            await catalogue.move(ref, name, DEFAULT_POOL)
        after = refs[-1]


def _without_leaving(before: Registered, name: str) -> Registered:
    if name in before.pools and not before.pools[name].is_leaving:
        raise PoolInUse("The pool was changed while it was removed: repeat the request.")
    return _without(before, name)


def _without(before: Registered, name: str) -> Registered:
    if name in before.pools:
        _refuse_last(before, before.pools[name])
    pools = {other: pool for other, pool in before.pools.items() if other != name}
    return replace(before, pools=pools)


def _refuse_last(registered: Registered, pool: Pool) -> None:
    if pool.flavor is not None and len(of_flavor(registered, pool.flavor)) == 1:
        raise PoolInUse(
            f"This pool is used by flavors {pool.flavor.name}; It cannot be deleted. It is the last pool of the flavor: "
            "take it out of the flavor, or delete the flavor"
        )


async def pool_of(storage: Storage, name: str) -> Pool:
    """The pool of this name.

    Raises:
        PoolDoesNotExist: There is none.
    """
    return _found(await storage.control.pools.read(), name)


async def pools_after(storage: Storage, marker: str | None, *, limit: int) -> list[Pool]:
    """Pools in the order of their names, after this one."""
    pools = (await storage.control.pools.read()).pools
    return [pools[name] for name in sorted(pools) if name > (marker or "")][:limit]


async def _put(
    storage: Storage, settings: Settings, name: str, change: Callable[[Registered], Registered]
) -> Pool:
    """Make the change, once the pool's store was opened if it is another one. A refused change opens none."""
    before = await storage.control.pools.read()
    wanted, former = change(before).pools[name], before.pools.get(name)
    if wanted.uri is not None and (former is None or former.uri != wanted.uri):
        identity = await identity_of(wanted.uri, settings, storage.keys)
        if identity in storage.own_identities:
            raise PoolExists(DEFAULT_POOL)
        change = _identified(change, name, identity)
        if former is not None and former.identity != identity:
            async with _without_queues(storage, name):
                return (await change_registered(storage, change)).pools[name]
    return (await change_registered(storage, change)).pools[name]


def _identified(
    change: Callable[[Registered], Registered], name: str, identity: str
) -> Callable[[Registered], Registered]:
    """The change, with the identity of the pool's new store, which must be no other pool's."""

    def identified(before: Registered) -> Registered:
        after = change(before)
        refuse_same_store(after, name, identity)
        pool = replace(after.pools[name], identity=identity)
        return replace(after, pools={**after.pools, name: pool})

    return identified


@asynccontextmanager
async def _without_queues(storage: Storage, name: str) -> AsyncIterator[None]:
    """As `leaving`, for a pool that gets another store."""
    try:
        async with leaving(storage, name):
            yield
    except PoolInUse as error:
        raise Conflict(
            f"The URI names another store than the one that the pool is on. {error} Register the other store as a "
            "pool of its own"
        ) from error


def _with(before: Registered, pool: Pool) -> Registered:
    """All pools with this one, if it agrees with the others."""
    if pool.flavor is not None:
        check_flavor_name(pool.flavor.name)
    if pool.uri is not None:
        refuse_taken(before, pool.name, pool.uri)
    after = replace(before, pools={**before.pools, pool.name: pool})
    if pool.flavor is not None and not are_alike(of_flavor(after, pool.flavor)):
        raise PoolRefused(
            "The pool being added does not support the minimum set of capabilities: its store has other capabilities "
            f"than the other pools of the flavor {pool.flavor.name}"
        )
    return after


def _found(registered: Registered, name: str) -> Pool:
    if name not in registered.pools:
        raise PoolDoesNotExist(name)
    return registered.pools[name]


def _meant_uri(sent: str, former: Pool | None) -> str | None:
    """The URI that a caller means who may have read it without its password."""
    is_as_shown = former is not None and sent == shown_uri(former)
    return former.uri if former is not None and is_as_shown else sent
