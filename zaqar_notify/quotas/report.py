"""Shows and changes the quotas of one project, for its operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from zaqar_notify.errors import ValidationFailed
from zaqar_notify.quotas.known import limits_from
from zaqar_notify.rules.names import check_project
from zaqar_notify.rules.quotas import (
    NAMES,
    QUEUES,
    STORED_BYTES,
    SUBSCRIPTIONS,
    Limits,
    check_values,
)
from zaqar_notify.storage.planes import Storage


class ShownQuota(msgspec.Struct, frozen=True):
    """A quota of a project. `limit` 0: none. `is_default`: the project has no value of its own. `used` is None for
    quotas of what is under way, and where it is not known."""

    name: str
    limit: int
    is_default: bool
    used: int | None


async def count_all(storage: Storage, project: str, *, now: datetime) -> Mapping[str, int]:
    """The use of the project, by quota. This reads all messages of the project."""
    return {
        QUEUES: await storage.queues.count_all(project),
        SUBSCRIPTIONS: await storage.control.subscriptions.count(project, now=now),
        STORED_BYTES: await storage.stored_bytes(project, now=now),
    }


async def report(
    storage: Storage, defaults: Limits, project: str, *, used: Mapping[str, int | None]
) -> Sequence[ShownQuota]:
    """All quotas of the project, in their order."""
    own = await storage.control.quotas.get(_checked(project))
    limits = limits_from(defaults, own)
    return [
        ShownQuota(name, getattr(limits, name), name not in own, used.get(name)) for name in NAMES
    ]


async def change(storage: Storage, project: str, sent: Mapping[str, object]) -> None:
    """Give the project values of its own; None gives a quota back its default. All or none.

    Raises:
        ValidationFailed: A name or a value is wrong.
    """
    await storage.control.quotas.change(_checked(project), check_values(sent))


def _checked(project: str) -> str:
    if not project:
        raise ValidationFailed("The name of a project has at least one character")
    return check_project(project)
