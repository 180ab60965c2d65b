"""Attributes of messages over HTTP: posted with version 2, and shown to clients of it that ask."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import Api

MESSAGES = "/v2/queues/q/messages"
ASKED = "attributes=true"
BLUE = {"colour": {"type": "String", "value": "blue"}}


async def post(api: Api, *messages: dict[str, Any]) -> list[str]:
    reply = await api.post(MESSAGES, {"messages": messages})
    assert reply.status == 201, reply
    return [href.rpartition("/")[2] for href in reply.json["resources"]]


async def test_who_asks_for_attributes_gets_them_in_every_reading(api: Api) -> None:
    [blue, plain] = await post(api, {"body": 1, "attributes": {"colour": "blue"}}, {"body": 2})

    pages = [
        await api.get(f"{MESSAGES}?echo=true&{ASKED}"),
        await api.get(f"{MESSAGES}?ids={blue},{plain}&{ASKED}"),
        await api.post(f"/v2/queues/q/claims?{ASKED}", {"ttl": 60, "grace": 60}),
    ]
    claim = await api.get(f"{pages[-1].headers['Location']}?{ASKED}")
    one = await api.get(f"{MESSAGES}/{blue}?{ASKED}")

    for page in (*pages, claim):
        assert [each["attributes"] for each in page.json["messages"]] == [BLUE, {}]
    assert one.json["attributes"] == BLUE
    assert f"&{ASKED}&marker=" in pages[0].json["links"][0]["href"]


async def test_popped_messages_have_them_too(api: Api) -> None:
    await post(api, {"body": 1, "attributes": {"colour": "blue"}})

    popped = await api.delete(f"{MESSAGES}?pop=1&{ASKED}")

    assert [each["attributes"] for each in popped.json["messages"]] == [BLUE]


async def test_others_see_messages_as_they_always_were(api: Api) -> None:
    [message_id] = await post(api, {"body": 1, "attributes": {"colour": "blue"}})

    for query in ("?echo=true", "?echo=true&attributes=false"):
        [message] = (await api.get(MESSAGES + query)).json["messages"]
        assert set(message) == {"id", "href", "ttl", "age", "body"}
    older = await api.get(f"/v1.1/queues/q/messages/{message_id}?{ASKED}")
    assert "attributes" not in older.json


async def test_version_1_1_ignores_attributes_as_any_unknown_field(api: Api) -> None:
    document = {"messages": [{"body": 1, "ttl": 60, "attributes": {"no name": True}}]}

    assert (await api.post("/v1.1/queues/q/messages", document)).status == 201

    [message] = (await api.get(f"{MESSAGES}?echo=true&{ASKED}")).json["messages"]
    assert message["attributes"] == {}


async def test_wrong_attributes_are_400_and_nothing_is_posted(api: Api) -> None:
    refused = await api.post(
        MESSAGES, {"messages": [{"body": 1}, {"body": 2, "attributes": {"a b": "x"}}]}
    )

    assert refused.status == 400
    assert "'a b' is no name" in refused.json["description"]
    assert (await api.get(f"{MESSAGES}?echo=true")).json["messages"] == []


@pytest.mark.parametrize("attributes", [None, {}])
async def test_no_attributes_are_like_none_sent(api: Api, attributes: object) -> None:
    await post(api, {"body": 1, "attributes": attributes})

    [message] = (await api.get(f"{MESSAGES}?echo=true&{ASKED}")).json["messages"]
    assert message["attributes"] == {}


async def test_attributes_count_into_the_size_of_a_post(api: Api) -> None:
    await api.put("/v2/queues/q", {"_max_messages_post_size": 100})

    refused = await api.post(MESSAGES, {"messages": [{"body": 1, "attributes": {"a": "x" * 100}}]})

    assert refused.status == 400
    assert "takes at most 100 bytes" in refused.json["description"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"_filter_policy": {"a": "x"}}, "_filter_policy: a must be an array"),
        ({"_filter_policy_scope": "Body"}, "_filter_policy_scope must be MessageAttributes or"),
    ],
)
async def test_a_wrong_filter_policy_is_400_when_it_is_made_and_when_it_is_changed(
    api: Api, options: dict[str, Any], complaint: str
) -> None:
    path = "/v2/queues/q/subscriptions"
    made = await api.post(path, {"subscriber": "http://example.com/", "options": {}})

    refused = [
        await api.post(path, {"subscriber": "http://example.com/other", "options": options}),
        await api.patch(f"{path}/{made.json['subscription_id']}", {"options": options}),
    ]

    assert [reply.status for reply in refused] == [400, 400]
    assert all(complaint in reply.json["description"] for reply in refused)


async def test_a_scope_without_a_policy_is_warned_about(api: Api) -> None:
    options = {"_filter_policy_scope": "MessageBody"}
    reply = await api.post(
        "/v2/queues/q/subscriptions", {"subscriber": "http://example.com/", "options": options}
    )

    assert reply.status == 201
    assert "_filter_policy_scope has no effect without _filter_policy" in reply.headers["Warning"]


async def test_a_client_can_not_say_where_a_dead_letter_came_from(api: Api) -> None:
    forged = {"dead_letter.queue": "orders", "dead_letter.subscription": "s"}

    reply = await api.post(MESSAGES, {"messages": [{"body": 1, "attributes": forged}]})

    assert reply.status == 400
    assert "dead_letter.queue is the service's to set" in reply.json["description"]
    assert await post(api, {"body": 1, "attributes": {"dead_letters": "dead_letter.queue"}})
