"""Version 1, where it differs from versions 1.1 and 2."""

from __future__ import annotations

from typing import Any

import pytest

from api.v1.admission import COMMON_PROJECT
from tests.api.conftest import OTHER_CLIENT_ID, Api, Reply, StartApi, make_token
from zaqar_notify.settings import VERSIONS

QUEUE = "/v1/queues/q"
OTHER = {"Client-ID": OTHER_CLIENT_ID}
NOBODY = {"Client-ID": None, "X-Project-ID": None}
ABSENT = "6123f4a0b1c2d3e4f5a6b7c8"


@pytest.fixture
async def api(start_api: StartApi) -> Api:
    return await start_api(versions=VERSIONS)


async def post(api: Api, *bodies: object) -> list[str]:
    """Messages on a queue that is made for them; their links."""
    await api.put(QUEUE)
    posted = await api.post(f"{QUEUE}/messages", [{"body": body, "ttl": 300} for body in bodies])
    assert posted.status == 201
    hrefs: list[str] = posted.json["resources"]
    return hrefs


async def send(api: Api, method: str, path: str, body: Any) -> Reply:
    """Send a body, given as bytes or as a JSON value."""
    if isinstance(body, bytes):
        return await api.call(method, path, body=body)
    return await api.call(method, path, body)


def refusal(reply: Reply) -> tuple[int, str | None]:
    return reply.status, reply.title


# Discovery.


async def test_all_versions_are_listed_the_oldest_first(api: Api) -> None:
    versions = (await api.get("/", headers=NOBODY)).json["versions"]

    assert [each["id"] for each in versions] == ["1", "1.1", "2"]
    assert versions[0] == {
        "id": "1",
        "status": "DEPRECATED",
        "updated": "2014-9-11T17:47:05Z",
        "media-types": [
            {"base": "application/json", "type": "application/vnd.openstack.messaging-v1+json"}
        ],
        "links": [{"href": "/v1/", "rel": "self"}],
    }


async def test_it_is_not_served_unless_it_is_asked_for(start_api: StartApi) -> None:
    api = await start_api()

    assert refusal(await api.get("/v1/queues")) == (404, "404 Not Found")
    assert [each["id"] for each in (await api.get("/")).json["versions"]] == ["1.1", "2"]


async def test_the_home_document_has_the_relations_of_the_version(api: Api) -> None:
    resources = (await api.get("/v1/", headers=NOBODY)).json["resources"]

    assert {name: each["hints"]["allow"] for name, each in resources.items()} == {
        "rel/queues": ["GET"],
        "rel/queue": ["GET", "HEAD", "PUT", "DELETE"],
        "rel/queue-metadata": ["GET", "PUT"],
        "rel/queue-stats": ["GET"],
        "rel/messages": ["GET"],
        "rel/post-messages": ["POST"],
        "rel/claim": ["POST"],
    }
    assert resources["rel/claim"]["href-template"] == "/v1/queues/{queue_name}/claims{?limit}"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_health_is_a_ping(api: Api, method: str) -> None:
    reply = await api.call(method, "/v1/health", headers=NOBODY)

    assert (reply.status, reply.body) == (204, b"")


async def test_health_says_503_while_the_store_is_away(api: Api) -> None:
    await api.service.storage.close()

    assert (await api.get("/v1/health")).status == 503
    assert (await api.call("HEAD", "/v1/health")).status == 204


@pytest.mark.parametrize(
    "path",
    [
        "/v1/ping",
        "/v1/pools",
        "/v1/pools/p",
        "/v1/flavors",
        f"{QUEUE}/subscriptions",
        f"{QUEUE}/purge",
        f"{QUEUE}/share",
    ],
)
async def test_what_the_version_does_not_have_is_not_found(api: Api, path: str) -> None:
    assert refusal(await api.get(path)) == (404, "404 Not Found")


# Headers.


async def test_a_client_id_is_needed_to_post_and_to_list_messages_only(api: Api) -> None:
    headers = {"Client-ID": None}
    await api.put(QUEUE, headers=headers)

    listed = await api.get(f"{QUEUE}/messages", headers=headers)
    posted = await api.post(f"{QUEUE}/messages", [{"body": 1, "ttl": 300}], headers=headers)
    by_ids = await api.get(f"{QUEUE}/messages?ids={ABSENT}", headers=headers)
    claimed = await api.post(f"{QUEUE}/claims", {"ttl": 60, "grace": 60}, headers=headers)

    assert refusal(listed) == refusal(posted) == (400, "Missing header value")
    assert (by_ids.status, claimed.status) == (204, 204)


