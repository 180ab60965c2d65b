"""Queues over HTTP."""

from __future__ import annotations

import pytest

from tests.api.conftest import Api, StartApi
from tests.clock import ManualClock

PATCH_TYPE = "application/openstack-messaging-v2.0-json-patch"

DEFAULTS = {
    "_max_messages_post_size": 262144,
    "_default_message_ttl": 3600,
    "_default_message_delay": 0,
    "_dead_letter_queue": None,
    "_dead_letter_queue_messages_ttl": None,
    "_max_claim_count": None,
    "_enable_encrypt_messages": False,
}


async def names(api: Api, query: str = "") -> list[str]:
    reply = await api.get(f"/v2/queues{query}")
    assert reply.status == 200, reply
    return [queue["name"] for queue in reply.json["queues"]]


async def test_a_queue_is_created_once_and_keeps_its_metadata(api: Api) -> None:
    first = await api.put("/v2/queues/q", {"colour": "red"})
    second = await api.put("/v2/queues/q", {"colour": "blue"})
    third = await api.put("/v2/queues/q")

    assert [(reply.status, reply.body) for reply in (first, second, third)] == [
        (201, b""),
        (204, b""),
        (204, b""),
    ]
    assert first.headers["Location"] == second.headers["Location"] == "/v2/queues/q"
    assert (await api.get("/v2/queues/q")).json == DEFAULTS | {"colour": "red"}


@pytest.mark.parametrize("name", ["1", "...", "a.b", "Q-_.9", "x" * 64])
async def test_good_names(api: Api, name: str) -> None:
    assert (await api.put(f"/v2/queues/{name.replace('.', '%2E')}")).status == 201
    assert await names(api) == [name]


@pytest.mark.parametrize(
    "name", [".", "..", "%2e%2E", "x" * 65, "%C3%BC", "a%20b", "a%00", "q!", "%2B", "a%0A"]
)
async def test_bad_names(api: Api, name: str) -> None:
    reply = await api.put(f"/v2/queues/{name}")

    assert (reply.status, reply.title) == (400, "Invalid queue identification")


async def test_a_queue_never_created_shows_the_defaults_and_is_not_created_by_that(
    api: Api,
) -> None:
    assert (await api.get("/v2/queues/q")).json == DEFAULTS
    assert await names(api) == []


async def test_a_patch_applies_its_operations_in_turn(api: Api) -> None:
    await api.put("/v2/queues/q", {"old": 1})

    reply = await api.patch(
        "/v2/queues/q",
        [
            {"op": "add", "path": "/metadata/colour", "value": "red"},
            {"op": "replace", "path": "/metadata/colour", "value": "blue"},
            {"op": "replace", "path": "/metadata/_default_message_ttl", "value": 600},
            {"op": "remove", "path": "/metadata/_dead_letter_queue"},
            {"op": "remove", "path": "/metadata/old"},
        ],
        headers={"Content-Type": PATCH_TYPE},
    )

    assert reply.status == 200
    assert reply.json == DEFAULTS | {"colour": "blue", "_default_message_ttl": 600}
    assert (await api.get("/v2/queues/q")).json == reply.json


@pytest.mark.parametrize(
    ("document", "status", "title"),
    [
        ([], 200, None),
        ([{"op": "replace", "path": "/metadata/none", "value": 1}], 409, "Resource conflict"),
        ([{"op": "remove", "path": "/metadata/none"}], 409, "Resource conflict"),
        ([{"op": "test", "path": "/metadata/a", "value": 1}], 400, "Invalid request body"),
        ([{"op": "add", "path": "/metadata/a/b", "value": 1}], 400, "Invalid request body"),
        ([{"op": "add", "path": "/metadata/a"}], 400, "Invalid request body"),
        ([{"op": "add", "path": 5, "value": 1}], 400, "Invalid request body"),
        ([5], 400, "Invalid request body"),
        ({"op": "add"}, 400, "Invalid request body"),
        (
            [{"op": "add", "path": "/metadata/_default_message_ttl", "value": 59}],
            400,
            "Invalid request body",
        ),
    ],
)
async def test_answers_to_patches(
    api: Api, document: object, status: int, title: str | None
) -> None:
    await api.put("/v2/queues/q")

    reply = await api.patch("/v2/queues/q", document, headers={"Content-Type": PATCH_TYPE})

    assert (reply.status, reply.title) == (status, title)
    assert (await api.get("/v2/queues/q")).json == DEFAULTS


