"""The security page's example of a policy file can be used, and means what the page says."""

from __future__ import annotations

from pathlib import Path

from tests.docs.pages import blocks, read, section
from zaqar_notify.auth import Caller, Target, load_policy
from zaqar_notify.settings import Settings


def test_the_example_of_a_policy_file_can_be_used(tmp_path: Path) -> None:
    [example] = blocks(section(read("security.md"), "## Roles and policies"), "yaml")
    path = tmp_path / "policy.yaml"
    path.write_text(example)
    policy = load_policy(Settings(policy_file=str(path)))

    def may(rule: str, queue: str, *roles: str) -> bool:
        caller = Caller("p1", roles=frozenset(roles), how="keystone")
        return policy.permits(caller, rule, Target("p1", queue))

    assert may("messages:create", "orders", "member")
    assert not may("messages:create", "orders", "member", "guest")
    assert may("messages:create", "inbox", "guest")
    assert not may("queues:delete", "orders", "member")
    assert may("queues:delete", "orders", "admin")