async def test_a_client_id_that_is_sent_must_be_valid(api: Api) -> None:
    reply = await api.get("/v1/queues", headers={"Client-ID": "nobody"})

    assert refusal(reply) == (400, "Wrong UUID value")


async def test_requests_without_a_project_share_one(api: Api) -> None:
    created = await api.put(QUEUE, headers=NOBODY)
    found = await api.get(QUEUE, headers=NOBODY)
    of_another = await api.get(QUEUE)
    in_version_2 = await api.get("/v2/queues", headers={"X-Project-ID": COMMON_PROJECT})

    assert (created.status, found.status, of_another.status) == (201, 204, 404)
    assert [each["name"] for each in in_version_2.json["queues"]] == ["q"]


async def test_an_empty_project_is_refused(api: Api) -> None:
    reply = await api.get(QUEUE, headers={"X-Project-ID": ""})

    assert refusal(reply) == (400, "Empty project header not allowed")


async def test_behind_a_trusted_proxy_requests_without_a_project_are_refused(
    start_api: StartApi,
) -> None:
    api = await start_api(versions=VERSIONS, trust_proxy=True)

    for headers in (NOBODY, NOBODY | {"X-Roles": "member"}):
        assert refusal(await api.put(QUEUE, headers=headers)) == (400, "Project-Id Missing")


async def test_with_tokens_no_route_opens_without_one(start_api: StartApi) -> None:
    api = await start_api(versions=VERSIONS, auth="token")
    token = {"X-Auth-Token": await make_token(api, scope="admin"), "X-Project-ID": None}

    assert (await api.put(QUEUE, headers=NOBODY)).status == 401
    assert (await api.get("/v1/health", headers=NOBODY)).status == 401
    assert (await api.put(QUEUE, headers=token)).status == 201


# Queues.


async def test_a_queue_is_created_and_its_body_ignored(api: Api) -> None:
    created = await api.put(QUEUE, "no metadata")
    again = await api.put(QUEUE)

    assert (created.status, created.headers["Location"], created.body) == (201, QUEUE, b"")
    assert (again.status, again.headers["Location"]) == (204, QUEUE)
    assert (await api.get(f"{QUEUE}/metadata")).json == {}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_queue_is_asked_whether_it_exists(api: Api, method: str) -> None:
    absent = await api.call(method, QUEUE)
    await api.put(QUEUE)
    present = await api.call(method, QUEUE)

    assert (absent.status, absent.body, absent.headers["Content-Location"]) == (404, b"", QUEUE)
    assert (present.status, present.body, present.headers["Content-Location"]) == (204, b"", QUEUE)


async def test_a_queue_is_deleted(api: Api) -> None:
    await api.put(QUEUE)

    assert (await api.delete(QUEUE)).status == 204
    assert (await api.delete(QUEUE)).status == 204
    assert (await api.get(QUEUE)).status == 404


async def test_queues_are_listed_and_an_empty_page_has_no_body(api: Api) -> None:
    for name in ("a", "b"):
        await api.put(f"/v1/queues/{name}")
    await api.put("/v1/queues/a/metadata", {"owner": "shop"})

    page = await api.get("/v1/queues?limit=1&detailed=True")
    [link] = page.json["links"]
    empty = await api.get("/v1/queues?marker=b")

    assert page.json["queues"] == [
        {"name": "a", "href": "/v1/queues/a", "metadata": {"owner": "shop"}}
    ]
    assert page.headers["Content-Location"] == "/v1/queues?limit=1&detailed=True"
    assert link["href"] == "/v1/queues?limit=1&detailed=true&marker=a"
    assert [each["name"] for each in (await api.get(link["href"])).json["queues"]] == ["b"]
    assert (empty.status, empty.body) == (204, b"")


async def test_metadata_is_replaced_as_a_whole(api: Api) -> None:
    await api.put(QUEUE)
    await api.put(f"{QUEUE}/metadata", {"owner": "shop", "colour": "red"})

    replaced = await api.put(f"{QUEUE}/metadata", {"owner": "bank"})
    shown = await api.get(f"{QUEUE}/metadata")

    assert (replaced.status, replaced.headers["Location"]) == (204, f"{QUEUE}/metadata")
    assert (shown.status, shown.json) == (200, {"owner": "bank"})
    assert shown.headers["Content-Location"] == f"{QUEUE}/metadata"


