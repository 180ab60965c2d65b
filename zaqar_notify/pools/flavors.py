"""Service functions for flavors: sets of pools with the same capabilities, of one project."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from msgspec.structs import replace

from zaqar_notify.errors import (
    FlavorDoesNotExist,
    FlavorNotChanged,
    FlavorRefused,
    ValidationFailed,
)
from zaqar_notify.models import FlavorRef
from zaqar_notify.pools.agreement import are_alike, capabilities_of, of_flavor
from zaqar_notify.pools.registering import change_registered
from zaqar_notify.rules.names import check_flavor_name
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.pools import Registered

MOST_FLAVORS = 1000


class FlavorView(msgspec.Struct, frozen=True):
    """A flavor with the names of its pools, in order, and their capabilities."""

    ref: FlavorRef
    pools: Sequence[str]
    capabilities: Sequence[str]


async def make_flavor(storage: Storage, ref: FlavorRef, pools: Sequence[str]) -> None:
    """Make a flavor of these pools; one of that name is replaced. Pools of other flavors change over to it.

    Raises:
        ValidationFailed: The name is none.
        FlavorRefused: The pools are none, unknown, or not alike.
    """
    check_flavor_name(ref.name)

    def made(before: Registered) -> Registered:
        if ref not in before.flavors and len(before.flavors) >= MOST_FLAVORS:
            raise ValidationFailed(f"There are {MOST_FLAVORS} flavors, the most that are allowed")
        return _with_pools(before, ref, pools, FlavorRefused)

    await change_registered(storage, made)


async def change_flavor(storage: Storage, ref: FlavorRef, pools: Sequence[str]) -> FlavorView:
    """Give a flavor these pools instead of its own, and return it.

    Raises:
        FlavorDoesNotExist: There is none of this name.
        FlavorNotChanged: The pools are unknown, or not alike.
        FlavorRefused: There are none.
    """

    def changed(before: Registered) -> Registered:
        _check_exists(before, ref)
        return _with_pools(before, ref, pools, FlavorNotChanged if pools else FlavorRefused)

    return _view(await change_registered(storage, changed), ref)


async def remove_flavor(storage: Storage, ref: FlavorRef) -> None:
    """Remove the flavor; its pools are of none then. No error when there is none."""

    def removed(before: Registered) -> Registered:
        if ref not in before.flavors:
            return before
        return replace(_without_pools(before, ref), flavors=before.flavors - {ref})

    await change_registered(storage, removed)


async def flavor_of(storage: Storage, ref: FlavorRef) -> FlavorView:
    """The flavor.

    Raises:
        FlavorDoesNotExist: There is none of this name.
    """
    registered = await storage.control.pools.read()
    _check_exists(registered, ref)
    return _view(registered, ref)


async def flavors_of(
    storage: Storage, project: str, marker: str | None, *, limit: int
) -> list[FlavorView]:
    """The project's flavors in the order of their names, after this one."""
    registered = await storage.control.pools.read()
    after = FlavorRef(project, marker or "")
    found = sorted(ref for ref in registered.flavors if ref.project == project and ref > after)
    return [_view(registered, ref) for ref in found[:limit]]


def _check_exists(registered: Registered, ref: FlavorRef) -> None:
    if ref not in registered.flavors:
        raise FlavorDoesNotExist(ref.name)


def _view(registered: Registered, ref: FlavorRef) -> FlavorView:
    pools = of_flavor(registered, ref)
    known = (capabilities_of(pool) for pool in pools)
    return FlavorView(
        ref,
        [pool.name for pool in pools],
        next((capabilities for capabilities in known if capabilities is not None), ()),
    )


def _with_pools(
    before: Registered,
    ref: FlavorRef,
    names: Sequence[str],
    refusal: Callable[[str, str], ValidationFailed],
) -> Registered:
    if not names:
        raise refusal(ref.name, "pool_list must name at least one pool")
    for name in names:
        if name not in before.pools:
            raise refusal(ref.name, f"Pool {name[:80]} does not exist")
    free = _without_pools(before, ref).pools
    pools = {
        name: replace(pool, flavor=ref) if name in names else pool for name, pool in free.items()
    }
    after = Registered(pools, before.flavors | {ref})
    if not are_alike(of_flavor(after, ref)):
        raise refusal(
            ref.name, "The pools have different capabilities: name pools of one kind of store"
        )
    return after


def _without_pools(before: Registered, ref: FlavorRef) -> Registered:
    pools = {
        name: replace(pool, flavor=None) if pool.flavor == ref else pool
        for name, pool in before.pools.items()
    }
    return replace(before, pools=pools)
