"""The assertions of zaqar-tempest-plugin's tests, except tokens and trusts."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tests.clients.caller import Caller
from zaqar_notify.clock import new_id

PATCH_TYPE = {"Content-Type": "application/openstack-messaging-v2.0-json-patch"}


class Row(NamedTuple):
    """One request to a service with the queue `used` (five messages, one of them claimed)."""

    says: str
    method: str
    path: str
    body: object
    status: int


def name_row(name: str, status: int) -> Row:
    return Row(f"a queue named {name[:12]!r}", "PUT", f"/v2/queues/{name}", None, status)


def message_row(says: str, message: object, status: int = 400) -> Row:
    return Row(says, "POST", "/v2/queues/used/messages", {"messages": [message]}, status)


def claim_row(says: str, body: object, status: int = 400, query: str = "") -> Row:
    return Row(says, "POST", f"/v2/queues/used/claims{query}", body, status)


def subscription_row(says: str, body: object, status: int = 400) -> Row:
    return Row(says, "POST", "/v2/queues/used/subscriptions", body, status)


MANY_IDS = ",".join(new_id() for _ in range(21))

ROWS = (
    # Queues
    name_row("digits-0", 201),
    name_row("12345", 201),
    name_row("a" * 64, 201),
    name_row("a" * 65, 400),
    name_row("%E3%82%AD%E3%83%A5", 400),
    name_row("!%40%23%24", 400),
    name_row("used", 204),
    Row("an unknown queue is shown", "GET", "/v2/queues/unknown", None, 200),
    Row("an unknown queue is deleted", "DELETE", "/v2/queues/unknown", None, 204),
    Row("stats of an unknown queue", "GET", "/v2/queues/unknown/stats", None, 200),
    Row("a page of 20 queues", "GET", "/v2/queues?limit=20", None, 200),
    Row("a page of 200 queues", "GET", "/v2/queues?limit=200", None, 400),
    Row("a page of no queues", "GET", "/v2/queues?limit=0", None, 400),
    Row("a page of -1 queues", "GET", "/v2/queues?limit=-1", None, 400),
    Row("detailed is no word", "GET", "/v2/queues?detailed=None", None, 400),
    Row("an unknown filter", "GET", "/v2/queues?invalid=x", None, 200),
    Row("metadata that is no object", "PUT", "/v2/queues/new", ["a"], 400),
    # Messages
    message_row("a message without body", {"ttl": 60}),
    message_row("a message that lives too short", {"body": 1, "ttl": 59}),
    message_row("a message that lives for ever", {"body": 1, "ttl": 1209601}),
    message_row("a negative ttl", {"body": 1, "ttl": -1}),
    message_row("a ttl in words", {"body": 1, "ttl": "sixty"}),
    message_row("no message but a string", "text"),
    message_row("the shortest life", {"body": 1, "ttl": 60}, 201),
    message_row("the longest life", {"body": 1, "ttl": 1209600}, 201),
    message_row("a message without ttl", {"body": 1}, 201),
    Row("a post without messages", "POST", "/v2/queues/used/messages", {"messages": []}, 400),
    Row("a post in the form of v1", "POST", "/v2/queues/used/messages", [{"body": 1}], 400),
    Row("a post without a body", "POST", "/v2/queues/used/messages", None, 400),
    Row("a page of 20", "GET", "/v2/queues/used/messages?limit=20", None, 200),
    Row("a page of 21", "GET", "/v2/queues/used/messages?limit=21", None, 400),
    Row("a page of none", "GET", "/v2/queues/used/messages?limit=0", None, 400),
    Row("a page of words", "GET", "/v2/queues/used/messages?limit=ten", None, 400),
    Row("too many ids", "GET", f"/v2/queues/used/messages?ids={MANY_IDS}", None, 400),
    Row("ids that are not there", "GET", "/v2/queues/used/messages?ids=a,b", None, 404),
    Row("a message that is not there", "GET", "/v2/queues/used/messages/a", None, 404),
    Row("messages of an unknown queue", "GET", "/v2/queues/unknown/messages", None, 200),
    Row("a deletion of too many", "DELETE", f"/v2/queues/used/messages?ids={MANY_IDS}", None, 400),
    Row("a deletion of nothing", "DELETE", "/v2/queues/used/messages", None, 400),
    Row("ids and pop at once", "DELETE", "/v2/queues/used/messages?pop=1&ids=a", None, 400),
    Row("a deletion of the absent", "DELETE", "/v2/queues/used/messages?ids=a,b", None, 204),
    Row("a deletion of one absent", "DELETE", "/v2/queues/used/messages/a", None, 204),
    Row("pop of 1", "DELETE", "/v2/queues/used/messages?pop=1", None, 200),
    Row("pop of 20", "DELETE", "/v2/queues/used/messages?pop=20", None, 200),
    Row("pop of 21", "DELETE", "/v2/queues/used/messages?pop=21", None, 400),
    Row("pop of 0", "DELETE", "/v2/queues/used/messages?pop=0", None, 400),
    Row("pop of -1", "DELETE", "/v2/queues/used/messages?pop=-1", None, 400),
    Row("pop of words", "DELETE", "/v2/queues/used/messages?pop=all", None, 400),
    Row("pop from an unknown queue", "DELETE", "/v2/queues/unknown/messages?pop=1", None, 200),
    # Claims
    claim_row("a claim with an empty object", {}, 201),
    claim_row("a claim without a body", None, 201),
    claim_row("an unknown query parameter", {}, 201, "?invalid=x"),
    claim_row("a claim of 20", {}, 201, "?limit=20"),
    claim_row("a claim of 21", {}, 400, "?limit=21"),
    claim_row("a claim of none", {}, 400, "?limit=0"),
    claim_row("the longest lease", {"ttl": 43200, "grace": 43200}, 201),
    claim_row("a lease that is too long", {"ttl": 43201, "grace": 60}),
    claim_row("a lease of 0", {"ttl": 0, "grace": 60}),
    claim_row("a negative lease", {"ttl": -1, "grace": 60}),
    claim_row("a grace that is too long", {"ttl": 60, "grace": 43201}),
    claim_row("a grace of 0", {"ttl": 60, "grace": 0}),
    claim_row("a negative grace", {"ttl": 60, "grace": -1}),
    claim_row("a lease in words", {"ttl": "sixty", "grace": 60}),
    Row("a claim on an unknown queue", "POST", "/v2/queues/unknown/claims", {}, 204),
    Row("an unknown claim", "GET", "/v2/queues/used/claims/a", None, 404),
    Row("a renewal of an unknown claim", "PATCH", "/v2/queues/used/claims/a", {"ttl": 60}, 404),
    Row("a release of an unknown claim", "DELETE", "/v2/queues/used/claims/a", None, 204),
    # Subscriptions
    subscription_row("http", {"subscriber": "http://fake:8080", "ttl": 60}, 201),
    subscription_row("https", {"subscriber": "https://fake", "options": {}}, 201),
    subscription_row("no scheme", {"subscriber": "fake", "ttl": 60}),
    subscription_row("another scheme", {"subscriber": "fake://fake:8080", "ttl": 60}),
    subscription_row("no subscriber", {"ttl": 60}),
    subscription_row("no body", None),
    subscription_row("a life of 59 seconds", {"subscriber": "http://fake", "ttl": 59}),
    subscription_row("a life of 0 seconds", {"subscriber": "http://fake", "ttl": 0}),
    subscription_row("a life in words", {"subscriber": "http://fake", "ttl": "long"}),
    subscription_row("options in words", {"subscriber": "http://fake", "options": "a"}),
    Row("an unknown subscription", "GET", "/v2/queues/used/subscriptions/123", None, 404),
    Row("its deletion", "DELETE", "/v2/queues/used/subscriptions/123", None, 204),
    Row("its update", "PATCH", "/v2/queues/used/subscriptions/123", {"ttl": 600}, 404),
    Row("a page of 21", "GET", "/v2/queues/used/subscriptions?limit=21", None, 400),
    # Purge
    Row("purge of all", "POST", "/v2/queues/used/purge", None, 204),
    Row(
        "purge of unknown things",
        "POST",
        "/v2/queues/used/purge",
        {"resource_types": ["pools"]},
        400,
    ),
    Row("purge of an unknown queue", "POST", "/v2/queues/unknown/purge", None, 204),
    # Service
    Row("ping", "GET", "/v2/ping", None, 204),
    Row("ping by a load balancer", "HEAD", "/v2/ping", None, 204),
    Row("the home document", "GET", "/v2/", None, 200),
    Row("the versions", "GET", "/", None, 300),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.method}: {row.says}")
def test_one_request(caller: Caller, row: Row) -> None:
    caller.call("PUT", "/v2/queues/used")
    caller.post("used", *range(5))
    caller.call("POST", "/v2/queues/used/claims?limit=1", {"ttl": 60, "grace": 60})

    answer = caller.call(row.method, row.path, row.body)

    assert answer.status_code == row.status, answer.text
    if row.status >= 400:
        assert {"title", "description"} >= set(answer.json()) >= {"title"}
        assert all(isinstance(value, str) for value in answer.json().values())
    if row.status == 204:
        assert answer.content == b""


@pytest.mark.parametrize(
    ("header", "value"),
    [("Client-ID", ""), ("Client-ID", "not-a-uuid"), ("X-Project-Id", "")],
)
def test_a_request_needs_a_client_id_and_a_project(caller: Caller, header: str, value: str) -> None:
    assert caller.call("GET", "/v2/queues", headers={header: value}).status_code == 400


# Queues


def test_creating_a_queue_answers_with_an_empty_body_and_its_place(
    caller: Caller, prefix: str
) -> None:
    first = caller.call("PUT", "/v2/queues/made")
    second = caller.call("PUT", "/v2/queues/made")

    assert [(answer.status_code, answer.content) for answer in (first, second)] == [
        (201, b""),
        (204, b""),
    ]
    assert first.headers["Location"] == second.headers["Location"] == f"{prefix}/v2/queues/made"


def test_metadata_is_patched_and_shown_with_its_defaults(caller: Caller) -> None:
    caller.call("PUT", "/v2/queues/made")
    change = [{"op": "add", "path": "/metadata/key1", "value": {"a": 1}}]

    patched = caller.call("PATCH", "/v2/queues/made", change, headers=PATCH_TYPE)
    shown = caller.call("GET", "/v2/queues/made").json()

    assert patched.status_code == 200
    assert patched.json() == shown
    assert shown["key1"] == {"a": 1}
    assert (shown["_max_messages_post_size"], shown["_default_message_ttl"]) == (262144, 3600)


def test_queues_are_listed_with_one_link_at_most(caller: Caller) -> None:
    for number in range(25):
        caller.call("PUT", f"/v2/queues/q{number:02}")

    page = caller.call("GET", "/v2/queues?limit=20&detailed=true").json()
    rest = caller.call("GET", page["links"][0]["href"]).json()

    assert len(page["queues"]) == 20
    assert [link["rel"] for link in page["links"]] == ["next"]
    assert {"name", "href", "metadata"} == set(page["queues"][0])
    assert [queue["name"] for queue in rest["queues"]] == [f"q{n}" for n in range(20, 25)]


def test_stats_of_an_empty_queue_are_zeros_and_nothing_else(caller: Caller) -> None:
    caller.call("PUT", "/v2/queues/made")

    stats = caller.call("GET", "/v2/queues/made/stats").json()

    assert stats == {"messages": {"claimed": 0, "free": 0, "total": 0}}


# Messages


def test_the_location_of_a_post_shows_all_of_its_messages(caller: Caller) -> None:
    messages = [{"body": {"n": number}, "ttl": 120} for number in range(20)]

    posted = caller.call("POST", "/v2/queues/q/messages", {"messages": messages})
    found = caller.call("GET", posted.headers["Location"])

    assert posted.status_code == 201
    assert found.status_code == 200
    assert [message["body"]["n"] for message in found.json()["messages"]] == list(range(20))


def test_a_listed_message_holds_what_the_schema_knows(caller: Caller) -> None:
    caller.post("q", {"event": "started"})

    page = caller.call("GET", "/v2/queues/q/messages?echo=true").json()

    assert len(page["links"]) == 1
    assert set(page["messages"][0]) == {"id", "href", "ttl", "age", "body"}


def test_deleted_messages_are_not_found_by_their_ids(caller: Caller) -> None:
    ids = caller.post("q", "a", "b")
    path = f"/v2/queues/q/messages?ids={','.join(ids)}"

    deleted = caller.call("DELETE", path)

    assert deleted.status_code == 204
    assert caller.call("GET", path).status_code == 404


def test_a_claimed_message_is_deleted_with_its_own_claim_only(caller: Caller) -> None:
    [message_id] = caller.post("q", "a")
    claim = caller.call("POST", "/v2/queues/q/claims", {"ttl": 60, "grace": 60})
    [message] = claim.json()["messages"]
    path = f"/v2/queues/q/messages/{message_id}"

    assert caller.call("DELETE", path).status_code == 403
    assert caller.call("DELETE", f"{path}?claim_id=123").status_code in (400, 403)
    assert caller.call("DELETE", message["href"]).status_code == 204
    assert caller.call("GET", path).status_code == 404


def test_an_unclaimed_message_is_not_deleted_with_a_claim_of_nothing(caller: Caller) -> None:
    [message_id] = caller.post("q", "a")

    refused = caller.call("DELETE", f"/v2/queues/q/messages/{message_id}?claim_id=123")

    assert refused.status_code == 400
    assert refused.json()["title"] == "Unable to delete"


# Claims


def test_a_claim_is_shown_renewed_and_released_twice(caller: Caller) -> None:
    caller.post("q", "a", "b")
    claim = caller.call("POST", "/v2/queues/q/claims", {"ttl": 60, "grace": 60})
    path = claim.headers["Location"]

    shown = caller.call("GET", path)
    assert (shown.status_code, shown.json()["ttl"]) == (200, 60)
    assert len(shown.json()["messages"]) == 2

    assert caller.call("PATCH", path, {"ttl": 120, "grace": 60}).status_code == 204
    assert caller.call("GET", path).json()["ttl"] == 120
    assert caller.call("PATCH", path, {}).status_code == 204
    assert caller.call("GET", path).json()["ttl"] == 300

    assert caller.call("DELETE", path).status_code == 204
    assert caller.call("DELETE", path).status_code == 204
    assert caller.call("GET", path).status_code == 404


def test_a_claim_ends_with_its_queue(caller: Caller) -> None:
    caller.post("q", "a")
    path = caller.call("POST", "/v2/queues/q/claims", {}).headers["Location"]

    caller.call("DELETE", "/v2/queues/q")

    assert caller.call("PATCH", path, {"ttl": 300, "grace": 60}).status_code == 404


def test_what_was_claimed_too_often_moves_to_the_dead_letter_queue(caller: Caller) -> None:
    caller.call("PUT", "/v2/queues/dead")
    caller.call("PUT", "/v2/queues/q", {"_max_claim_count": 2, "_dead_letter_queue": "dead"})
    [message_id] = caller.post("q", {"job": 1})

    for _ in range(2):
        claim = caller.call("POST", "/v2/queues/q/claims", {"ttl": 60, "grace": 60})
        assert claim.status_code == 201
        assert [message["id"] for message in claim.json()["messages"]] == [message_id]
        # The plugin waits for the lease to lapse; a release counts as much.
        caller.call("DELETE", claim.headers["Location"])

    assert caller.call("POST", "/v2/queues/q/claims", {}).status_code == 204
    dead = caller.call("GET", "/v2/queues/dead/messages?echo=true")
    assert dead.status_code == 200
    assert [(m["id"], m["body"]) for m in dead.json()["messages"]] == [(message_id, {"job": 1})]


# Subscriptions


def test_subscriptions_are_created_listed_repeated_and_updated(caller: Caller) -> None:
    path = "/v2/queues/q/subscriptions"
    subscribers = ["http://fake:8080", "https://fake:8080", "queue:other"]
    answers = [
        caller.call("POST", path, {"subscriber": uri, "ttl": 293305, "options": {}})
        for uri in subscribers
    ]
    ids = [answer.json()["subscription_id"] for answer in answers]
    assert [answer.status_code for answer in answers] == [201] * 3

    page = caller.call("GET", path).json()
    assert [listed["subscriber"] for listed in page["subscriptions"]] == subscribers
    assert len(page["links"]) == 1
    for listed, subscription_id in zip(page["subscriptions"], ids, strict=True):
        assert listed["id"] == subscription_id
        assert (listed["source"], listed["ttl"], listed["options"]) == ("q", 293305, {})

    again = caller.call("POST", path, {"subscriber": subscribers[0], "ttl": 293305})
    assert (again.status_code, again.json()["subscription_id"]) == (201, ids[0])

    change = {"options": {"k": "v"}}
    assert caller.call("PATCH", f"{path}/{ids[0]}", change).status_code == 204
    assert caller.call("GET", f"{path}/{ids[0]}").json()["options"] == {"k": "v"}
    assert caller.call("PATCH", f"{path}/{ids[0]}", {"ttl": 50}).status_code == 400


# Purge


@pytest.mark.parametrize(
    ("resource_types", "messages_left", "subscriptions_left"),
    [
        (None, 0, 0),
        (["messages", "subscriptions"], 0, 0),
        (["messages"], 0, 3),
        (["subscriptions"], 5, 0),
        ([], 5, 3),
    ],
)
def test_purge_leaves_nothing_of_what_it_was_asked_to_take(
    caller: Caller, resource_types: list[str] | None, messages_left: int, subscriptions_left: int
) -> None:
    caller.post("q", *range(5))
    caller.call("POST", "/v2/queues/q/claims?limit=2", {"ttl": 60, "grace": 60})
    for number in range(3):
        caller.call("POST", "/v2/queues/q/subscriptions", {"subscriber": f"http://fake/{number}"})

    body = None if resource_types is None else {"resource_types": resource_types}
    purged = caller.call("POST", "/v2/queues/q/purge", body)

    stats = caller.call("GET", "/v2/queues/q/stats").json()["messages"]
    listed = caller.call("GET", "/v2/queues/q/subscriptions").json()["subscriptions"]
    assert purged.status_code == 204
    assert (stats["total"], len(listed)) == (messages_left, subscriptions_left)
