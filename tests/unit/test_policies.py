"""The shipped policies: who may do what, by roles."""

from __future__ import annotations

from typing import Any

import pytest

from zaqar_notify.auth import Caller, Target
from zaqar_notify.auth.policies import ShippedPolicy
from zaqar_notify.auth.rules import ADMIN, ADMIN_OR_OWNER, BLOCKS, EVERYONE, RULES, Scope
from zaqar_notify.settings import Settings

OWN, OTHER = Target("p1", "q"), Target("p2", "q")
ZAQAR = ShippedPolicy(Settings())
STRICT = ShippedPolicy(Settings(policy_defaults="strict"))

OPEN_IN_ZAQAR = {
    "queues": "get_all create get update delete stats purge share",
    "messages": "get_all create get delete delete_all",
    "claims": "create get update delete",
    "subscription": "get_all create get update delete confirm",
    "topics": "get_all create get update delete stats purge",
    "ping": "get",
    "flavors": "get_all get",
}
OF_ADMINS_IN_ZAQAR = {
    "health": "get",
    "pools": "get_all create get update delete",
    "flavors": "create update delete",
}


def names(kinds: dict[str, str]) -> list[str]:
    return [f"{kind}:{verb}" for kind, verbs in kinds.items() for verb in verbs.split()]


def caller(*roles: str, **fields: Any) -> Caller:
    return Caller("p1", roles=frozenset(roles), **fields)


def token(scope: str) -> Caller:
    return caller(scope, how="token", is_strict=True)


def permitted(policy: ShippedPolicy, who: Caller, target: Target = OWN) -> set[str]:
    return {name for name in RULES if policy.permits(who, name, target)}


def rules_up_to(scope: Scope) -> set[str]:
    return {rule.name for rule in RULES.values() if rule.scope <= scope}


@pytest.mark.parametrize("how", ["proxy", "keystone"])
def test_zaqar_s_rules_have_zaqar_s_defaults(how: str) -> None:
    anyone, admin = caller(how=how), caller("Admin", how=how)

    assert permitted(ZAQAR, anyone) >= set(names(OPEN_IN_ZAQAR))
    assert permitted(ZAQAR, anyone).isdisjoint(names(OF_ADMINS_IN_ZAQAR))
    assert permitted(ZAQAR, admin) == permitted(ZAQAR, admin, OTHER) == set(RULES)
    assert permitted(ZAQAR, anyone, OTHER) == set()


def test_a_rule_that_zaqar_has_not_follows_one_that_it_has_or_asks_for_an_admin() -> None:
    of_zaqar = {*names(OPEN_IN_ZAQAR), *names(OF_ADMINS_IN_ZAQAR)}

    assert {RULES[name].default for name in RULES.keys() - of_zaqar} <= {
        *(f"rule:{name}" for name in of_zaqar),
        ADMIN,
        ADMIN_OR_OWNER,
    }


@pytest.mark.parametrize("policy", [ZAQAR, STRICT])
@pytest.mark.parametrize("scope", list(Scope))
def test_a_tenant_token_has_its_scope_whatever_the_defaults(
    policy: ShippedPolicy, scope: Scope
) -> None:
    assert permitted(policy, token(scope.role)) == rules_up_to(scope)


@pytest.mark.parametrize("scope", list(Scope))
def test_only_an_operator_s_token_reaches_another_project(scope: Scope) -> None:
    reached = permitted(ZAQAR, token(scope.role), OTHER)

    assert reached == (set(RULES) if scope is Scope.OPERATE else set())


@pytest.mark.parametrize(
    ("roles", "scope"), [("reader", Scope.READ), ("Member", Scope.WRITE), ("admin", Scope.OPERATE)]
)
def test_strict_defaults_go_by_the_cloud_s_roles(roles: str, scope: Scope) -> None:
    who = caller(roles, "other", how="keystone")

    assert permitted(STRICT, who) == rules_up_to(scope)
    assert permitted(STRICT, who, OTHER) == (set(RULES) if scope is Scope.OPERATE else set())


def test_strict_defaults_permit_nothing_without_a_known_role() -> None:
    assert permitted(STRICT, caller("other", how="keystone")) == set()


@pytest.mark.parametrize("policy", [ZAQAR, STRICT])
def test_a_cloud_s_role_operator_is_none_of_ours(policy: ShippedPolicy) -> None:
    assert not policy.permits(caller("operator", how="keystone"), "health:get", OWN)
    assert policy.permits(caller("member", "operator", how="none"), "health:get", OWN)
    assert not policy.permits(caller("member", how="none"), "health:get", OWN)


@pytest.mark.parametrize("policy", [ZAQAR, STRICT])
def test_a_signature_reads_and_writes_and_never_administers(policy: ShippedPolicy) -> None:
    signed = caller(how="signature", signed_paths=("/v2/queues/q/messages",))

    assert policy.permits(signed, "messages:create", OWN)
    assert policy.permits(signed, "messages:get_all", OWN)
    assert permitted(policy, signed) <= rules_up_to(Scope.WRITE)


def test_another_project_s_quotas_are_an_admin_s() -> None:
    assert ZAQAR.permits(caller(how="keystone"), "quotas:get", OWN)
    assert not ZAQAR.permits(caller(how="keystone"), "quotas:get", OTHER)
    assert ZAQAR.permits(caller("admin", how="keystone"), "quotas:get", OTHER)


@pytest.mark.parametrize("policy", [ZAQAR, STRICT])
def test_an_unknown_rule_permits_nothing(policy: ShippedPolicy) -> None:
    assert not policy.permits(caller("admin", how="keystone"), "queues:fly", OWN)
    assert not policy.permits(token("operator"), "queues:fly", OWN)


def test_every_default_is_one_that_the_shipped_policy_understands() -> None:
    known = {EVERYONE, ADMIN, *(f"rule:{name}" for name in (*RULES, *BLOCKS))}

    assert {rule.default for rule in RULES.values()} <= known
