"""Version discovery, the home document, ping."""

from __future__ import annotations

import pytest

from api.v2.discovery import ALL_ENTRIES
from api.zaqar.home import home
from tests.api.conftest import Api, StartApi

NOBODY = {"Client-ID": None, "X-Project-ID": None}


async def test_the_versions_are_listed_without_any_header(api: Api) -> None:
    reply = await api.get("/", headers=NOBODY)

    assert reply.status == 300
    assert reply.headers["Content-Type"] == "application/json"
    *_, version = reply.json["versions"]
    assert version == {
        "id": "2",
        "status": "CURRENT",
        "updated": "2014-9-24T04:06:47Z",
        "media-types": [
            {"base": "application/json", "type": "application/vnd.openstack.messaging-v2+json"}
        ],
        "links": [{"href": "/v2/", "rel": "self"}],
    }


@pytest.mark.parametrize("path", ["/v2/", "/v2"])
async def test_the_home_document_is_json_home(api: Api, path: str) -> None:
    reply = await api.get(path)

    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/json-home"
    assert reply.headers["Cache-Control"] == "max-age=86400"
    assert reply.json["resources"]["rel/queue"] == {
        "href-template": "/v2/queues/{queue_name}",
        "href-vars": {"queue_name": "param/queue_name"},
        "hints": {"allow": ["GET", "PUT", "DELETE", "PATCH"], "formats": {"application/json": {}}},
    }


async def test_operators_find_pools_flavors_and_the_health(start_api: StartApi) -> None:
    api = await start_api(admin_mode=True)

    found = (await api.get("/v2/")).json["resources"]

    added = {
        name: found[name]
        for name in found.keys() - home("", "/v2", ALL_ENTRIES)["resources"].keys()
    }
    assert set(added) == {
        f"rel/{name}" for name in ("pools", "pool", "flavors", "flavor", "health")
    }
    assert added["rel/pools"]["href-template"] == "/v2/pools{?detailed,limit,marker}"
    assert added["rel/flavors"]["href-vars"]["limit"] == "param/flavor_limit"
    assert added["rel/pool"]["hints"]["allow"] == ["GET", "PUT", "PATCH", "DELETE"]
    assert added["rel/health"]["href"] == "/v2/health"


async def test_the_home_document_names_what_accepts_a_post() -> None:
    resources = home("", "/v2", ALL_ENTRIES)["resources"]
    posting = {name for name, entry in resources.items() if "accept-post" in entry["hints"]}

    assert posting == {
        "rel/queue_share",
        "rel/queue_purge",
        "rel/post_messages",
        "rel/post_claim",
        "rel/patch_claim",
        "rel/subscriptions_post",
        "rel/subscription_patch",
        "rel/topic_share",
        "rel/topic_purge",
        "rel/topic_messages_post",
        "rel/topic_subscriptions_post",
    }


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_ping_has_no_body(api: Api, method: str) -> None:
    reply = await api.call(method, "/v2/ping")

    assert (reply.status, reply.body) == (204, b"")


async def test_ping_asks_for_identity_and_healthz_does_not(api: Api) -> None:
    ping = await api.get("/v2/ping", headers=NOBODY)
    healthz = await api.get("/healthz", headers=NOBODY)

    assert ping.status == 400
    assert healthz.status == 204


async def test_get_ping_says_503_while_the_store_is_away_and_head_204(api: Api) -> None:
    await api.service.storage.close()

    assert (await api.get("/v2/ping")).status == 503
    assert (await api.get("/v2/ping")).body == b""
    assert (await api.call("HEAD", "/v2/ping")).status == 204


async def test_a_store_that_is_away_is_503_with_an_invitation_to_retry(api: Api) -> None:
    await api.service.storage.close()

    reply = await api.post("/v2/queues/q/messages", {"messages": [{"body": 1}]})

    assert reply.status == 503
    assert reply.title == "Service temporarily unavailable"
    assert reply.json["description"].endswith("Please retry in a moment.")
    assert reply.headers["Retry-After"] == "1"
