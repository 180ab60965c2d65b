"""The gate: every operation names its rule, and passes the policy before anything is done."""

from __future__ import annotations

import pytest

from tests.api.conftest import PROJECT, StartApi
from tests.api.surfaces import surfaces_with
from zaqar_notify.auth import Caller, Target
from zaqar_notify.auth.rules import RULES
from zaqar_notify.settings import Settings

MEMBER = frozenset({"member"})
UNGUARDED = {"/v1.1", "/v1.1/", "/v2", "/v2/"}
"""As with Zaqar: a caller that names a project may read the home document."""

OPERATIONS = [
    (resource, method, operation)
    for surface in surfaces_with(Settings(admin_mode=True))
    for resource in surface.resources
    for method, operation in resource.operations.items()
]


def test_every_operation_that_asks_for_identity_names_a_rule() -> None:
    without = {
        resource.path
        for resource, _, operation in OPERATIONS
        if operation.rule is None and not resource.is_open
    }

    assert without == UNGUARDED


def test_an_open_resource_names_no_rule_because_it_knows_no_caller() -> None:
    assert not [each for each, _, operation in OPERATIONS if each.is_open and operation.rule]


def test_claims_and_pops_take_turns_as_reads_do() -> None:
    answered = {
        (resource.path, method)
        for resource, method, operation in OPERATIONS
        if method not in ("GET", "HEAD") and operation.takes_messages
    }
    queue = "queues/{queue_name}"

    assert answered == {
        *((f"{prefix}/{queue}/claims", "POST") for prefix in ("/v1.1", "/v2")),
        *((f"{prefix}/{queue}/messages", "DELETE") for prefix in ("/v1.1", "/v2")),
        ("/v2/topics/{topic_name}/messages", "DELETE"),
    }


def test_a_surface_s_paths_begin_with_its_prefix() -> None:
    for surface in surfaces_with(Settings()):
        assert all(surface.is_below(resource.path) for resource in surface.resources)


def test_every_rule_that_an_operation_names_is_in_the_table() -> None:
    assert {operation.rule for _, _, operation in OPERATIONS if operation.rule} <= RULES.keys()


class OnlyReading:
    """Permits requests that read, and notes the questions."""

    def __init__(self) -> None:
        self.asked: list[tuple[Caller, str, Target]] = []

    def permits(self, caller: Caller, rule: str, target: Target) -> bool:
        self.asked.append((caller, rule, target))
        return rule.endswith((":get", ":get_all"))


async def test_what_the_policy_does_not_permit_is_refused_and_not_done(start_api: StartApi) -> None:
    policy = OnlyReading()
    api = await start_api(policy=policy)

    refused = await api.put("/v2/queues/q")
    listed = await api.get("/v2/queues")

    assert (refused.status, refused.title) == (403, "Not authorized")
    assert "queues:create" in refused.json["description"]
    assert listed.json["queues"] == []
    assert policy.asked == [
        (Caller(PROJECT, roles=MEMBER), "queues:create", Target(PROJECT, "q")),
        (Caller(PROJECT, roles=MEMBER), "queues:get_all", Target(PROJECT)),
    ]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("HEAD", "/v2/queues/q", 200),
        ("OPTIONS", "/v2/queues/q", 200),
        ("TRACE", "/v2/queues/q", 405),
        ("GET", "/v2/", 200),
        ("GET", "/healthz", 204),
        ("POST", "/v2/queues/q/messages?limit=x", 403),
    ],
)
async def test_the_policy_is_asked_once_the_request_is_known_to_be_one(
    start_api: StartApi, method: str, path: str, status: int
) -> None:
    api = await start_api(policy=OnlyReading())

    assert (await api.call(method, path)).status == status