async def test_a_patch_without_a_body_or_of_a_queue_never_created_is_refused(api: Api) -> None:
    headers = {"Content-Type": PATCH_TYPE}

    absent = await api.patch("/v2/queues/q", [], headers=headers)
    await api.put("/v2/queues/q")
    empty = await api.patch("/v2/queues/q", headers=headers)

    assert (absent.status, absent.title) == (404, "Not found")
    assert (empty.status, empty.title) == (400, "Invalid request body")


@pytest.mark.parametrize("content_type", ["application/json", f"{PATCH_TYPE}; charset=utf-8"])
async def test_a_patch_of_another_content_type_is_415(api: Api, content_type: str) -> None:
    await api.put("/v2/queues/q")

    reply = await api.patch("/v2/queues/q", [], headers={"Content-Type": content_type})

    assert (reply.status, reply.title) == (415, "415 Unsupported Media Type")
    assert PATCH_TYPE in reply.json["description"]


async def test_deleting_a_queue_takes_its_messages_and_keeps_its_subscriptions(api: Api) -> None:
    await api.post_bodies("q", 1)
    await api.subscribe("q", "http://example.org/")

    replies = [await api.delete("/v2/queues/q") for _ in range(2)]

    assert [(reply.status, reply.body) for reply in replies] == [(204, b"")] * 2
    assert await names(api) == []
    assert (await api.get("/v2/queues/q/messages?echo=true")).json["messages"] == []
    assert len((await api.get("/v2/queues/q/subscriptions")).json["subscriptions"]) == 1


async def test_lists_go_by_name_page_by_page_and_end_with_an_empty_one(api: Api) -> None:
    for name in ("b", "B", "a", "_"):
        await api.put(f"/v2/queues/{name}")

    first = (await api.get("/v2/queues?limit=3&detailed=True")).json
    href = first["links"][0]["href"]
    second = (await api.get(href)).json
    third = (await api.get(second["links"][0]["href"])).json

    assert [queue["name"] for queue in first["queues"]] == ["B", "_", "a"]
    assert first["queues"][0] == {"name": "B", "href": "/v2/queues/B", "metadata": DEFAULTS}
    assert href == "/v2/queues?limit=3&detailed=true&marker=a"
    assert [queue["name"] for queue in second["queues"]] == ["b"]
    assert third == {"queues": [], "links": []}


async def test_lists_show_metadata_and_count_only_when_asked(api: Api) -> None:
    await api.put("/v2/queues/q", {"colour": "red"})

    assert (await api.get("/v2/queues")).json["queues"] == [{"name": "q", "href": "/v2/queues/q"}]
    assert "count" not in (await api.get("/v2/queues")).json
    assert (await api.get("/v2/queues?with_count=true")).json["count"] == 1
    assert (await api.get("/v2/queues?with_count=true&name=zz")).json["count"] == 0


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?name=o", ["one", "two"]),
        ("?name=O", []),
        ("?name=(", []),
        ("?colour=red", ["one"]),
        ("?colour=red&size=5", ["one"]),
        ("?colour=red&size=6", []),
        ("?colour=red,blue", ["one", "three"]),
        ("?colour=red&colour=blue", ["one", "three"]),
        ("?size=5", ["one"]),
        ("?size=5.0", []),
        ("?flag=1", []),
        ("?nested.x=1", []),
        ("?%24where=1", []),
        ("?colour=red&name=", ["one"]),
    ],
)
async def test_filters_of_lists(api: Api, query: str, expected: list[str]) -> None:
    await api.put("/v2/queues/one", {"colour": "red", "size": 5, "flag": True, "nested": {"x": 1}})
    await api.put("/v2/queues/two", {"size": "5"})
    await api.put("/v2/queues/three", {"colour": "blue"})

    assert await names(api, query) == sorted(expected)


async def test_filters_are_carried_along_in_links_and_counted(api: Api) -> None:
    await api.put("/v2/queues/a", {"colour": "red"})
    await api.put("/v2/queues/b", {"colour": "blue"})

    page = (await api.get("/v2/queues?colour=red&with_count=True")).json

    assert page["count"] == 1
    assert page["links"][0]["href"] == "/v2/queues?colour=red&with_count=true&marker=a"


async def test_projects_do_not_see_each_other(api: Api) -> None:
    await api.put("/v2/queues/q")
    await api.post_bodies("q", 1)
    other = {"X-Project-ID": "p.*"}

    queues = await api.get("/v2/queues", headers=other)
    messages = await api.get("/v2/queues/q/messages?echo=true", headers=other)

    assert queues.json["queues"] == []
    assert messages.json["messages"] == []


