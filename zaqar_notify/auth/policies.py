"""The policy: it permits operations to callers. Rules have the names of Zaqar's, such as `messages:create`."""

from __future__ import annotations

from typing import Protocol

import msgspec

from zaqar_notify.auth.callers import Caller


class Target(msgspec.Struct, frozen=True):
    """The project and the queue that an operation is about; `queue_name` is None for lists of queues."""

    project_id: str
    queue_name: str | None = None


class Policy(Protocol):
    def permits(self, caller: Caller, rule: str, target: Target) -> bool:
        """Whether the rule permits the operation on the target to the caller. It is asked for every request, so it
        answers from memory."""


class _Everything:
    """Permits every operation to every caller."""

    def permits(self, caller: Caller, rule: str, target: Target) -> bool:
        return True


EVERYTHING: Policy = _Everything()
