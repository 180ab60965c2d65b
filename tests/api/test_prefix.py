"""Below a path: every link begins with the public URL's, whether the proxy takes it away or not."""

from __future__ import annotations

import json
import re

import pytest

from tests.api.conftest import Api, StartApi
from zaqar_notify.settings import VERSIONS

PUBLIC_URL = "https://mq.example/messaging/"
QUEUE = "/v2/queues/q"
LINK = re.compile(r'"(/[^"]*)"')


@pytest.fixture
async def api(start_api: StartApi) -> Api:
    return await start_api(
        public_url=PUBLIC_URL,
        signed_url_secrets="key",
        webhook_secret="key",
        admin_mode=True,
        versions=VERSIONS,
    )


async def links(api: Api, method: str, path: str, document: object = None) -> list[str]:
    """Every link in an answer: texts in its body that look like a path, and its Location."""
    reply = await api.call(method, path, document)
    assert reply.status < 400, (method, path, reply)
    found = LINK.findall(reply.body.decode())
    return found + ([reply.headers["Location"]] if "Location" in reply.headers else [])


async def test_every_link_begins_with_the_prefix(api: Api) -> None:
    [message_id] = await api.post_bodies("q", 1)
    subscription = await api.subscribe("q", "http://example.org/")
    claimed = await api.post(f"{QUEUE}/claims", {})
    claim = claimed.headers["Location"].removeprefix("/messaging")
    one = f"{QUEUE}/subscriptions/{subscription}"

    asked = {
        ("GET", "/"): None,
        ("GET", "/v2/"): None,
        ("PUT", "/v2/queues/new"): None,
        ("PUT", "/v2/queues/q"): None,
        ("GET", "/v2/queues?detailed=true"): None,
        ("GET", f"{QUEUE}/stats"): None,
        ("POST", f"{QUEUE}/share"): {"paths": ["messages", "claims"]},
        ("POST", f"{QUEUE}/messages"): {"messages": [{"body": 1}]},
        ("GET", f"{QUEUE}/messages?echo=true&include_claimed=true"): None,
        ("GET", f"{QUEUE}/messages/{message_id}"): None,
        ("GET", f"{QUEUE}/messages?ids={message_id}"): None,
        ("GET", claim): None,
        ("POST", f"{QUEUE}/subscriptions"): {"subscriber": "http://example.net/"},
        ("GET", f"{QUEUE}/subscriptions"): None,
        ("PATCH", one): {"ttl": 600},
        ("PUT", f"{one}/confirm"): {"confirmed": True},
        ("POST", f"{QUEUE}/claims"): {},
    }
    for (method, path), document in asked.items():
        found = await links(api, method, path, document)

        assert found, (method, path)
        of_version = "/messaging/v" if path == "/" else "/messaging/v2/"
        assert all(link.startswith(of_version) for link in found), (method, path, found)


@pytest.mark.parametrize("version", ["/v1.1", "/v1"])
async def test_every_link_of_a_former_version_begins_with_the_prefix(
    api: Api, version: str
) -> None:
    [message_id] = await api.post_bodies("q", 1)
    queue = f"{version}/queues/q"

    for method, path in (
        ("GET", f"{version}/"),
        ("PUT", queue),
        ("GET", f"{version}/queues?detailed=true"),
        ("GET", f"{queue}/stats"),
        ("GET", f"{queue}/messages?echo=true&include_claimed=true"),
        ("GET", f"{queue}/messages?ids={message_id}"),
    ):
        found = await links(api, method, path)

        assert found, (method, path)
        assert all(link.startswith(f"/messaging{version}/") for link in found), (path, found)


async def test_a_conflict_links_to_the_subscriptions_below_the_prefix(api: Api) -> None:
    subscription = await api.subscribe("q", "http://example.org/")
    await api.put(f"{QUEUE}/subscriptions/{subscription}/confirm", {"confirmed": True})

    reply = await api.post(f"{QUEUE}/subscriptions", {"subscriber": "http://example.org/"})

    assert (reply.status, reply.headers["Location"]) == (409, f"/messaging{QUEUE}/subscriptions")


async def test_links_can_be_followed_with_the_prefix_and_without(api: Api) -> None:
    await api.post_bodies("q", *range(3))

    first = await api.get(f"/messaging{QUEUE}/messages?echo=true&limit=2")
    [link] = first.json["links"]
    for href in (link["href"], link["href"].removeprefix("/messaging")):
        assert [message["body"] for message in (await api.get(href)).json["messages"]] == [2]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/messaging", 300),
        ("/messaging/", 300),
        ("//messaging/v2/queues", 200),
        ("/messaging/docs", 200),
        ("/messaging/openapi.json", 200),
        ("/messaging/healthz", 204),
        ("/messagingv2/queues", 404),
        ("/messaging/messaging/v2/queues", 200),
        ("/v2/messaging/v2/queues", 200),
        ("/messaging/v2/messaging/v2/queues", 200),
        ("/v2/messagingv2/queues", 404),
        ("/other/messaging/v2/queues", 404),
        ("/messaging/v2/queues/a%2Fb/messages", 400),
    ],
)
async def test_the_prefix_is_a_word_of_the_path(api: Api, path: str, status: int) -> None:
    assert (await api.get(path)).status == status


@pytest.mark.parametrize("sent", ["/messaging", ""])
async def test_a_pre_signed_path_holds_with_the_prefix_and_without(api: Api, sent: str) -> None:
    shared = (await api.post(f"{QUEUE}/share", {})).json
    assert shared["paths"] == [f"/messaging{QUEUE}/messages"]
    signed = {
        "URL-Signature": shared["signature"],
        "URL-Paths": ",".join(shared["paths"]),
        "URL-Methods": ",".join(shared["methods"]),
        "URL-Expires": shared["expires"],
    }

    allowed = await api.get(f"{sent}{QUEUE}/messages", headers=signed)
    other = await api.get(f"{sent}{QUEUE}/claims/1", headers=signed)

    assert (allowed.status, other.status) == (200, 404)


@pytest.mark.parametrize("path", ["/docs/", "/openapi.json/", "/messaging/docs/", "/v2/queues/q/"])
async def test_no_answer_leads_to_the_host_that_a_request_names(api: Api, path: str) -> None:
    reply = await api.get(path, headers={"Host": "evil"})

    assert reply.status in (400, 404)
    assert "Location" not in reply.headers
    assert b"evil" not in reply.body


async def test_a_prefix_that_is_a_word_of_ours_hides_nothing(start_api: StartApi) -> None:
    api = await start_api(public_url="https://mq.example/queues")
    await api.put("/v2/queues/v2")
    await api.put("/queues/v2/queues/queues")

    assert (await api.post("/v2/queues/v2/claims", {})).status == 204
    listed = (await api.get("/v2/queues/v2/queues")).json["queues"]
    assert [queue["name"] for queue in listed] == ["queues", "v2"]


async def test_without_a_public_url_there_is_no_prefix(start_api: StartApi) -> None:
    api = await start_api(public_url="https://mq.example")

    reply = await api.get("/v2/queues/q/messages")

    assert json.loads(reply.body)["links"] == []
    assert (await api.get("/")).json["versions"][-1]["links"][0]["href"] == "/v2/"
