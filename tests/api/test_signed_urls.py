"""Pre-signed requests: made by `share`, admitted where they were signed for, and nowhere else."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any

import pytest

from tests.api.conftest import PROJECT, Api, StartApi, running
from tests.clock import ManualClock
from zaqar_notify.rules.signing import sign_url, wire_instant


@pytest.fixture
async def api(start_api: StartApi) -> Api:
    return await start_api(signed_url_secrets="secret,former", webhook_secret="master")


async def share(api: Api, queue: str = "q", **fields: object) -> dict[str, Any]:
    """The headers of a share."""
    reply = await api.post(f"/v2/queues/{queue}/share", body=json.dumps(fields).encode())
    assert reply.status == 200, reply
    shared = reply.json
    return {
        "URL-Signature": shared["signature"],
        "URL-Methods": ",".join(shared["methods"]),
        "URL-Paths": ",".join(shared["paths"]),
        "URL-Expires": shared["expires"],
        "X-Project-ID": shared["project"],
    }


async def test_a_share_says_what_was_signed(api: Api) -> None:
    reply = await api.post(
        "/v2/queues/q/share",
        {
            "paths": ["messages", "claims"],
            "methods": ["POST", "GET"],
            "expires": "2101-01-01T02:00:00.5+02:00",
        },
    )

    assert reply.status == 200
    assert {key: value for key, value in reply.json.items() if key != "signature"} == {
        "project": PROJECT,
        "methods": ["GET", "POST"],
        "expires": "2101-01-01T00:00:00",
        "paths": ["/v2/queues/q/claims", "/v2/queues/q/messages"],
    }


@pytest.mark.parametrize(
    ("body", "title"),
    [
        (None, "Invalid request body"),
        (b"x", "Invalid request body"),
        (b"[]", "Invalid request body"),
        (b'{"paths": ["stats"]}', "Invalid API request"),
        (b'{"methods": [1]}', "Invalid API request"),
        (b'{"methods": "GET"}', "Invalid API request"),
        (b'{"expires": 5}', "Invalid API request"),
        (b'{"expires": "2000-01-01T00:00:00"}', "Invalid API request"),
        (b'{"other": 1}', "Invalid API request"),
    ],
)
async def test_bad_shares(api: Api, body: bytes | None, title: str) -> None:
    reply = await api.post("/v2/queues/q/share", body=body)

    assert (reply.status, reply.title) == (400, title)


async def test_sharing_without_a_secret_is_refused(start_api: StartApi) -> None:
    api = await start_api()

    assert (await api.post("/v2/queues/q/share", body=b"{}")).status == 400
    signed = await api.get("/v2/queues/q/messages", headers={"URL-Signature": "x"})
    assert (signed.status, signed.title) == (404, "404 Not Found")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/queues/q/messages", 200),
        ("GET", "/v2/queues/q/messages?limit=1", 200),
        ("POST", "/v2/queues/q/messages", 404),
        ("GET", "/v2/queues/q/messagesx", 404),
        ("GET", "/v2/queues/q/claims/x", 404),
        ("GET", "/v2/queues/r/messages", 404),
        ("GET", "/v2/queues/q", 404),
        ("GET", "/v2/queues", 404),
    ],
)
async def test_a_share_admits_its_paths_and_methods_only(
    api: Api, method: str, path: str, status: int
) -> None:
    headers = await share(api)

    reply = await api.call(method, path, headers=headers)

    assert reply.status == status
    assert status == 200 or reply.title == "404 Not Found"


async def test_a_share_admits_what_is_below_its_path(api: Api) -> None:
    [message_id] = await api.post_bodies("q", 1)
    headers = await share(api)

    assert (await api.get(f"/v2/queues/q/messages/{message_id}", headers=headers)).status == 200


async def test_a_dot_in_a_queue_s_name_stands_for_itself(api: Api) -> None:
    headers = await share(api, queue="a.b")

    assert (await api.get("/v2/queues/a.b/messages", headers=headers)).status == 200
    assert (await api.get("/v2/queues/aXb/messages", headers=headers)).status == 404


async def test_a_share_ends(api: Api, clock: ManualClock) -> None:
    headers = await share(api)
    clock.advance(seconds=86399)
    assert (await api.get("/v2/queues/q/messages", headers=headers)).status == 200
    clock.advance(seconds=1)

    reply = await api.get("/v2/queues/q/messages", headers=headers)

    assert (reply.status, reply.title) == (404, "404 Not Found")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("URL-Signature", ""),
        ("URL-Signature", "0" * 64),
        ("URL-Signature", "\u00e9"),
        ("URL-Methods", "GET,POST"),
        ("URL-Paths", "/v2/queues/q"),
        ("URL-Expires", "2199-01-01T00:00:00"),
        ("URL-Expires", "soon"),
        ("URL-Expires", None),
        ("X-Project-ID", "p2"),
        ("X-Project-ID", None),
    ],
)
async def test_a_share_that_was_altered_is_refused(api: Api, name: str, value: str | None) -> None:
    headers = await share(api) | {name: value}

    reply = await api.get("/v2/queues/q/messages", headers=headers)

    assert (reply.status, reply.title) == (404, "404 Not Found")


async def test_a_client_id_is_needed_all_the_same(api: Api) -> None:
    headers = await share(api) | {"Client-ID": None}

    reply = await api.get("/v2/queues/q/messages", headers=headers)

    assert (reply.status, reply.title) == (400, "Missing header value")


async def test_a_share_of_subscriptions_opens_neither_their_secrets_nor_their_payloads(
    api: Api,
) -> None:
    subscription_id = await api.subscribe("q", "http://example.org/")
    headers = await share(api, paths=["subscriptions"], methods=["GET", "POST"])
    path = f"/v2/queues/q/subscriptions/{subscription_id}"

    assert (await api.get(path, headers=headers)).status == 200
    assert (await api.get(f"{path}/secret", headers=headers)).status == 404
    assert (await api.post(f"{path}/secret", headers=headers)).status == 404
    assert (await api.get(f"{path}/undelivered", headers=headers)).status == 404


@pytest.mark.parametrize("path", ["/v2/queues/q/subscriptions", "/v2/queues/q/subscriptions/{id}"])
async def test_the_holder_of_a_share_makes_no_other_queue_a_subscriber(api: Api, path: str) -> None:
    subscription_id = await api.subscribe("q", "http://example.org/")
    headers = await share(api, paths=["subscriptions"], methods=["POST", "PATCH"])
    method = "PATCH" if "{id}" in path else "POST"

    body = {"subscriber": "queue:other"}
    reply = await api.call(method, path.format(id=subscription_id), body, headers=headers)

    assert (reply.status, reply.title) == (403, "Not authorized")


@pytest.mark.parametrize("path", ["x/y", "", "../../other/messages", "a/b/confirm"])
async def test_a_share_finds_nothing_below_its_path_where_there_is_nothing(
    api: Api, path: str
) -> None:
    headers = await share(api)

    reply = await api.get(f"{MESSAGES}/{path}", headers=headers)

    assert (reply.status, reply.title) == (404, "404 Not Found")


MESSAGES = "/v2/queues/q/messages"


async def status_of(api: Api, headers: dict[str, Any], path: str = MESSAGES) -> int:
    return (await api.get(path, headers=headers)).status


async def test_a_revocation_ends_all_that_were_made_before_and_none_made_after(api: Api) -> None:
    before, of_another_queue = await share(api), await share(api, queue="r")

    revoked = await api.delete("/v2/queues/q/share")

    assert (revoked.status, revoked.body) == (204, b"")
    assert await status_of(api, before) == 404
    assert await status_of(api, await share(api)) == 200
    assert await status_of(api, of_another_queue, "/v2/queues/r/messages") == 200


async def test_each_revocation_ends_those_made_since_the_last(api: Api) -> None:
    await api.delete("/v2/queues/q/share")
    between = await share(api)

    await api.delete("/v2/queues/q/share")

    assert await status_of(api, between) == 404
    assert await status_of(api, await share(api)) == 200


async def test_a_deleted_queue_s_urls_stay_revoked(api: Api) -> None:
    await api.put("/v2/queues/q")
    before = await share(api)
    await api.delete("/v2/queues/q/share")

    await api.delete("/v2/queues/q")

    assert await status_of(api, before) == 404


async def test_another_project_s_queue_of_the_same_name_is_not_revoked(api: Api) -> None:
    mine = await share(api)

    await api.delete("/v2/queues/q/share", headers={"X-Project-ID": "p2"})

    assert await status_of(api, mine) == 200


async def test_a_process_that_has_not_seen_the_revocation_takes_a_new_signature(api: Api) -> None:
    async with running(api.service) as other:
        assert await status_of(other, await share(api)) == 200

        await api.delete("/v2/queues/q/share")

        assert await status_of(other, await share(api)) == 200


async def test_a_queue_that_was_never_revoked_has_zaqar_s_signatures(api: Api) -> None:
    await api.delete("/v2/queues/r/share")

    signatures = [(await share(api, queue=name))["URL-Signature"] for name in ("q", "r")]

    assert [bool(re.fullmatch("[0-9a-f]{64}", each)) for each in signatures] == [True, False]


async def test_a_share_that_would_live_too_long_is_refused_with_the_limit(
    start_api: StartApi, clock: ManualClock
) -> None:
    api = await start_api(signed_url_secrets="secret", signed_url_max_seconds=3600)
    longest, longer = (
        (clock.now() + timedelta(seconds=seconds)).isoformat() for seconds in (3600, 3601)
    )

    refused = await api.post("/v2/queues/q/share", {"expires": longer})

    assert (refused.status, refused.title) == (400, "Invalid API request")
    assert "at most 3600 seconds" in refused.json["description"]
    assert await status_of(api, await share(api, expires=longest)) == 200


async def test_a_share_lives_no_longer_by_default_than_it_may(
    start_api: StartApi, clock: ManualClock
) -> None:
    api = await start_api(signed_url_secrets="secret", signed_url_max_seconds=60)
    headers = await share(api)

    clock.advance(seconds=59)
    before_the_end = await status_of(api, headers)
    clock.advance(seconds=1)

    assert (before_the_end, await status_of(api, headers)) == (200, 404)


async def test_a_signature_from_before_the_limit_that_lives_longer_is_refused(
    start_api: StartApi, clock: ManualClock
) -> None:
    api = await start_api(signed_url_secrets="secret", signed_url_max_seconds=3600)
    expires = clock.now() + timedelta(days=1)
    headers = {
        "URL-Signature": sign_url(
            "secret", paths=[MESSAGES], methods=["GET"], project=PROJECT, expires=expires
        ),
        "URL-Methods": "GET",
        "URL-Paths": MESSAGES,
        "URL-Expires": wire_instant(expires),
    }

    assert await status_of(api, headers) == 404
    clock.advance(seconds=86400 - 3600)
    assert await status_of(api, headers) == 200
