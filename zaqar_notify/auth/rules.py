"""The rules of all operations, by Zaqar's names, with their shipped defaults.

`api` says which operations a rule guards: each operation there names its rule. A rule without operations here is one
of Zaqar's that an operator's policy file may have.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

import msgspec

from zaqar_notify.models import SCOPES

EVERYONE = ""
ADMIN = "role:admin"
ADMIN_OR_OWNER = "rule:admin_or_owner"


class Scope(IntEnum):
    """The rights of a caller in its project; `OPERATE` holds in every project. Each includes those before."""

    READ = 1
    WRITE = 2
    ADMINISTER = 3
    OPERATE = 4

    @property
    def role(self) -> str:
        """The role that gives it to a tenant token, or to a caller without authentication."""
        return SCOPES[self - 1]


STRICT_CHECKS: Mapping[Scope, str] = {
    Scope.READ: f"{ADMIN} or ((role:member or role:reader) and project_id:%(project_id)s)",
    Scope.WRITE: f"{ADMIN} or (role:member and project_id:%(project_id)s)",
    Scope.ADMINISTER: ADMIN,
    Scope.OPERATE: ADMIN,
}
"""The strict defaults as an OpenStack policy file has them, where `admin` is a role of the cloud."""


class Rule(msgspec.Struct, frozen=True):
    """A rule. `default` is its check under the defaults `zaqar`; `scope` is the least scope under `strict`."""

    name: str
    scope: Scope
    default: str = EVERYONE

    def check(self, *, is_strict: bool) -> str:
        """The shipped default, in the language of policy files."""
        return STRICT_CHECKS[self.scope] if is_strict else self.default


BLOCKS: Mapping[str, str] = {
    "context_is_admin": ADMIN,
    "admin_or_owner": "is_admin:True or project_id:%(project_id)s",
}
"""Building blocks: they guard no operation, other rules refer to them."""
FORMER = frozenset({"claims:get_all"})
"""Names in old files of Zaqar that guard nothing, there as here."""


def _rules(kind: str, scope: Scope, verbs: str, default: str = EVERYONE) -> list[Rule]:
    return [Rule(f"{kind}:{verb}", scope, default) for verb in verbs.split()]


# A caller that may give a pre-signed URL away may also revoke it: `queues:share` is both. A rule that Zaqar does not have
# follows one that it has, so that a policy file made for Zaqar restricts it, too. The signing secret of a
# subscription is no reading: its holder can forge notifications.
RULES: Mapping[str, Rule] = {
    rule.name: rule
    for rule in (
        *_rules("queues", Scope.READ, "get_all get stats"),
        *_rules("queues", Scope.WRITE, "create update delete purge share"),
        *_rules("messages", Scope.READ, "get_all get"),
        *_rules("messages", Scope.WRITE, "create delete delete_all"),
        *_rules("claims", Scope.READ, "get"),
        *_rules("claims", Scope.WRITE, "create update delete"),
        *_rules("subscription", Scope.READ, "get_all get"),
        *_rules("subscription", Scope.WRITE, "create update delete confirm"),
        *_rules("subscription", Scope.READ, "get_undelivered", "rule:messages:get_all"),
        *_rules("subscription", Scope.READ, "get_deliveries get_stats", "rule:messages:get_all"),
        *_rules(
            "subscription",
            Scope.WRITE,
            "get_secret rotate_secret pause resume replay test",
            "rule:subscription:update",
        ),
        *_rules("subscription", Scope.READ, "get_public_key", "rule:subscription:get"),
        *_rules("suppressions", Scope.READ, "get_all", "rule:subscription:get_all"),
        *_rules("suppressions", Scope.WRITE, "delete", "rule:subscription:update"),
        *_rules("queues", Scope.WRITE, "redrive", "rule:queues:update"),
        *_rules("replays", Scope.READ, "get_all get", "rule:subscription:get"),
        *_rules("replays", Scope.WRITE, "delete", "rule:subscription:update"),
        *_rules("topics", Scope.READ, "get_all get stats"),
        *_rules("topics", Scope.WRITE, "create update delete purge"),
        *_rules("topics", Scope.WRITE, "share", "rule:queues:share"),
        *_rules("ping", Scope.READ, "get"),
        *_rules("health", Scope.OPERATE, "get", ADMIN),
        *_rules("pools", Scope.OPERATE, "get_all create get update delete", ADMIN),
        *_rules("moves", Scope.OPERATE, "get_all get", "rule:pools:get"),
        *_rules("moves", Scope.OPERATE, "create delete", "rule:pools:update"),
        *_rules("flavors", Scope.READ, "get_all get"),
        *_rules("flavors", Scope.OPERATE, "create update delete", ADMIN),
        *_rules("tokens", Scope.ADMINISTER, "get_all create delete", ADMIN),
        *_rules("quotas", Scope.READ, "get", ADMIN_OR_OWNER),
        *_rules("quotas", Scope.OPERATE, "update", ADMIN),
    )
}