async def test_reserved_keys_of_other_versions_stay(api: Api) -> None:
    await api.put("/v2/queues/q", {"_default_message_ttl": 600, "owner": "shop"})

    await api.put(f"{QUEUE}/metadata", {})

    assert (await api.get(f"{QUEUE}/metadata")).json == {"_default_message_ttl": 600}


@pytest.mark.parametrize(
    ("body", "title"),
    [
        (b"", "Invalid request body"),
        ([1], "Invalid request body"),
        (b"{", "Invalid request body"),
        ({"_default_message_ttl": 600}, "Invalid API request"),
        ({"_mine": 1}, "Invalid API request"),
        ({"large": "x" * 65536}, "Invalid API request"),
    ],
)
async def test_refused_metadata_changes_nothing(api: Api, body: Any, title: str) -> None:
    await api.put(QUEUE)
    await api.put(f"{QUEUE}/metadata", {"owner": "shop"})

    refused = await send(api, "PUT", f"{QUEUE}/metadata", body)

    assert refusal(refused) == (400, title)
    assert (await api.get(f"{QUEUE}/metadata")).json == {"owner": "shop"}


async def test_a_queue_that_was_not_created_has_nothing(api: Api) -> None:
    not_found = [
        await api.get(f"{QUEUE}/metadata"),
        await api.put(f"{QUEUE}/metadata", {}),
        await api.get(f"{QUEUE}/stats"),
        await api.post(f"{QUEUE}/messages", [{"body": 1, "ttl": 300}]),
        await api.get(f"{QUEUE}/messages/{ABSENT}"),
    ]
    empty = [
        await api.get(f"{QUEUE}/messages"),
        await api.get(f"{QUEUE}/messages?ids={ABSENT}"),
        await api.post(f"{QUEUE}/claims", {"ttl": 60, "grace": 60}),
    ]

    assert {refusal(each) for each in not_found} == {(404, "Not found")}
    assert {(each.status, each.body) for each in empty} == {(204, b"")}
    assert (await api.get(QUEUE)).status == 404


async def test_statistics_count_and_link(api: Api) -> None:
    [href] = await post(api, "a")

    reply = await api.get(f"{QUEUE}/stats")

    assert reply.json["messages"]["total"] == 1
    assert reply.json["messages"]["oldest"]["href"] == href
    assert reply.headers["Content-Location"] == f"{QUEUE}/stats"


# Messages.


async def test_a_post_is_a_bare_array(api: Api) -> None:
    await api.put(QUEUE)

    posted = await api.post(f"{QUEUE}/messages", [{"body": {"n": n}, "ttl": 300} for n in range(2)])

    ids = [href.rpartition("/")[2] for href in posted.json["resources"]]
    assert posted.json == {
        "resources": [f"{QUEUE}/messages/{each}" for each in ids],
        "partial": False,
    }
    assert posted.headers["Location"] == f"{QUEUE}/messages?ids={','.join(ids)}"


@pytest.mark.parametrize(
    ("body", "title"),
    [
        (b"", "Invalid request body"),
        ({"messages": [{"body": 1, "ttl": 300}]}, "Invalid request body"),
        ([{"body": 1}], "Invalid request body"),
        ([{"ttl": 300}], "Invalid request body"),
        ([{"body": 1, "ttl": "300"}], "Invalid request body"),
        (["x"], "Invalid request body"),
        ([], "Invalid API request"),
        ([{"body": 1, "ttl": 59}], "Invalid API request"),
        ([{"body": 1, "ttl": 1209601}], "Invalid API request"),
    ],
)
async def test_a_refused_post_stores_nothing(api: Api, body: Any, title: str) -> None:
    await api.put(QUEUE)

    assert refusal(await send(api, "POST", f"{QUEUE}/messages", body)) == (400, title)
    assert (await api.get(f"{QUEUE}/messages?echo=true")).status == 204


async def test_messages_are_browsed_until_a_page_is_empty(api: Api) -> None:
    hrefs = await post(api, "a", "b", "c")

    page = await api.get(f"{QUEUE}/messages?limit=2", headers=OTHER)
    [link] = page.json["links"]
    last = await api.get(link["href"], headers=OTHER)
    end = await api.get(last.json["links"][0]["href"], headers=OTHER)

    assert page.json["messages"][0] == {"href": hrefs[0], "ttl": 300, "age": 0, "body": "a"}
    assert page.headers["Content-Location"] == f"{QUEUE}/messages?limit=2"
    assert [each["body"] for each in last.json["messages"]] == ["c"]
    assert (end.status, end.body) == (204, b"")
    assert (await api.get(f"{QUEUE}/messages")).status == 204


