"""Keystone, the identity service of OpenStack clouds, as one source of callers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from zaqar_notify.auth.keystone.account import Account, read_account
from zaqar_notify.errors import StartRefused
from zaqar_notify.settings import Settings

if TYPE_CHECKING:
    from zaqar_notify.auth.keystone.validator import Keystone

__all__ = ["Account", "asked_keystone", "open_keystone", "read_account"]

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
    )


@asynccontextmanager
async def asked_keystone(settings: Settings) -> AsyncIterator[Keystone | None]:
    """The validator while it is used; None: these settings believe no token of Keystone.

    Raises:
        StartRefused: As `open_keystone`.
    """
    if "keystone" not in settings.auth:
        yield None
        return
    keystone = open_keystone(settings)
    try:
        yield keystone
    finally:
        await keystone.close()
