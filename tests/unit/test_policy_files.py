"""Policy files: an operator's rules replace the shipped ones, and change with the file."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oslo_config import cfg
from oslo_policy import policy as oslo

from zaqar_notify.auth import Caller, Policy, Target, load_policy
from zaqar_notify.auth.checks import Checks, asked
from zaqar_notify.auth.policy_file import FilePolicy
from zaqar_notify.auth.rules import BLOCKS, RULES
from zaqar_notify.errors import StartRefused
from zaqar_notify.settings import Settings

OWN, OTHER = Target("p1", "q"), Target("p2", "q")

ZAQAR_SAMPLE = "".join(
    f'"{name}": "{check}"\n'
    for name, check in {**BLOCKS, **{name: rule.default for name, rule in RULES.items()}}.items()
    if not name.startswith(("tokens:", "quotas:"))
)


def caller(*roles: str, **fields: Any) -> Caller:
    return Caller("p1", roles=frozenset(roles), **{"how": "keystone", **fields})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "policy.yaml"


def policy_of(path: Path, text: str, **settings: object) -> Policy:
    path.write_text(text)
    return load_policy(Settings(policy_file=str(path), **settings))


def test_a_file_with_zaqar_s_defaults_permits_what_the_shipped_defaults_do(path: Path) -> None:
    filed, shipped = policy_of(path, ZAQAR_SAMPLE), load_policy(Settings())

    for name in RULES:
        for roles in ((), ("member",), ("admin",)):
            who = caller(*roles)
            assert filed.permits(who, name, OWN) == shipped.permits(who, name, OWN), name


def test_an_old_file_of_zaqar_s_works_unchanged(path: Path) -> None:
    policy = policy_of(
        path,
        """{
            "default": "rule:admin_or_owner",
            "claims:get_all": "",
            "claims:create": "",
            "pools:create": "rule:context_is_admin",
            "health:get": "rule:context_is_admin"
        }""",
    )

    assert policy.permits(caller(), "claims:create", OWN)
    assert not policy.permits(caller(), "health:get", OWN)
    assert policy.permits(caller("admin"), "health:get", OWN)


@pytest.mark.parametrize(
    ("check", "roles", "permitted"),
    [
        ('""', (), True),
        ('"@"', (), True),
        ('"!"', ("admin",), False),
        ('"role:Writer"', ("writer",), True),
        ('"role:writer"', ("reader",), False),
        ('"role:a and not role:b"', ("a",), True),
        ('"role:a and not role:b"', ("a", "b"), False),
        ('"(role:a or role:b) and role:c"', ("a",), False),
        ('"role:a or role:b and role:c"', ("a",), True),
        ('[["role:a", "role:b"], ["role:c"]]', ("a", "b"), True),
        ('[["role:a", "role:b"], ["role:c"]]', ("a",), False),
        ('"rule:context_is_admin"', ("admin",), True),
        ('"is_admin:True"', ("Admin",), True),
        ('"is_admin:True"', ("member",), False),
        ('"user_id:u1"', (), True),
        ('"user_id:u2"', (), False),
    ],
)
def test_a_check_looks_at_the_caller(
    path: Path, check: str, roles: tuple[str, ...], permitted: bool
) -> None:
    policy = policy_of(path, f'"messages:create": {check}')

    assert policy.permits(caller(*roles, user="u1"), "messages:create", OWN) is permitted


@pytest.mark.parametrize(
    ("check", "target", "permitted"),
    [
        ("rule:admin_or_owner", OWN, True),
        ("rule:admin_or_owner", OTHER, False),
        ("project_id:%(project_id)s", OWN, True),
        ("'public':%(queue_name)s", Target("p1", "public"), True),
        ("'public':%(queue_name)s", OWN, False),
        ("'public':%(queue_name)s", Target("p1"), False),
        ("role:%(queue_name)s", Target("p1", "Team"), True),
    ],
)
def test_a_check_looks_at_the_project_and_the_queue(
    path: Path, check: str, target: Target, permitted: bool
) -> None:
    policy = policy_of(path, f'"queues:get": "{check}"')

    assert policy.permits(caller("team"), "queues:get", target) is permitted


def test_json_is_read_too(path: Path) -> None:
    policy = policy_of(path, '{\n  "default": "!",\n  "queues:get": "role:x"\n}\n')

    assert not policy.permits(caller(), "queues:get", OWN)
    assert policy.permits(caller(), "queues:create", OWN)


def test_a_rule_that_zaqar_has_not_follows_the_file_s_rule(path: Path) -> None:
    policy = policy_of(path, '"subscription:update": "role:x"')

    assert not policy.permits(caller(), "subscription:get_secret", OWN)
    assert policy.permits(caller("x"), "subscription:get_secret", OWN)


def test_a_rule_that_the_file_leaves_out_has_the_shipped_default(path: Path) -> None:
    policy = policy_of(path, '"queues:get": ""', policy_defaults="strict")

    assert policy.permits(caller(), "queues:get", OWN)
    assert not policy.permits(caller(), "queues:create", OWN)
    assert policy.permits(caller("member"), "queues:create", OWN)


def test_a_tenant_token_is_judged_by_the_strict_rules_whatever_the_file_says(path: Path) -> None:
    policy = policy_of(path, '"messages:create": ""\n"messages:get_all": "!"')
    reader = caller("reader", how="token", is_strict=True)

    assert not policy.permits(reader, "messages:create", OWN)
    assert policy.permits(reader, "messages:get_all", OWN)


def test_an_operator_without_authentication_is_an_admin_of_the_file(path: Path) -> None:
    policy = policy_of(path, '"health:get": "role:admin"')

    assert policy.permits(caller("member", "operator", how="none"), "health:get", OWN)
    assert not policy.permits(caller("operator"), "health:get", OWN)


def test_a_signature_has_no_roles(path: Path) -> None:
    policy = policy_of(path, '"messages:create": "role:member"')
    signed = caller(how="signature")

    assert not policy.permits(signed, "messages:create", OWN)
    assert policy.permits(signed, "messages:get_all", OWN)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('"queues:get": "role:a"\n  x', "line 2: it is not YAML"),
        ("queues:get: @", "line 1: it is not YAML"),
        ("- a", 'it must be lines like "messages:create": "role:member"'),
        (
            "# nothing\n\n'queue:create': ''",
            'line 3: "queue:create" is no rule of this service; did you',
        ),
        ('"queues:get": ""\n"queues:get": "!"', 'line 2: "queues:get" is there twice'),
        ("queues:get: 5", 'line 1: "queues:get" needs a check in quotes'),
        ("queues:get:", 'line 1: "queues:get" needs a check in quotes'),
        ("queues:get: !", 'line 1: "queues:get" needs a check in quotes'),
        ("queues:get: [[5]]", 'line 1: "queues:get" needs a check in quotes'),
        (
            "queues:get: 'role:a orr role:b'",
            "line 1: \"queues:get\": 'role:a orr role:b' is no check",
        ),
        ("queues:get: '(role:a'", "line 1: \"queues:get\": '(role:a' is no check"),
        ("queues:get: admin", "line 1: \"queues:get\": 'admin' is no check"),
        ("\nqueues:get: 'rule:nowhere'", 'line 2: "queues:get" refers to the rule "nowhere"'),
        ("a: 'rule:b'\nb: 'not rule:a'", "these rules refer to each other in a circle"),
        ("context_is_admin: 'is_admin:True'", "these rules refer to each other in a circle"),
        ("queues:get: 'http://host/check'", "would ask another server at every request"),
        ("queues:get: 'roll:admin'", "'roll' is no kind of check; the kinds are role, rule"),
        ("queues:get: 'domain_id:x'", "'domain_id' is no kind of check"),
        ("queues:get: 'user_id:%(user_id)s'", "asks for something else than %(project_id)s"),
        ("queues:get: 'user_id:100%'", "asks for something else than %(project_id)s"),
        ("queues:get: '" + "not (" * 2000 + "@" + ")" * 2000 + "'", "more than 50 levels"),
        ("[" * 5000, "it is not YAML"),
    ],
)
def test_a_bad_file_stops_the_start_with_the_setting_and_the_line(
    path: Path, text: str, complaint: str
) -> None:
    with pytest.raises(StartRefused) as refused:
        policy_of(path, text)

    assert f"ZAQAR_POLICY_FILE={str(path)!r} can't be used: " in str(refused.value)
    assert complaint in str(refused.value)


@pytest.mark.parametrize("content", [b"\xff", None])
def test_an_unreadable_file_stops_the_start(path: Path, content: bytes | None) -> None:
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(StartRefused, match=r"ZAQAR_POLICY_FILE=.* (UTF-8|No such file)"):
        load_policy(Settings(policy_file=str(path)))


def test_a_block_that_another_rule_refers_to_may_have_any_name(path: Path) -> None:
    policy = policy_of(path, '"team:writers": "role:w"\n"queues:create": "rule:team:writers"')

    assert policy.permits(caller("w"), "queues:create", OWN)


def test_without_oslo_policy_the_start_says_what_to_install(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "oslo_policy", None)
    for name in ("policy_file", "checks"):
        monkeypatch.delitem(sys.modules, f"zaqar_notify.auth.{name}", raising=False)

    with pytest.raises(StartRefused, match=r"pip install 'zaqar-notify\[openstack\]'"):
        policy_of(path, "")


def replace(path: Path, text: str) -> None:
    """Replace the file as editors and Kubernetes do: by another one."""
    other = path.with_suffix(".new")
    other.write_text(text)
    os.replace(other, path)


async def test_a_changed_file_counts_and_a_bad_one_changes_nothing(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    policy = policy_of(path, '"queues:get": "role:a"')
    assert isinstance(policy, FilePolicy)
    seen = []
    for text in ('"queues:get": "role:b"', '"queues:get": ', None, '"queues:get": "role:c"'):
        if text is None:
            os.unlink(path)
        else:
            replace(path, text)
        await policy.look()
        await policy.look()
        seen += [role for role in "abc" if policy.permits(caller(role), "queues:get", OWN)]

    assert seen == ["b", "b", "b", "c"]
    assert [getattr(record, "action", None) for record in caplog.records] == [
        "policy_changed",
        "policy_refused",
        "policy_refused",
        "policy_changed",
    ]
    assert "line 1" in caplog.records[1].error  # type: ignore[attr-defined]


CHECKS = st.recursive(
    st.sampled_from(
        [
            "@",
            "!",
            "role:a",
            "role:B",
            "role:%(queue_name)s",
            "rule:block",
            "project_id:p1",
            "project_id:%(project_id)s",
            "user_id:%(queue_name)s",
            "user_id:u1",
            "'q':%(queue_name)s",
            "True:%(queue_name)s",
        ]
    ),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(" ".join),
        inner.map("({})".format),
        inner.map("not ({})".format),
    ),
    max_leaves=8,
)


def as_oslo(texts: Mapping[str, str], who: Caller, target: Target) -> bool:
    enforcer = oslo.Enforcer(cfg.ConfigOpts(), use_conf=False)
    enforcer.set_rules(oslo.Rules.from_dict(dict(texts)))
    creds = {"roles": list(who.roles), "project_id": who.project, "user_id": who.user}
    about = {"project_id": target.project_id}
    if target.queue_name is not None:
        about["queue_name"] = target.queue_name
    return bool(enforcer.enforce("rule", about, creds))


@given(
    rule=CHECKS,
    block=CHECKS.filter(lambda text: "rule:" not in text),
    roles=st.frozensets(st.sampled_from(["a", "b", "q"])),
    target=st.sampled_from([OWN, OTHER, Target("p1"), Target("p1", "u1"), Target("p1", "True")]),
)
def test_checks_mean_what_they_mean_to_oslo_policy(
    rule: str, block: str, roles: frozenset[str], target: Target
) -> None:
    texts = {"rule": rule, "block": block}
    who = caller(*roles, user="u1")

    assert Checks({**BLOCKS, **texts})["rule"](asked(who, target)) == as_oslo(texts, who, target)


@pytest.mark.parametrize(
    ("text", "is_so"),
    [
        ("role:a or not role:b", True),
        ("rule:context_is_admin", True),
        ("is_admin:True", True),
        ("@", True),
        ("rule:admin_or_owner", False),
        ("role:%(queue_name)s", False),
        ("user_id:u1", False),
        ("'a':a", False),
    ],
)
def test_a_decision_is_kept_by_roles_only_for_checks_that_read_nothing_else(
    text: str, is_so: bool
) -> None:
    assert Checks({**BLOCKS, "rule": text}).reads_only_roles("rule") is is_so
