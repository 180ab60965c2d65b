"""Version 1.1, where it differs from version 2."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import OTHER_CLIENT_ID, Api, StartApi

QUEUE = "/v1.1/queues/q"
OTHER = {"Client-ID": OTHER_CLIENT_ID}


async def post(api: Api, *messages: dict[str, Any]) -> list[str]:
    posted = await api.post(f"{QUEUE}/messages", {"messages": list(messages)})
    assert posted.status == 201
    return [href.rpartition("/")[2] for href in posted.json["resources"]]


# Discovery.


async def test_the_list_of_versions_has_it_before_version_2(api: Api) -> None:
    versions = (await api.get("/")).json["versions"]

    assert [each["id"] for each in versions] == ["1.1", "2"]
    assert versions[0] == {
        "id": "1.1",
        "status": "DEPRECATED",
        "updated": "2016-7-29T02:22:47Z",
        "media-types": [
            {"base": "application/json", "type": "application/vnd.openstack.messaging-v1_1+json"}
        ],
        "links": [{"href": "/v1.1/", "rel": "self"}],
    }


async def test_a_version_that_is_not_served_is_neither_listed_nor_found(
    start_api: StartApi,
) -> None:
    api = await start_api(versions="v2")

    listed = (await api.get("/")).json["versions"]
    answers = [await api.get(path) for path in ("/v1.1/", "/v1.1/queues", f"{QUEUE}/messages")]

    assert [each["id"] for each in listed] == ["2"]
    assert {(each.status, each.title) for each in answers} == {(404, "404 Not Found")}


async def test_the_home_document_has_the_relations_of_the_version(api: Api) -> None:
    reply = await api.get("/v1.1/")

    resources = reply.json["resources"]
    assert reply.headers["Content-Type"] == "application/json-home"
    assert set(resources) == {
        "rel/queues",
        "rel/queue",
        "rel/queue_stats",
        "rel/messages",
        "rel/post_messages",
        "rel/messages_delete",
        "rel/message_delete",
        "rel/claim",
        "rel/post_claim",
        "rel/patch_claim",
        "rel/delete_claim",
        "rel/ping",
    }
    assert resources["rel/queue"]["hints"]["allow"] == ["PUT", "DELETE"]
    assert all(each["href-template"].startswith("/v1.1/") for each in resources.values())


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_ping_answers(api: Api, method: str) -> None:
    assert (await api.call(method, "/v1.1/ping")).status == 204


@pytest.mark.parametrize(("admin_mode", "status"), [(False, 404), (True, 200)])
async def test_health_is_served_to_operators_only(
    start_api: StartApi, admin_mode: bool, status: int
) -> None:
    api = await start_api(admin_mode=admin_mode)

    assert (await api.get("/v1.1/health")).status == status


@pytest.mark.parametrize(
    "path",
    [
        f"{QUEUE}/subscriptions",
        f"{QUEUE}/purge",
        f"{QUEUE}/share",
        "/v1.1/tokens",
        "/v1.1/pools",
        "/v1.1/pools/p",
        "/v1.1/flavors",
        "/v1.1/flavors/f",
    ],
)
async def test_what_the_version_does_not_have_is_not_found(api: Api, path: str) -> None:
    replies = [await api.call(method, path) for method in ("GET", "POST", "PUT")]

    assert {(each.status, each.title) for each in replies} == {(404, "404 Not Found")}


async def test_headers_are_checked_as_in_version_2(api: Api) -> None:
    without_client = await api.get("/v1.1/queues", headers={"Client-ID": None})
    without_project = await api.get("/v1.1/queues", headers={"X-Project-ID": None})

    assert (without_client.status, without_client.title) == (400, "Missing header value")
    assert (without_project.status, without_project.title) == (400, "Project-Id Missing")


# Queues.


async def test_a_queue_is_shown_as_it_is_stored(api: Api) -> None:
    metadata = {"_default_message_ttl": 600, "owner": "shop"}
    created = await api.put(QUEUE, metadata)
    again = await api.put(QUEUE, {"owner": "other"})

    shown = await api.get(QUEUE)

    assert (created.status, created.headers["Location"]) == (201, QUEUE)
    assert (again.status, again.headers["Location"]) == (204, QUEUE)
    assert (shown.status, shown.json) == (200, metadata)


async def test_a_queue_never_created_is_shown_empty_and_not_made(api: Api) -> None:
    shown = await api.get(QUEUE)

    assert (shown.status, shown.json) == (200, {})
    assert (await api.get("/v1.1/queues")).json == {"queues": [], "links": []}


async def test_reserved_keys_are_checked(api: Api) -> None:
    refused = await api.put(QUEUE, {"_default_message_ttl": 5})

    assert (refused.status, refused.title) == (400, "Invalid API request")


async def test_metadata_cannot_be_patched(api: Api) -> None:
    reply = await api.call("PATCH", QUEUE, body=b"[]")

    assert (reply.status, reply.title) == (405, "405 Method Not Allowed")


async def test_queues_are_listed_by_name_with_what_is_stored(api: Api) -> None:
    await api.put("/v1.1/queues/a", {"owner": "shop"})
    await api.put("/v2/queues/b", {})

    plain = await api.get("/v1.1/queues?limit=1")
    detailed = await api.get("/v1.1/queues?detailed=true&name=zzz&with_count=true&owner=other")

    assert plain.json == {
        "queues": [{"name": "a", "href": "/v1.1/queues/a"}],
        "links": [{"rel": "next", "href": "/v1.1/queues?limit=1&marker=a"}],
    }
    assert detailed.json["queues"] == [
        {"name": "a", "href": "/v1.1/queues/a", "metadata": {"owner": "shop"}},
        {"name": "b", "href": "/v1.1/queues/b", "metadata": {}},
    ]
    assert "count" not in detailed.json


async def test_statistics_link_to_messages_of_the_version(api: Api) -> None:
    [message_id] = await post(api, {"body": 1, "ttl": 300})

    stats = (await api.get(f"{QUEUE}/stats")).json["messages"]

    assert (stats["free"], stats["claimed"], stats["total"]) == (1, 0, 1)
    assert stats["oldest"]["href"] == f"{QUEUE}/messages/{message_id}"


async def test_a_queue_is_deleted_with_its_messages(api: Api) -> None:
    await post(api, {"body": 1})

    assert (await api.delete(QUEUE)).status == 204
    assert (await api.delete(QUEUE)).status == 204
    assert (await api.get(f"{QUEUE}/messages?echo=true")).json == {"messages": [], "links": []}


# Messages.


async def test_a_post_takes_the_defaults_of_the_service_not_those_of_the_queue(api: Api) -> None:
    await api.put("/v2/queues/q", {"_default_message_ttl": 600, "_default_message_delay": 100})

    await post(api, {"body": "first"}, {"body": "second", "ttl": 70, "delay": 900})

    found = (await api.get(f"{QUEUE}/messages?echo=true")).json["messages"]
    assert [(each["body"], each["ttl"]) for each in found] == [("first", 3600), ("second", 70)]


async def test_a_post_links_to_its_messages(api: Api) -> None:
    posted = await api.post(f"{QUEUE}/messages", {"messages": [{"body": 1}, {"body": 2}]})

    hrefs = posted.json["resources"]
    ids = ",".join(href.rpartition("/")[2] for href in hrefs)
    assert posted.headers["Location"] == f"{QUEUE}/messages?ids={ids}"
    assert [(await api.get(href)).json["body"] for href in hrefs] == [1, 2]


@pytest.mark.parametrize(
    ("body", "title"),
    [
        ({"messages": []}, "Invalid API request"),
        ({}, "Invalid API request"),
        ([{"body": 1, "ttl": 300}], "Invalid API request"),
        ({"messages": [{"ttl": 300}]}, "Invalid request body"),
        ({"messages": [5]}, "Invalid request body"),
        ({"messages": [{"body": 1, "ttl": "60"}]}, "Invalid request body"),
        ({"messages": [{"body": 1, "ttl": 59}]}, "Invalid API request"),
        ({"messages": [{"body": 1, "ttl": 1209601}]}, "Invalid API request"),
    ],
)
async def test_a_refused_post_makes_no_queue(api: Api, body: object, title: str) -> None:
    refused = await api.post(f"{QUEUE}/messages", body)

    assert (refused.status, refused.title) == (400, title)
    assert (await api.get("/v1.1/queues")).json["queues"] == []


async def test_the_bound_of_a_queue_for_posts_holds_in_every_version(api: Api) -> None:
    await api.put("/v2/queues/q", {"_max_messages_post_size": 100})

    refused = await api.post(f"{QUEUE}/messages", {"messages": [{"body": "x" * 100}]})

    assert (refused.status, refused.title) == (400, "Invalid API request")


async def test_messages_are_browsed_by_marker_without_own_ones(api: Api) -> None:
    await post(api, *({"body": n} for n in range(3)))

    own = await api.get(f"{QUEUE}/messages")
    first = await api.get(f"{QUEUE}/messages?limit=2", headers=OTHER)
    [link] = first.json["links"]
    second = await api.get(link["href"], headers=OTHER)

    assert own.json == {"messages": [], "links": []}
    assert set(first.json["messages"][0]) == {"id", "href", "ttl", "age", "body"}
    assert link["href"].startswith(f"{QUEUE}/messages?limit=2&marker=")
    assert [each["body"] for each in second.json["messages"]] == [2]


async def test_delayed_messages_are_hidden_whatever_is_asked(api: Api) -> None:
    await api.post("/v2/queues/q/messages", {"messages": [{"body": 1, "delay": 100}]})

    page = await api.get(f"{QUEUE}/messages?echo=true&include_delayed=maybe")

    assert (page.status, page.json["messages"]) == (200, [])


async def test_messages_are_read_by_ids(api: Api) -> None:
    ids = await post(api, {"body": "a"}, {"body": "b"})

    found = await api.get(f"{QUEUE}/messages?ids={','.join(ids)}")
    absent = await api.get(f"{QUEUE}/messages?ids=6123f4a0b1c2d3e4f5a6b7c8")

    assert [each["body"] for each in found.json["messages"]] == ["a", "b"]
    assert "links" not in found.json
    assert (absent.status, absent.title) == (404, "Not found")


async def test_messages_are_popped(api: Api) -> None:
    await post(api, {"body": "a"}, {"body": "b"})

    popped = await api.delete(f"{QUEUE}/messages?pop=1")

    assert popped.status == 200
    assert [each["body"] for each in popped.json["messages"]] == ["a"]


@pytest.mark.parametrize("query", ["", "?pop=1&ids=a", "?pop=0", "?pop=21"])
async def test_exactly_one_of_ids_and_pop_is_needed(api: Api, query: str) -> None:
    assert (await api.delete(f"{QUEUE}/messages{query}")).title == "Invalid API request"


async def test_deleting_by_ids_takes_claimed_messages_too(api: Api) -> None:
    ids = await post(api, {"body": "a"}, {"body": "b"})
    await api.post(f"{QUEUE}/claims?limit=1")

    assert (await api.delete(f"{QUEUE}/messages?ids={','.join(ids)}")).status == 204
    assert (await api.get(f"{QUEUE}/messages?ids={','.join(ids)}")).status == 404


async def test_where_claims_are_asked_for_claimed_messages_stay(start_api: StartApi) -> None:
    api = await start_api(message_delete_with_claim_id=True)
    claimed, free = await post(api, {"body": "a"}, {"body": "b"})
    await api.post(f"{QUEUE}/claims?limit=1")

    refused = await api.delete(f"{QUEUE}/messages?ids={claimed}")
    taken = await api.delete(f"{QUEUE}/messages?ids={free}")

    assert (refused.status, refused.title) == (400, "Unable to delete")
    assert taken.status == 204


# Claims.


async def test_a_claim_lives_renews_and_ends_under_links_of_the_version(api: Api) -> None:
    [message_id] = await post(api, {"body": "a"})

    claimed = await api.post(f"{QUEUE}/claims", {"ttl": 100, "grace": 60})
    claim = claimed.headers["Location"]
    claim_id = claim.rpartition("/")[2]
    shown = await api.get(claim)

    assert claim.startswith(f"{QUEUE}/claims/")
    href = f"{QUEUE}/messages/{message_id}?claim_id={claim_id}"
    assert [each["href"] for each in claimed.json["messages"]] == [href]
    assert (shown.json["href"], shown.json["ttl"]) == (claim, 100)
    assert (await api.call("PATCH", claim, body=b"{}")).status == 204
    assert (await api.delete(href.partition("?")[0])).status == 403
    assert (await api.delete(href)).status == 204
    assert (await api.delete(claim)).status == 204
    assert (await api.get(claim)).status == 404


async def test_a_claim_needs_no_body_and_finds_nothing_on_an_unknown_queue(api: Api) -> None:
    empty = await api.post(f"{QUEUE}/claims")

    assert (empty.status, empty.body) == (204, b"")


async def test_queues_messages_and_claims_are_shared_with_version_2(api: Api) -> None:
    await post(api, {"body": "a"})

    claimed = await api.post("/v2/queues/q/claims")
    [message] = claimed.json["messages"]
    shown = await api.get(message["href"].replace("/v2/", "/v1.1/").partition("?")[0])

    assert shown.json["href"] == message["href"].replace("/v2/", "/v1.1/")
    assert (await api.post(f"{QUEUE}/claims")).status == 204
