"""The permissions of Keystone's roles: by Zaqar's defaults, by the strict ones, and by an operator's policy file."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from tests.api.conftest import Api, CountingDoorbell, running
from tests.cloud import Cloud
from tests.keystone import keystone
from tests.kinds import KINDS
from zaqar_notify.clock import SystemClock
from zaqar_notify.service import Service
from zaqar_notify.settings import Settings
from zaqar_notify.storage.registry import open_storage

REQUESTS = {
    "read": ("GET", "/v2/queues/q"),
    "write": ("PUT", "/v2/queues/q"),
    "operate": ("GET", "/v2/health"),
}
FILE = """
"team": "role:reader and not role:guest"
"queues:get": "rule:admin_or_owner"
"queues:create": "rule:team and 'q':%(queue_name)s"
"""


@cache
def token_of(role: str) -> str:
    """A token of a user with this role. Keystone takes a second to make both."""
    return keystone().token(keystone().user(role))


async def permitted(api: Api, role: str) -> set[str]:
    """The rules that permit a user with this role."""
    headers = {"X-Auth-Token": token_of(role), "X-Project-ID": None, "X-Roles": "admin"}
    replies = {name: await api.call(*asked, headers=headers) for name, asked in REQUESTS.items()}
    refused = {name for name, reply in replies.items() if reply.status == 403}
    assert all(replies[name].title == "Not authorized" for name in refused)
    assert all(replies[name].status < 300 for name in replies.keys() - refused)
    return set(replies) - refused


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (
            {},
            {
                "guest": {"read", "write"},
                "reader": {"read", "write"},
                "member": {"read", "write"},
                "admin": {"read", "write", "operate"},
            },
        ),
        (
            {"policy_defaults": "strict"},
            {
                "guest": set(),
                "operator": set(),
                "reader": {"read"},
                "member": {"read", "write"},
                "admin": {"read", "write", "operate"},
            },
        ),
        (
            {"policy_file": "policy.yaml"},
            {
                "guest": {"read"},
                "reader": {"read", "write"},
                "admin": {"read", "write", "operate"},
            },
        ),
    ],
    ids=["zaqar", "strict", "file"],
)
async def test_roles_of_keystone_permit_what_the_policy_says(
    cloud: Cloud,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    policy: dict[str, str],
    expected: dict[str, set[str]],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("policy.yaml").write_text(FILE)  # noqa: ASYNC240 - a test's own file
    settings = Settings(**cloud.settings, auth="keystone", admin_mode=True, **policy)
    storage = await open_storage(f"sqlite://{tmp_path}/store.db")
    service = Service(storage, settings, SystemClock(), CountingDoorbell(), KINDS)
    try:
        async with running(service, keystone=cloud.validator()) as api:
            found = {role: await permitted(api, role) for role in expected}
    finally:
        await storage.close()

    assert found == expected
