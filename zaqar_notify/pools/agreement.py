"""The rules that span several pools: URIs are unique, and a flavor's pools have the same capabilities."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from zaqar_notify.errors import PoolExists, StartRefused
from zaqar_notify.models import FlavorRef, Pool
from zaqar_notify.storage.driver import Capability
from zaqar_notify.storage.pools import Registered
from zaqar_notify.storage.registry import driver_of


def capabilities_of(pool: Pool) -> Sequence[Capability] | None:
    """The promises of the pool's driver; None while nothing is known of it: its key or its driver is missing."""
    if pool.uri is None:
        return None
    try:
        promised = driver_of(pool.uri).capabilities
    except StartRefused:
        return None
    return [each for each in Capability if each in promised]


def are_alike(pools: Iterable[Pool]) -> bool:
    """Whether all of them, as far as they are known, have the same capabilities."""
    return len({tuple(known) for pool in pools if (known := capabilities_of(pool)) is not None}) < 2


def of_flavor(registered: Registered, flavor: FlavorRef) -> list[Pool]:
    """The pools of a flavor, by name."""
    return [pool for _, pool in sorted(registered.pools.items()) if pool.flavor == flavor]


def refuse_taken(registered: Registered, name: str, uri: str) -> None:
    """Refuse a URI that another pool has, whatever the account in it.

    Raises:
        PoolExists: One has.
    """
    for other in registered.pools.values():
        if other.name != name and other.uri is not None and _place(other.uri) == _place(uri):
            raise PoolExists(other.name)


def refuse_same_store(registered: Registered, name: str, identity: str) -> None:
    """Refuse a store that is another pool's under another URI.

    Raises:
        PoolExists: It is.
    """
    for other in registered.pools.values():
        if other.name != name and other.identity == identity:
            raise PoolExists(other.name)


def _place(uri: str) -> str:
    """The URI without user and password."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2].lower()).geturl()