async def test_messages_are_read_by_id_without_the_id_of_their_claim(api: Api) -> None:
    [href] = await post(api, "a")
    await api.post(f"{QUEUE}/claims", {"ttl": 60, "grace": 60})
    message = {"href": href, "ttl": 300, "age": 0, "body": "a"}

    one = await api.get(href)
    several = await api.get(f"{QUEUE}/messages?ids={href.rpartition('/')[2]},{ABSENT}")
    listed = await api.get(f"{QUEUE}/messages?echo=true&include_claimed=true")

    assert (one.json, one.headers["Content-Location"]) == (message, href)
    assert several.json == [message]
    assert listed.json["messages"] == [message]
    assert refusal(await api.get(f"{QUEUE}/messages/{ABSENT}")) == (404, "Not found")


async def test_messages_are_deleted_by_ids_and_not_popped(api: Api) -> None:
    hrefs = await post(api, "a", "b")

    popped = await api.delete(f"{QUEUE}/messages?pop=1")
    deleted = await api.delete(f"{QUEUE}/messages?ids={hrefs[0].rpartition('/')[2]},{ABSENT}")

    assert refusal(popped) == (400, "Missing parameter")
    assert (deleted.status, deleted.body) == (204, b"")
    assert (await api.get(hrefs[0])).status == 404
    assert (await api.get(hrefs[1])).status == 200


# Claims.


async def test_a_claim_is_a_bare_array_of_messages_with_its_id(api: Api) -> None:
    hrefs = await post(api, "a", "b")

    claimed = await api.post(f"{QUEUE}/claims?limit=1", {"ttl": 100, "grace": 60})
    claim = claimed.headers["Location"]
    claimed_href = f"{hrefs[0]}?claim_id={claim.rpartition('/')[2]}"
    message = {"href": claimed_href, "ttl": 300, "age": 0, "body": "a"}
    shown = await api.get(claim)

    assert (claimed.status, claimed.json) == (201, [message])
    assert shown.json == {"age": 0, "ttl": 100, "messages": [message], "href": claim}
    assert shown.headers["Content-Location"] == claim
    assert refusal(await api.delete(hrefs[0])) == (403, "Unable to delete")
    assert (await api.delete(claimed_href)).status == 204


@pytest.mark.parametrize(
    ("body", "title"),
    [
        (b"", "Invalid request body"),
        ({}, "Invalid request body"),
        ({"ttl": 60}, "Invalid request body"),
        ({"grace": 60}, "Invalid request body"),
        ({"ttl": 60, "grace": None}, "Invalid request body"),
        ([60, 60], "Invalid request body"),
        ({"ttl": 59, "grace": 60}, "Invalid API request"),
        ({"ttl": 60, "grace": 59}, "Invalid API request"),
        ({"ttl": 43201, "grace": 60}, "Invalid API request"),
    ],
)
async def test_a_claim_names_both_times(api: Api, body: Any, title: str) -> None:
    await post(api, "a")

    assert refusal(await send(api, "POST", f"{QUEUE}/claims", body)) == (400, title)
    assert (await api.get(f"{QUEUE}/stats")).json["messages"]["free"] == 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"ttl": 200}, 204),
        ({"ttl": 200, "grace": 0}, 204),
        ({"ttl": 200, "grace": 60}, 204),
        ({}, 400),
        (b"", 400),
        ({"grace": 60}, 400),
        ({"ttl": 59}, 400),
        ({"ttl": 200, "grace": -1}, 400),
    ],
)
async def test_a_claim_is_renewed_by_its_ttl(api: Api, body: Any, status: int) -> None:
    await post(api, "a")
    claim = (await api.post(f"{QUEUE}/claims", {"ttl": 100, "grace": 60})).headers["Location"]

    renewed = await send(api, "PATCH", claim, body)

    assert renewed.status == status
    assert (await api.get(claim)).json["ttl"] == (200 if status == 204 else 100)


async def test_a_claim_is_released(api: Api) -> None:
    await post(api, "a")
    claim = (await api.post(f"{QUEUE}/claims", {"ttl": 100, "grace": 60})).headers["Location"]

    assert (await api.delete(claim)).status == 204
    assert (await api.delete(claim)).status == 204
    assert refusal(await api.get(claim)) == (404, "Not found")
    assert (await api.post(f"{QUEUE}/claims", {"ttl": 100, "grace": 60})).status == 201
