"""Claims over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import OTHER_CLIENT_ID, Api
from tests.clock import ManualClock

CLAIMS = "/v2/queues/q/claims"


async def claim(api: Api, document: object = None, query: str = "") -> Any:
    return await api.post(f"{CLAIMS}{query}", document)


async def test_a_claim_names_itself_in_location_and_in_each_href(api: Api) -> None:
    ids = await api.post_bodies("q", "a", "b", "c")

    reply = await claim(api, {"ttl": 100, "grace": 100}, "?limit=2")

    location = reply.headers["Location"]
    claim_id = location.rpartition("/")[2]
    assert reply.status == 201
    assert location == f"{CLAIMS}/{claim_id}"
    assert reply.json == {
        "messages": [
            {
                "id": message_id,
                "href": f"/v2/queues/q/messages/{message_id}?claim_id={claim_id}",
                "ttl": 3600,
                "age": 0,
                "body": body,
            }
            for message_id, body in zip(ids[:2], "ab", strict=True)
        ]
    }


async def test_nothing_to_claim_is_204_and_creates_nothing(api: Api) -> None:
    reply = await claim(api)

    assert (reply.status, reply.body) == (204, b"")
    assert "Location" not in reply.headers
    assert (await api.get("/v2/queues")).json["queues"] == []


async def test_own_messages_are_claimed_and_no_message_twice(api: Api) -> None:
    await api.post_bodies("q", 1, 2)

    first = await claim(api, query="?limit=1")
    second = await api.post(f"{CLAIMS}", headers={"Client-ID": OTHER_CLIENT_ID})
    third = await claim(api)

    assert [message["body"] for message in first.json["messages"]] == [1]
    assert [message["body"] for message in second.json["messages"]] == [2]
    assert third.status == 204


@pytest.mark.parametrize(
    ("query", "document", "count"),
    [
        ("", None, 10),
        ("", {}, 10),
        ("", {"limit": 3}, 3),
        ("?limit=2", {"limit": 3}, 2),
        ("?limit=20", None, 20),
        ("", {"limit": None, "ttl": None, "grace": None}, 10),
        ("?unknown=1", {"unknown": True}, 10),
    ],
)
async def test_how_many_are_claimed(api: Api, query: str, document: object, count: int) -> None:
    await api.post_bodies("q", *range(22))

    reply = await claim(api, document, query)

    assert len(reply.json["messages"]) == count


@pytest.mark.parametrize(
    ("query", "body", "title"),
    [
        ("?limit=0", b"", "Invalid API request"),
        ("?limit=21", b"", "Invalid API request"),
        ("?limit=-1", b"", "Invalid API request"),
        ("?limit=x", b"", "Invalid parameter"),
        ("?wait=21", b"", "Invalid API request"),
        ("?wait=-1", b"", "Invalid API request"),
        ("?wait=soon", b"", "Invalid parameter"),
        ("", b'{"limit": 21}', "Invalid API request"),
        ("", b'{"ttl": 59}', "Invalid API request"),
        ("", b'{"ttl": 43201}', "Invalid API request"),
        ("", b'{"ttl": -1}', "Invalid API request"),
        ("", b'{"grace": 59}', "Invalid API request"),
        ("", b'{"grace": 43201}', "Invalid API request"),
        ("", b'{"ttl": "60"}', "Invalid request body"),
        ("", b'{"ttl": 60.0}', "Invalid request body"),
        ("", b'{"ttl": true}', "Invalid request body"),
        ("", b'{"ttl": 99999999999999999999}', "Invalid request body"),
        ("", b"[]", "Invalid request body"),
        ("", b"null", "Invalid request body"),
        ("", b"{", "Invalid request body"),
        ("", b'{"x": NaN}', "Invalid request body"),
        ("", b'{"x": "\xff"}', "Invalid request body"),
        ("", b'{"x": ' + b"[" * 60000, "Invalid request body"),
    ],
)
async def test_bad_claims_claim_nothing(api: Api, query: str, body: bytes, title: str) -> None:
    await api.post_bodies("q", 1)

    reply = await api.post(f"{CLAIMS}{query}", body=body)

    assert (reply.status, reply.title) == (400, title)
    assert (await api.get("/v2/queues/q/stats")).json["messages"]["claimed"] == 0


@pytest.mark.parametrize(("ttl", "grace"), [(60, 60), (43200, 43200)])
async def test_the_bounds_of_ttl_and_grace_are_allowed(api: Api, ttl: int, grace: int) -> None:
    await api.post_bodies("q", 1)

    assert (await claim(api, {"ttl": ttl, "grace": grace})).status == 201


async def test_a_claim_is_shown_until_it_expires(api: Api, clock: ManualClock) -> None:
    await api.post_bodies("q", 1)
    location = (await claim(api, {"ttl": 60})).headers["Location"]

    clock.advance(seconds=59)
    shown = await api.get(location)
    assert shown.status == 200
    assert {key: shown.json[key] for key in ("age", "ttl", "href")} == {
        "age": 59,
        "ttl": 60,
        "href": location,
    }
    assert [message["age"] for message in shown.json["messages"]] == [59]
    clock.advance(seconds=1)
    assert (await api.get(location)).status == 404
    assert (await claim(api)).status == 201


async def test_renewing_begins_the_lease_anew(api: Api, clock: ManualClock) -> None:
    await api.post_bodies("q", 1)
    location = (await claim(api, {"ttl": 60})).headers["Location"]
    clock.advance(seconds=59)

    renewed = await api.patch(location, {"ttl": 100, "grace": None})

    assert (renewed.status, renewed.body) == (204, b"")
    assert "Location" not in renewed.headers
    clock.advance(seconds=99)
    assert (await api.get(location)).json["age"] == 99
    clock.advance(seconds=1)
    assert (await api.patch(location, {})).status == 404


async def test_renewing_with_nothing_takes_the_defaults(api: Api) -> None:
    await api.post_bodies("q", 1)
    location = (await claim(api, {"ttl": 60})).headers["Location"]

    assert (await api.patch(location, {})).status == 204
    assert (await api.get(location)).json["ttl"] == 300


@pytest.mark.parametrize(
    ("body", "title"),
    [
        (b"", "Invalid request body"),
        (b"[]", "Invalid request body"),
        (b'{"ttl": "x"}', "Invalid request body"),
        (b'{"ttl": 59}', "Invalid API request"),
        (b'{"grace": -1}', "Invalid API request"),
        (b'{"grace": 43201}', "Invalid API request"),
    ],
)
async def test_bad_renewals_change_nothing(api: Api, body: bytes, title: str) -> None:
    await api.post_bodies("q", 1)
    location = (await claim(api, {"ttl": 60})).headers["Location"]

    reply = await api.patch(location, body=body or None)

    assert (reply.status, reply.title) == (400, title)
    assert (await api.get(location)).json["ttl"] == 60


async def test_a_released_claim_frees_its_messages_at_once(api: Api) -> None:
    await api.post_bodies("q", 1)
    location = (await claim(api)).headers["Location"]

    replies = [await api.delete(location) for _ in range(2)]

    assert [(reply.status, reply.body) for reply in replies] == [(204, b"")] * 2
    assert (await api.get(location)).status == 404
    assert (await claim(api)).status == 201


async def test_a_claim_ends_with_its_last_message(api: Api) -> None:
    await api.post_bodies("q", 1)
    reply = await claim(api)

    await api.delete(reply.json["messages"][0]["href"])

    assert (await api.get(reply.headers["Location"])).status == 404


async def test_unknown_claims(api: Api) -> None:
    for name in ("no-such", "%00", "x%20y"):
        path = f"{CLAIMS}/{name}"
        assert (await api.get(path)).status == 404
        assert (await api.patch(path, {})).status == 404
        assert (await api.delete(path)).status == 204
    assert (await api.get(CLAIMS)).status == 405


async def test_a_message_claimed_too_often_goes_to_the_dead_letter_queue(
    api: Api, clock: ManualClock
) -> None:
    await api.put(
        "/v2/queues/q",
        {
            "_max_claim_count": 2,
            "_dead_letter_queue": "dead",
            "_dead_letter_queue_messages_ttl": 100,
        },
    )
    [message_id] = await api.post_bodies("q", {"n": 1})

    for _ in range(2):
        reply = await claim(api, {"ttl": 60})
        assert reply.json["messages"][0]["id"] == message_id
        await api.patch(reply.headers["Location"], {"ttl": 60})
        await api.delete(reply.headers["Location"])
    assert (await claim(api)).status == 204

    [dead] = (await api.get("/v2/queues/dead/messages?echo=true")).json["messages"]
    assert (dead["id"], dead["ttl"], dead["body"]) == (message_id, 100, {"n": 1})
    assert dead["href"] == f"/v2/queues/dead/messages/{message_id}"
