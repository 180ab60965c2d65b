"""Every action of the WebSocket API, with the statuses and the bodies of Zaqar's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import CLIENT_ID, OTHER_CLIENT_ID, PROJECT, Api
from tests.push.conftest import Client, Connect, Start

UUID = {"Client-ID": OTHER_CLIENT_ID}


async def posted(client: Client, *bodies: object, **fields: object) -> list[str]:
    messages = [{"body": body, "ttl": 300, **fields} for body in bodies]
    reply = await client.ask("message_post", queue_name="q", messages=messages)
    assert reply.status == 201, reply
    ids: list[str] = reply.body["message_ids"]
    return ids


@pytest.mark.parametrize("path", ["/", "/v2", "/v2/"])
async def test_the_main_port_serves_websockets(api: Api, connect: Connect, path: str) -> None:
    client = await connect(api, path)

    reply = await client.ask("queue_create", queue_name="q")

    assert (reply.status, reply.body) == (201, "Queue q created.")


@pytest.mark.parametrize("is_binary", [False, True])
async def test_the_answer_repeats_the_request_in_a_frame_of_the_same_kind(
    client: Client, is_binary: bool
) -> None:
    reply = await client.ask(
        "queue_create", queue_name="q", metadata={"color": "rot"}, is_binary=is_binary
    )

    assert reply.request == {
        "action": "queue_create",
        "body": {"queue_name": "q", "metadata": {"color": "rot"}},
        "headers": {"Client-ID": CLIENT_ID, "X-Project-ID": PROJECT},
        "api": "v2",
    }


async def test_no_answer_repeats_a_secret(client: Client) -> None:
    reply = await client.ask(
        "queue_get", queue_name="q", headers={"X-Auth-Token": "tok", "x-auth-token": "en"}
    )

    assert reply.status == 200
    assert (reply.request["headers"]["X-Auth-Token"], reply.request["headers"]["x-auth-token"]) == (
        "",
        "",
    )


async def test_a_queue_lives_and_dies(client: Client) -> None:
    stored = {"color": "rot", "_default_message_ttl": 600}
    made = await client.ask("queue_create", queue_name="q", metadata=stored)
    again = await client.ask("queue_create", queue_name="q")
    shown = await client.ask("queue_get", queue_name="q")
    removed = await client.ask("queue_delete", queue_name="q")
    gone = await client.ask("queue_get", queue_name="q")

    assert [made.status, again.status, removed.status] == [201, 204, 204]
    assert (again.body, removed.body) == ("Queue q created.", "Queue q removed.")
    assert (shown.status, shown.body, gone.status, gone.body) == (200, stored, 200, {})


async def test_queues_are_listed_without_links(client: Client) -> None:
    for name in ("a", "b", "c"):
        await client.ask("queue_create", queue_name=name, metadata={"n": name})

    brief = await client.ask("queue_list", limit=2)
    detailed = await client.ask("queue_list", marker="b", detailed=True)

    assert (brief.status, brief.body) == (200, {"queues": [{"name": "a"}, {"name": "b"}]})
    assert detailed.body == {"queues": [{"name": "c", "metadata": {"n": "c"}}]}


async def test_counts_of_an_unknown_queue_are_zeros_with_404(client: Client) -> None:
    reply = await client.ask("queue_get_stats", queue_name="nowhere")

    assert reply.status == 404
    assert reply.body == {"messages": {"claimed": 0, "free": 0, "total": 0}}


async def test_counts_name_the_oldest_and_the_newest_message(client: Client) -> None:
    first, last = await posted(client, "a", "b")

    reply = await client.ask("queue_get_stats", queue_name="q")

    counts = reply.body["messages"]
    assert (reply.status, counts["free"], counts["total"]) == (200, 2, 2)
    assert (counts["oldest"]["id"], counts["newest"]["id"]) == (first, last)
    assert counts["oldest"].keys() == {"id", "age", "created"}


@pytest.mark.parametrize(
    ("kinds", "left"), [(["subscriptions"], 1), (["messages"], 0), ([], 0), (["nonsense", 1], 1)]
)
async def test_a_purge_leaves_the_queue(client: Client, kinds: list[object], left: int) -> None:
    await posted(client, "a")

    reply = await client.ask("queue_purge", queue_name="q", resource_types=kinds)

    assert (reply.status, reply.body) == (204, {})
    counts = await client.ask("queue_get_stats", queue_name="q")
    assert counts.body["messages"]["total"] == left


async def test_a_message_s_body_comes_back_as_the_bytes_that_it_was(client: Client) -> None:
    body = '{"amount": 1.00,  "amount": 2.50e0, "\\u00fc": "ü"}'
    headers = '"headers":' + json.dumps({"Client-ID": CLIENT_ID, "X-Project-ID": PROJECT})
    message = '"body":{"queue_name":"q","messages":[{"body":' + body + "}]}"
    await client.send(f'{{"action":"message_post",{headers},{message}}}')

    listing = '"body":{"queue_name":"q","echo":true}'
    await client.socket.send_str(f'{{"action":"message_list",{headers},{listing}}}')

    assert f'"body":{body}' in (await client.socket.receive_str(timeout=10))


async def test_messages_are_listed_with_the_claim_that_holds_them(client: Client) -> None:
    first, last = await posted(client, {"n": 1}, [2])
    claimed = await client.ask("claim_create", queue_name="q", limit=1, headers=UUID)

    theirs = await client.ask("message_list", queue_name="q", headers=UUID)
    own = await client.ask("message_list", queue_name="q")
    everything = await client.ask("message_list", queue_name="q", echo=True, include_claimed=True)
    after = await client.ask("message_list", queue_name="q", echo=True, marker=first)

    held = {
        "id": first,
        "claim_id": claimed.body["claim_id"],
        "ttl": 300,
        "age": 0,
        "body": {"n": 1},
    }
    free = {"id": last, "claim_id": None, "ttl": 300, "age": 0, "body": [2]}
    assert theirs.body == after.body == {"messages": [free]}
    assert own.body == {"messages": []}
    assert everything.body == {"messages": [held, free]}


async def test_one_message_is_an_object_under_a_plural_key(client: Client) -> None:
    [message_id] = await posted(client, "a")

    shown = await client.ask("message_get", queue_name="q", message_id=message_id)
    absent = await client.ask("message_get", queue_name="q", message_id="f" * 24)

    assert (shown.status, shown.body["messages"]["body"]) == (200, "a")
    assert absent.status == 404
    assert "error" in absent.body


async def test_several_messages_are_read_by_id(client: Client) -> None:
    first, _, last = await posted(client, "a", "b", "c")

    some = await client.ask("message_get_many", queue_name="q", message_ids=[last, first])
    none = await client.ask("message_get_many", queue_name="q", message_ids=["f" * 24])
    no_id = await client.ask("message_get_many", queue_name="q", message_ids=[])

    assert [one["body"] for one in some.body["messages"]] == ["a", "c"]
    assert (none.status, none.body, no_id.status) == (200, {"messages": []}, 400)


async def test_a_claimed_message_goes_under_its_claim_alone(client: Client) -> None:
    [message_id] = await posted(client, "a")
    claim = (await client.ask("claim_create", queue_name="q")).body["claim_id"]
    message: dict[str, Any] = {"queue_name": "q", "message_id": message_id}

    without = await client.ask("message_delete", **message)
    other = await client.ask("message_delete", **message, claim_id="nonsense")
    by_claim = await client.ask("message_delete", **message, claim_id=claim)

    assert [without.status, other.status, by_claim.status] == [403, 400, 204]
    assert by_claim.body == {}


async def test_several_messages_are_deleted_or_popped(client: Client) -> None:
    ids = await posted(client, "a", "b", "c")

    by_id = await client.ask("message_delete_many", queue_name="q", message_ids=ids[:1])
    popped = await client.ask("message_delete_many", queue_name="q", pop=1)
    both = await client.ask("message_delete_many", queue_name="q", pop=1, message_ids=ids)
    neither = await client.ask("message_delete_many", queue_name="q")

    assert (by_id.status, by_id.body, popped.status) == (204, {}, 200)
    assert [one["body"] for one in popped.body["messages"]] == ["b"]
    assert [both.status, neither.status] == [400, 400]


async def test_messages_have_attributes_when_the_client_asks(client: Client) -> None:
    [message_id] = await posted(client, "a", attributes={"colour": "blue"})
    one: dict[str, Any] = {"queue_name": "q", "message_id": message_id, "attributes": True}

    shown = await client.ask("message_get", **one)
    several = await client.ask("message_get_many", **one | {"message_ids": [message_id]})
    listed = await client.ask("message_list", **one, echo=True)
    claimed = await client.ask("claim_create", **one)
    held = await client.ask("claim_get", **one, claim_id=claimed.body["claim_id"])
    unasked = await client.ask("message_get", queue_name="q", message_id=message_id)
    await client.ask("claim_delete", queue_name="q", claim_id=claimed.body["claim_id"])
    popped = await client.ask("message_delete_many", queue_name="q", pop=1, attributes=True)

    found = [shown.body["messages"]]
    for reply in (several, listed, claimed, held, popped):
        found += reply.body["messages"]
    assert [each["attributes"] for each in found] == [
        {"colour": {"type": "String", "value": "blue"}}
    ] * 6
    assert "attributes" not in unasked.body["messages"]


async def test_a_delay_is_kept(client: Client) -> None:
    await posted(client, "later", delay=60)

    hidden = await client.ask("message_list", queue_name="q", echo=True)
    shown = await client.ask("message_list", queue_name="q", echo=True, include_delayed=True)

    assert (len(hidden.body["messages"]), len(shown.body["messages"])) == (0, 1)


async def test_a_claim_lives_and_dies(client: Client) -> None:
    nothing = await client.ask("claim_create", queue_name="q")
    await posted(client, "a")
    made = await client.ask("claim_create", queue_name="q", ttl=100, grace=60, limit=5)
    claim: dict[str, Any] = {"queue_name": "q", "claim_id": made.body["claim_id"]}
    shown = await client.ask("claim_get", **claim)
    renewed = await client.ask("claim_update", **claim, ttl=200)
    released = await client.ask("claim_delete", **claim)
    gone = await client.ask("claim_get", **claim)

    assert (nothing.status, nothing.body) == (204, {"claim_id": None})
    assert (made.status, [one["body"] for one in made.body["messages"]]) == (201, ["a"])
    assert shown.body == {"age": 0, "ttl": 100, "messages": made.body["messages"]}
    assert (renewed.status, renewed.body) == (204, f"Claim {claim['claim_id']} updated.")
    assert (released.status, released.body) == (204, f"Claim {claim['claim_id']} deleted.")
    assert gone.status == 404


async def test_a_subscription_with_a_subscriber_is_as_over_http(client: Client) -> None:
    wanted: dict[str, Any] = {"queue_name": "q", "subscriber": "https://example.org/x"}
    made = await client.ask("subscription_create", **wanted, ttl=600, options={"a": 1})
    again = await client.ask("subscription_create", **wanted)
    named: dict[str, Any] = {"queue_name": "q", "subscription_id": made.body["subscription_id"]}
    shown = await client.ask("subscription_get", **named)
    listed = await client.ask("subscription_list", queue_name="q")
    removed = await client.ask("subscription_delete", **named)
    gone = await client.ask("subscription_get", **named)

    assert (made.status, made.body["message"]) == (201, "Subscription q created.")
    assert (again.status, again.body) == (409, "Subscription q not created.")
    assert (shown.body["subscriber"], shown.body["ttl"]) == (wanted["subscriber"], 600)
    assert listed.body == {"subscriptions": [shown.body]}
    assert removed.body == f"Subscription {named['subscription_id']} removed."
    assert (removed.status, gone.status) == (204, 404)


async def test_an_unsupported_subscriber_is_refused_in_zaqar_s_words(client: Client) -> None:
    reply = await client.ask("subscription_create", queue_name="q", subscriber="foo://bar")

    assert reply.status == 400
    assert "must be supported in the list" in reply.body["error"]


async def test_messages_of_an_encrypted_queue_are_stored_encrypted(
    start: Start, tmp_path: Path
) -> None:
    client = await start(encryption_keys="k1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
    await client.ask("queue_create", queue_name="q", metadata={"_enable_encrypt_messages": True})

    await posted(client, "a word in clear")

    listed = await client.ask("message_list", queue_name="q", echo=True)
    assert [one["body"] for one in listed.body["messages"]] == ["a word in clear"]
    assert b"a word in clear" not in _stored(tmp_path)


def _stored(directory: Path) -> bytes:
    return b"".join(file.read_bytes() for file in directory.glob("zaqar.db*"))


async def test_a_post_has_to_fit_the_schema_of_its_queue(client: Client) -> None:
    await client.ask(
        "queue_create", queue_name="q", metadata={"_message_schema": {"type": "integer"}}
    )

    refused = await client.ask("message_post", queue_name="q", messages=[{"body": "a"}])

    assert refused.status == 400
    assert "#/type" in str(refused.body)


async def test_a_message_may_be_posted_for_an_instant_to_come(client: Client) -> None:
    await posted(client, 1, not_before="2100-01-01T13:00:00Z")

    reply = await client.ask("message_list", queue_name="q", echo=True)

    assert reply.body["messages"] == []
