"""An operator's wishes for an import."""

from __future__ import annotations

import msgspec

from zaqar_notify.models import undisclosed
from zaqar_notify.operations.zaqar.importing.addresses import Addresses


class Api(msgspec.Struct, frozen=True):
    """Its address. With a token of Keystone's it shows the token's project only."""

    url: str
    token: str = ""

    __repr__ = undisclosed


class Wish(msgspec.Struct):
    """Asks for an import.

    Args:
        api: Zaqar's API; None: no messages are copied.
        only_project: None: all projects.
        rate: Most messages a second.
        replaces: Queues' metadata and subscriptions that differ here become as they are in Zaqar.
        is_dry: Write nothing, and report what would be imported.
    """

    addresses: Addresses
    api: Api | None = None
    only_project: str | None = None
    rate: int = 1000
    is_dry: bool = False
    replaces: bool = False
