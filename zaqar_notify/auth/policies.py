"""What callers may do. Rules have the names of Zaqar's policies, such as `messages:create`."""

from __future__ import annotations

from typing import Protocol

import msgspec

from zaqar_notify.auth.callers import Caller


class Target(msgspec.Struct, frozen=True):
    """What an operation is about; `queue_name` is None where it is about no queue in particular."""

    project_id: str
    queue_name: str | None = None


class Policy(Protocol):
    def permits(self, caller: Caller, rule: str, target: Target) -> bool:
        """Whether the caller may do to the target what the rule guards. Quick, without I/O."""


class _Everything:
    """Everybody may do everything."""

    def permits(self, caller: Caller, rule: str, target: Target) -> bool:
        return True


EVERYTHING: Policy = _Everything()