async def test_stats_of_a_queue_never_created_are_zero(api: Api) -> None:
    reply = await api.get("/v2/queues/q/stats")

    assert (reply.status, reply.json) == (200, {"messages": {"claimed": 0, "free": 0, "total": 0}})


async def test_stats_count_and_name_the_oldest_and_newest(api: Api, clock: ManualClock) -> None:
    [first] = await api.post_bodies("q", "first")
    clock.advance(seconds=30)
    last = (await api.post_bodies("q", "second", "third"))[-1]
    await api.post("/v2/queues/q/claims?limit=1")
    clock.advance(seconds=10)

    messages = (await api.get("/v2/queues/q/stats")).json["messages"]

    assert messages == {
        "claimed": 1,
        "free": 2,
        "total": 3,
        "oldest": {
            "age": 40,
            "created": "2100-01-01T12:00:00Z",
            "href": f"/v2/queues/q/messages/{first}",
        },
        "newest": {
            "age": 10,
            "created": "2100-01-01T12:00:30Z",
            "href": f"/v2/queues/q/messages/{last}",
        },
    }


async def test_stats_while_all_messages_are_delayed_name_no_oldest(api: Api) -> None:
    await api.put("/v2/queues/q", {"_default_message_delay": 100})
    await api.post_bodies("q", 1)

    messages = (await api.get("/v2/queues/q/stats")).json["messages"]

    assert messages == {"claimed": 0, "free": 1, "total": 1}


@pytest.mark.parametrize(
    ("document", "messages", "subscriptions"),
    [
        (None, 0, 0),
        ({"resource_types": ["messages"]}, 0, 12),
        ({"resource_types": ["subscriptions"]}, 3, 0),
        ({"resource_types": ["messages", "subscriptions"]}, 0, 0),
        ({"resource_types": []}, 3, 12),
    ],
)
async def test_a_purge_removes_what_it_names_claimed_messages_too(
    api: Api, document: object, messages: int, subscriptions: int
) -> None:
    await api.put("/v2/queues/q", {"colour": "red"})
    await api.post_bodies("q", 1, 2, 3)
    await api.post("/v2/queues/q/claims?limit=1")
    for number in range(12):
        await api.subscribe("q", f"http://example.org/{number}")

    reply = await api.post("/v2/queues/q/purge", document)

    listed = (await api.get("/v2/queues/q/subscriptions?limit=20")).json["subscriptions"]
    assert (reply.status, reply.body) == (204, b"")
    assert (await api.get("/v2/queues/q/stats")).json["messages"]["total"] == messages
    assert len(listed) == subscriptions
    assert (await api.get("/v2/queues/q")).json["colour"] == "red"


@pytest.mark.parametrize(
    ("body", "title"),
    [
        (b"{}", "Invalid API request"),
        (b'{"resource_types": null}', "Invalid API request"),
        (b'{"resource_types": "messages"}', "Invalid API request"),
        (b'{"resource_types": ["claims"]}', "Invalid API request"),
        (b'{"resource_types": [["messages"]]}', "Invalid API request"),
        (b"[]", "Invalid request body"),
        (b"{", "Invalid request body"),
    ],
)
async def test_bad_purges_remove_nothing(api: Api, body: bytes, title: str) -> None:
    await api.post_bodies("q", 1)

    reply = await api.post("/v2/queues/q/purge", body=body)

    assert (reply.status, reply.title) == (400, title)
    assert (await api.get("/v2/queues/q/stats")).json["messages"]["total"] == 1


@pytest.mark.parametrize("path", ["/v2/queues/q", "/v2/queues/q/purge"])
async def test_a_put_or_purge_of_a_queue_never_created_is_fine(api: Api, path: str) -> None:
    method = "PUT" if path.endswith("q") else "POST"

    assert (await api.call(method, path)).status in (201, 204)


@pytest.mark.parametrize(("size", "status"), [(100, 201), (101, 400)])
async def test_the_metadata_of_a_queue_has_a_size(
    start_api: StartApi, size: int, status: int
) -> None:
    api = await start_api(max_queue_metadata=100)
    body = b'{"k": "%s"}' % (b"x" * (size - 9))
    assert len(body) == size

    assert (await api.put("/v2/queues/q", body=body)).status == status
