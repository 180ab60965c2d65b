"""A walk over every action, as each kind of caller that must not get through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from api import v2
from api.push.surface import ACTIONS
from tests.api.conftest import Api, StartApi, make_token
from tests.push.conftest import Client, Connect, Reply
from zaqar_notify.auth.rules import RULES, Scope

FIELDS: Mapping[str, dict[str, Any]] = {
    "message_post": {"messages": [{"body": 1, "ttl": 60}]},
    "message_get": {"message_id": "f" * 24},
    "message_get_many": {"message_ids": ["f" * 24]},
    "message_delete": {"message_id": "f" * 24},
    "message_delete_many": {"message_ids": ["f" * 24]},
    "claim_get": {"claim_id": "f" * 24},
    "claim_update": {"claim_id": "f" * 24},
    "claim_delete": {"claim_id": "f" * 24},
    "subscription_create": {"subscriber": "https://example.org/x"},
    "subscription_get": {"subscription_id": "f" * 24},
    "subscription_delete": {"subscription_id": "f" * 24},
}
"""The fields of actions that need more than a queue."""


async def replies_of(client: Client, **headers: str | None) -> dict[str, Reply]:
    return {
        name: await client.ask(name, headers=headers, queue_name="q", **FIELDS.get(name, {}))
        for name in ACTIONS
    }


@pytest.fixture
async def place(start_api: StartApi) -> Api:
    return await start_api(auth="token", signed_url_secrets="secret")


async def as_holder_of(place: Api, connect: Connect, **token: Any) -> Client:
    return await connect(place, headers={"X-Auth-Token": await make_token(place, **token)})


def test_every_action_has_the_rule_of_its_http_operation() -> None:
    operations = {
        (method, resource.path): operation.rule
        for resource in v2.RESOURCES
        for method, operation in resource.by_method.items()
    }

    rules = {name: each.rule for name, each in ACTIONS.items()}

    assert rules == {
        name: operations[each.method, each.resource.path] for name, each in ACTIONS.items()
    }
    assert set(rules.values()) <= RULES.keys()


async def test_without_credentials_every_action_is_refused(place: Api, connect: Connect) -> None:
    replies = await replies_of(await connect(place))

    assert {name: one.status for name, one in replies.items() if one.status != 403} == {}


@pytest.mark.parametrize("signature", ["", "0" * 64, f"1.{'0' * 64}"])
async def test_a_bad_signature_opens_no_action(
    place: Api, connect: Connect, signature: str
) -> None:
    forged = {
        "URL-Signature": signature,
        "URL-Methods": "GET,HEAD,POST,PUT,PATCH,DELETE",
        "URL-Paths": "/v2",
        "URL-Expires": "2101-01-01T00:00:00",
    }

    replies = await replies_of(await connect(place), **forged)

    assert {name: one.status for name, one in replies.items() if one.status != 403} == {}


async def test_another_project_s_token_is_refused_where_the_frame_names_this_one(
    place: Api, connect: Connect
) -> None:
    theirs = await as_holder_of(place, connect, project="p2", scope="admin")

    replies = await replies_of(theirs)

    assert {name: one.status for name, one in replies.items() if one.status != 403} == {}


@pytest.mark.parametrize("scope", [Scope.READ, Scope.WRITE])
async def test_a_lesser_scope_does_no_more_than_over_http(
    place: Api, connect: Connect, scope: Scope
) -> None:
    lesser = await as_holder_of(place, connect, scope=scope.role)

    replies = await replies_of(lesser)

    refused = {name for name, one in replies.items() if one.status == 403}
    assert refused == {
        name for name, each in ACTIONS.items() if each.rule and RULES[each.rule].scope > scope
    }


async def test_a_token_for_other_queues_opens_no_action_on_this_one(
    place: Api, connect: Connect
) -> None:
    confined = await as_holder_of(place, connect, scope="admin", queue="other*")

    replies = await replies_of(confined)

    assert {name: one.status for name, one in replies.items() if one.status != 403} == {}


async def test_no_action_reaches_a_thing_of_another_project(place: Api, connect: Connect) -> None:
    own = await as_holder_of(place, connect, scope="admin")
    await own.ask("message_post", queue_name="q", messages=[{"body": "secret word"}])
    theirs = await as_holder_of(place, connect, project="p2", scope="admin")

    replies = await replies_of(theirs, **{"X-Project-ID": "p2"})

    assert [name for name, one in replies.items() if "secret word" in str(one.body)] == []
    counts = await own.ask("queue_get_stats", queue_name="q")
    assert counts.body["messages"]["total"] == 1
