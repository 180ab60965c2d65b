"""Keystone, the identity service of OpenStack clouds, as one source of callers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from zaqar_notify.auth.keystone.account import Account, read_account
from zaqar_notify.clock import Clock
from zaqar_notify.errors import StartRefused
from zaqar_notify.settings import Settings
from zaqar_notify.storage.planes import Storage

if TYPE_CHECKING:
    from zaqar_notify.auth.keystone.delegations import KeystoneDelegations
    from zaqar_notify.auth.keystone.validator import Keystone

__all__ = [
    "Account",
    "asked_keystone",
    "delegations_of",
    "keystone_of",
    "open_keystone",
    "read_account",
]

EXTRA = "pip install 'zaqar-notify[openstack]'"


def open_keystone(settings: Settings) -> Keystone:
    """The validator of Keystone's tokens.

    Raises:
        StartRefused: A setting is missing or wrong, or the packages for it are not installed.
    """
    # Only processes with Keystone load its packages.
    try:
        from zaqar_notify.auth.keystone.validator import Keystone

        account = read_account(settings)
    except ModuleNotFoundError as error:
        raise StartRefused(f"Keystone needs the package {error.name}: {EXTRA}") from error
    return Keystone(
        account,
        cache_seconds=settings.keystone_cache_seconds,
        timeout_seconds=settings.keystone_timeout_seconds,
        most_waiting=settings.most_waiting_for_callers,
        trust_targets=settings.trust_targets,
    )


def keystone_of(settings: Settings) -> Keystone | None:
    """As `open_keystone`; None: these settings believe no token of Keystone."""
    return open_keystone(settings) if "keystone" in settings.auth else None


@asynccontextmanager
async def asked_keystone(settings: Settings) -> AsyncIterator[Keystone | None]:
    """The validator of `keystone_of`, which is closed at the end.

    Raises:
        StartRefused: As `open_keystone`.
    """
    keystone = keystone_of(settings)
    try:
        yield keystone
    finally:
        if keystone is not None:
            await keystone.close()


def delegations_of(
    keystone: Keystone | None, storage: Storage, clock: Clock
) -> KeystoneDelegations | None:
    """The trusts that subscriptions have; None: there is no Keystone."""
    if keystone is None:
        return None
    from zaqar_notify.auth.keystone.delegations import KeystoneDelegations

    return KeystoneDelegations(keystone.trusts, storage, clock)
