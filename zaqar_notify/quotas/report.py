"""Shows and changes the quotas of one project, for its operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from zaqar_notify.quotas.known import limits_from
from zaqar_notify.rules.names import check_project
from zaqar_notify.rules.quotas import NAMES, Limits, check_values
from zaqar_notify.storage.planes import Storage


class ShownQuota(msgspec.Struct, frozen=True):
    """A quota of a project. `limit` 0: none. `is_default`: the project has no value of its own."""

    name: str
    limit: int
    is_default: bool


async def report(storage: Storage, defaults: Limits, project: str) -> Sequence[ShownQuota]:
    """All quotas of the project, in their order."""
    own = await storage.control.quotas.get(check_project(project))
    limits = limits_from(defaults, own)
    return [ShownQuota(name, getattr(limits, name), name not in own) for name in NAMES]


async def change(storage: Storage, project: str, sent: Mapping[str, object]) -> None:
    """Give the project values of its own; None gives a quota back its default. All or none.

    Raises:
        ValidationFailed: A name or a value is wrong.
    """
    await storage.control.quotas.change(check_project(project), check_values(sent))
