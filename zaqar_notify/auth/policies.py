"""The policy: it permits operations to callers. Rules have the names of Zaqar's, such as `messages:create`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import msgspec

from zaqar_notify.auth.callers import Caller, How
from zaqar_notify.auth.confinement import check_queue
from zaqar_notify.auth.rules import ADMIN_OR_OWNER, EVERYONE, RULES, Scope
from zaqar_notify.errors import RuleNotPermitted, StartRefused
from zaqar_notify.settings import Settings

_SCOPES = {scope.role: scope for scope in Scope}
_OF_THE_PROJECT = (EVERYONE, ADMIN_OR_OWNER)
_CLOUD_SCOPES = {"reader": Scope.READ, "member": Scope.WRITE, "admin": Scope.OPERATE}


class Target(msgspec.Struct, frozen=True):
    """The project and the queue that an operation is about; `queue_name` is None for lists of queues."""

    project_id: str
    queue_name: str | None = None


class Policy(Protocol):
    def permits(self, caller: Caller, rule: str, target: Target) -> bool:
        """Whether the rule permits the operation on the target to the caller. It is asked for every request, so it
        answers from memory."""


@runtime_checkable
class Follows(Protocol):
    """A policy that changes while the process runs."""

    async def follow(self) -> None:
        """Follow the changes until this is cancelled."""


def load_policy(settings: Settings) -> Policy:
    """The policy that the settings name.

    Raises:
        StartRefused: The policy file, or a package that it needs, can't be used.
    """
    shipped = ShippedPolicy(settings)
    if not settings.policy_file:
        return shipped
    try:
        from zaqar_notify.auth.policy_file import FilePolicy
    except ModuleNotFoundError as error:
        raise StartRefused(
            f"ZAQAR_POLICY_FILE needs the package {error.name}: pip install 'zaqar-notify[openstack]'"
        ) from error
    return FilePolicy(Path(settings.policy_file), shipped)


@contextlib.asynccontextmanager
async def following(policy: Policy) -> AsyncIterator[None]:
    """Let the policy follow the changes of its file meanwhile."""
    if not isinstance(policy, Follows):
        yield
        return
    task = asyncio.create_task(policy.follow())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def check_right(policy: Policy, caller: Caller, rule: str, target: Target) -> None:
    """Refuse an operation that the caller has no right to.

    Raises:
        RuleNotPermitted: The policy does not permit it.
        QueueNotPermitted: The caller's token is confined to other queues.
    """
    if not policy.permits(caller, rule, target):
        raise RuleNotPermitted(rule, caller.roles)
    check_queue(caller, target.queue_name)


class ShippedPolicy:
    """The shipped defaults: Zaqar's, or the strict ones. A rule that is not in the table permits nothing."""

    def __init__(self, settings: Settings) -> None:
        self.is_strict = settings.policy_defaults == "strict"

    def permits(self, caller: Caller, rule: str, target: Target) -> bool:
        if self.is_strict or caller.is_strict:
            return _permits_strictly(caller, rule, target)
        check = _CHECKS.get(rule)
        if check in _OF_THE_PROJECT and target.project_id == caller.project:
            return True
        return check is not None and "admin" in openstack_roles(caller.how, caller.roles)


def _permits_strictly(caller: Caller, rule: str, target: Target) -> bool:
    known = RULES.get(rule)
    if known is None:
        return False
    scope = _scope(caller.how, caller.roles)
    if target.project_id != caller.project:
        return scope == Scope.OPERATE
    return scope >= known.scope


@lru_cache(maxsize=4096)
def _scope(how: How, roles: frozenset[str]) -> int:
    """The widest scope that the roles give; 0: none.

    A signature is the permission for what it was made for; the gate opens only reads and writes of a queue to it.
    """
    if how == "signature":
        return Scope.WRITE
    scopes = _SCOPES if how in ("none", "token") else _CLOUD_SCOPES
    return max((scopes.get(role.lower(), 0) for role in roles), default=0)


@lru_cache(maxsize=4096)
def openstack_roles(how: How, roles: frozenset[str]) -> frozenset[str]:
    """The roles as OpenStack's policies know them, in lower case. There, an operator of ours is an admin.

    A cloud may have a role `operator` of its own, which is none of ours.
    """
    known = frozenset(role.lower() for role in roles)
    if how in ("none", "token") and "operator" in known:
        return known | {"admin"}
    return known


def _followed(check: str) -> str:
    """The check that a reference to another rule stands for."""
    rule = RULES.get(check.removeprefix("rule:"))
    return check if rule is None else _followed(rule.default)


_CHECKS = {name: _followed(rule.default) for name, rule in RULES.items()}
"""Zaqar's defaults; each is `EVERYONE`, `ADMIN` or `ADMIN_OR_OWNER`."""
