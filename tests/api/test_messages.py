"""Messages over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import OTHER_CLIENT_ID, PROJECT, Api, CountingDoorbell, StartApi
from tests.clock import ManualClock
from zaqar_notify import messages
from zaqar_notify.errors import ValidationFailed
from zaqar_notify.models import NewMessage, QueueRef

MESSAGES = "/v2/queues/q/messages"
OTHER = {"Client-ID": OTHER_CLIENT_ID}


async def listed(api: Api, query: str = "?echo=true", queue: str = "q") -> list[Any]:
    reply = await api.get(f"/v2/queues/{queue}/messages{query}")
    assert reply.status == 200, reply
    return [message["body"] for message in reply.json["messages"]]


async def claimed(api: Api) -> list[Any]:
    """The bodies that one claim of the queue finds."""
    reply = await api.post("/v2/queues/q/claims", {"ttl": 60, "grace": 60})
    assert reply.status in (201, 204), reply
    return [message["body"] for message in reply.json["messages"]] if reply.status == 201 else []


async def test_a_post_names_its_messages_in_order(api: Api) -> None:
    reply = await api.post(
        MESSAGES, {"messages": [{"body": {"n": 1}, "ttl": 100}, {"body": None, "other": 1}]}
    )

    resources = reply.json["resources"]
    ids = [href.rpartition("/")[2] for href in resources]
    assert reply.status == 201
    assert resources == [f"{MESSAGES}/{message_id}" for message_id in ids]
    assert reply.headers["Location"] == f"{MESSAGES}?ids={','.join(ids)}"
    assert (await api.get(resources[0])).json == {
        "id": ids[0],
        "href": resources[0],
        "ttl": 100,
        "age": 0,
        "body": {"n": 1},
    }
    assert (await api.get(resources[1])).json["body"] is None


async def test_the_location_of_a_post_can_be_read_and_names_at_most_20(api: Api) -> None:
    document = {"messages": [{"body": number} for number in range(21)]}

    reply = await api.post(MESSAGES, document)
    found = await api.get(reply.headers["Location"])

    assert len(reply.json["resources"]) == 21
    assert [message["body"] for message in found.json["messages"]] == list(range(20))
    assert "links" not in found.json


@pytest.mark.parametrize(
    "body",
    [
        b'{"a" : 1.0e2,"a":2 ,"\\u00e9": "\\/"}',
        b"1.10",
        b"-0",
        b"12345678901234567.123456789",
        b'"\xc3\xa9 \\ud83d\\ude00"',
        b"[ ]",
        b"null",
        b"9223372036854775807",
    ],
)
async def test_a_body_comes_back_as_the_bytes_that_were_posted(api: Api, body: bytes) -> None:
    await api.post(MESSAGES, body=b'{"messages": [{"body": %b, "ttl": 60}]}' % body)

    page = await api.get(f"{MESSAGES}?echo=true")
    claim = await api.post("/v2/queues/q/claims")
    await api.delete(f"/v2/queues/q/claims/{claim.headers['Location'].rpartition('/')[2]}")
    popped = await api.delete(f"{MESSAGES}?pop=1")

    for reply in (page, claim, popped):
        assert b'"body":%b' % body in reply.body, reply


@pytest.mark.parametrize(
    ("metadata", "message", "ttl"),
    [
        ({}, {}, 3600),
        ({"_default_message_ttl": 77}, {}, 77),
        ({"_default_message_ttl": 77}, {"ttl": 60}, 60),
        ({}, {"ttl": 1209600}, 1209600),
    ],
)
async def test_the_ttl_is_the_message_s_or_the_queue_s_or_the_default(
    api: Api, metadata: dict[str, object], message: dict[str, object], ttl: int
) -> None:
    await api.put("/v2/queues/q", metadata)

    await api.post(MESSAGES, {"messages": [{"body": 1, **message}]})

    page = await api.get(f"{MESSAGES}?echo=true")
    assert page.json["messages"][0]["ttl"] == ttl


async def test_a_delay_of_its_own_hides_a_message_on_any_queue(
    api: Api, clock: ManualClock
) -> None:
    await api.post(MESSAGES, {"messages": [{"body": "at once"}, {"body": "later", "delay": 10}]})

    assert await listed(api) == ["at once"]
    assert await listed(api, "?echo=true&include_delayed=true") == ["at once", "later"]
    assert await claimed(api) == ["at once"]
    clock.advance(seconds=9.999)
    assert await claimed(api) == []
    clock.advance(seconds=0.001)
    assert await listed(api) == ["later"]
    assert await claimed(api) == ["later"]


async def test_a_delayed_queue_hides_messages_until_they_are_due(
    api: Api, clock: ManualClock
) -> None:
    await api.put("/v2/queues/q", {"_default_message_delay": 100})
    posted = [{"body": "default"}, {"body": "own", "delay": 10}, {"body": "none", "delay": 0}]
    ids = (await api.post(MESSAGES, {"messages": posted})).json["resources"]

    assert await listed(api) == ["none"]
    assert await listed(api, "?echo=true&include_delayed=true") == ["default", "own", "none"]
    assert (await api.get(ids[0])).status == 200
    clock.advance(seconds=10)
    assert await listed(api) == ["own", "none"]
    clock.advance(seconds=90)
    assert await listed(api) == ["default", "own", "none"]


@pytest.mark.parametrize("metadata", [{}, {"_default_message_delay": 5}])
@pytest.mark.parametrize(("delay", "status"), [(-1, 400), (0, 201), (900, 201), (901, 400)])
async def test_a_delay_has_a_range(
    api: Api, metadata: dict[str, int], delay: int, status: int
) -> None:
    await api.put("/v2/queues/q", metadata)

    reply = await api.post(MESSAGES, {"messages": [{"body": 1, "delay": delay}]})

    assert reply.status == status


async def test_a_client_sees_its_own_messages_only_with_echo(api: Api) -> None:
    await api.post_bodies("q", "mine")
    await api.post(MESSAGES, {"messages": [{"body": "theirs"}]}, headers=OTHER)

    assert await listed(api, "") == ["theirs"]
    assert await listed(api, "?echo=False") == ["theirs"]
    assert await listed(api, "?echo=True") == ["mine", "theirs"]


async def test_claimed_messages_are_listed_only_when_asked_for(api: Api) -> None:
    await api.post_bodies("q", 1, 2)
    claim = await api.post("/v2/queues/q/claims?limit=1")
    claim_id = claim.headers["Location"].rpartition("/")[2]

    assert await listed(api) == [2]
    page = (await api.get(f"{MESSAGES}?echo=true&include_claimed=true")).json["messages"]

    assert [message["body"] for message in page] == [1, 2]
    assert page[0]["href"].endswith(f"?claim_id={claim_id}")
    assert "claim_id" not in page[1]["href"]
    assert set(page[0]) == {"id", "href", "ttl", "age", "body"}


async def test_pages_follow_each_other_by_their_links(api: Api) -> None:
    await api.post_bodies("q", *range(5))

    first = (await api.get(f"{MESSAGES}?limit=3&echo=True")).json
    second = (await api.get(first["links"][0]["href"])).json
    third = (await api.get(second["links"][0]["href"])).json

    assert [message["body"] for message in first["messages"]] == [0, 1, 2]
    assert first["links"][0]["href"].startswith(f"{MESSAGES}?limit=3&echo=true&marker=")
    assert [message["body"] for message in second["messages"]] == [3, 4]
    assert third == {"messages": [], "links": []}


async def test_a_page_has_ten_messages_unless_told_otherwise(api: Api) -> None:
    await api.post_bodies("q", *range(21))

    assert len(await listed(api)) == 10
    assert len(await listed(api, "?echo=true&limit=20")) == 20


async def test_a_message_id_works_as_a_marker_also_of_a_deleted_message(api: Api) -> None:
    ids = await api.post_bodies("q", 0, 1, 2)
    await api.delete(f"{MESSAGES}/{ids[1]}")

    assert await listed(api, f"?echo=true&marker={ids[1]}") == [2]
    assert await listed(api, "?echo=true&marker=no%20such/marker") == []


async def test_messages_expire(api: Api, clock: ManualClock) -> None:
    posted = await api.post(MESSAGES, {"messages": [{"body": 1, "ttl": 60}]})
    [href] = posted.json["resources"]

    clock.advance(seconds=59)
    assert (await api.get(href)).json["age"] == 59
    clock.advance(seconds=1)
    assert (await api.get(href)).status == 404


async def test_several_messages_are_read_by_id_also_claimed_and_own_ones(api: Api) -> None:
    ids = await api.post_bodies("q", 0, 1, 2)
    await api.post("/v2/queues/q/claims?limit=1")

    comma = await api.get(f"{MESSAGES}?ids={ids[0]},{ids[2]},nope,{ids[0]}&limit=x")
    repeated = await api.get(f"{MESSAGES}?ids={ids[0]}&ids={ids[2]}")

    assert [message["body"] for message in comma.json["messages"]] == [0, 2]
    assert repeated.json == comma.json


async def test_reading_by_id_what_is_not_there_is_404(api: Api) -> None:
    [message_id] = await api.post_bodies("other", 1)

    for path in (f"?ids={message_id}", "?ids=a,b", f"/{message_id}", "/%00"):
        reply = await api.get(f"{MESSAGES}{path}")
        assert (reply.status, reply.title) == (404, "Not found"), path


async def test_blank_ids_are_a_plain_list(api: Api) -> None:
    assert (await api.get(f"{MESSAGES}?ids=")).json == {"messages": [], "links": []}


async def test_more_than_20_ids_are_refused(api: Api) -> None:
    different = ",".join(str(number) for number in range(21))
    same = ",".join(["1"] * 21)

    for method in ("GET", "DELETE"):
        for ids in (different, same):
            reply = await api.call(method, f"{MESSAGES}?ids={ids}")
            assert (reply.status, reply.title) == (400, "Invalid API request")


async def test_deleting_is_done_or_was_done(api: Api) -> None:
    [message_id] = await api.post_bodies("q", 1)

    for path in (message_id, message_id, "no-such", "%00", "no-such?claim_id=123"):
        reply = await api.delete(f"{MESSAGES}/{path}")
        assert (reply.status, reply.body) == (204, b""), path
    assert await listed(api) == []


async def test_deleting_a_message_with_and_without_claims(api: Api, clock: ManualClock) -> None:
    await api.post_bodies("q", "claimed", "other", "free")
    claims = [
        (await api.post("/v2/queues/q/claims?limit=1", {"ttl": 60})).headers["Location"]
        for _ in range(2)
    ]
    mine, theirs = (location.rpartition("/")[2] for location in claims)
    page = (await api.get(f"{MESSAGES}?echo=true&include_claimed=true")).json["messages"]
    claimed, other, free = (message["id"] for message in page)

    async def delete(message_id: str, claim_id: str | None) -> tuple[int, str | None]:
        query = "" if claim_id is None else f"?claim_id={claim_id}"
        reply = await api.delete(f"{MESSAGES}/{message_id}{query}")
        return reply.status, reply.title

    assert await delete(claimed, None) == (403, "Unable to delete")
    assert await delete(claimed, theirs) == (403, "Unable to delete")
    assert await delete(claimed, "123") == (400, "Unable to delete")
    assert await delete(free, mine) == (400, "Unable to delete")
    assert await delete(claimed, mine) == (204, None)
    assert await delete(free, None) == (204, None)
    clock.advance(seconds=60)
    assert await delete(other, theirs) == (400, "Unable to delete")
    assert await listed(api) == ["other"]


async def test_several_messages_are_deleted_by_id_claimed_or_not(api: Api) -> None:
    ids = await api.post_bodies("q", 0, 1, 2)
    await api.post("/v2/queues/q/claims?limit=1")

    reply = await api.delete(f"{MESSAGES}?ids={ids[0]},{ids[2]},nope&claim_ids=x")

    assert (reply.status, reply.body) == (204, b"")
    assert await listed(api, "?echo=true&include_claimed=true") == [1]


async def test_a_server_can_ask_for_claim_ids_to_delete_claimed_messages(
    start_api: StartApi,
) -> None:
    api = await start_api(message_delete_with_claim_id=True)
    ids = await api.post_bodies("q", 0, 1)
    claim = await api.post("/v2/queues/q/claims?limit=1")
    claim_id = claim.headers["Location"].rpartition("/")[2]
    both = f"{MESSAGES}?ids={','.join(ids)}"

    refused = [
        await api.delete(both),
        await api.delete(f"{both}&claim_ids=nope"),
        await api.delete(f"{MESSAGES}?pop=1&claim_ids={claim_id}"),
    ]
    deleted = await api.delete(f"{both}&claim_ids=nope,{claim_id}")

    assert [reply.status for reply in refused] == [400] * 3
    assert deleted.status == 204


async def test_pop_removes_the_oldest_and_shows_them_without_href(
    api: Api, clock: ManualClock
) -> None:
    ids = await api.post_bodies("q", "claimed", "a", "b", "c")
    await api.post("/v2/queues/q/claims?limit=1")
    clock.advance(seconds=5)

    reply = await api.delete(f"{MESSAGES}?pop=2")

    assert reply.status == 200
    assert reply.json == {
        "messages": [
            {
                "id": message_id,
                "ttl": 3600,
                "age": 5,
                "body": body,
                "claim_id": None,
                "claim_count": 0,
            }
            for message_id, body in zip(ids[1:3], "ab", strict=True)
        ]
    }
    assert await listed(api) == ["c"]


async def test_pop_of_nothing_is_an_empty_array(api: Api) -> None:
    reply = await api.delete(f"{MESSAGES}?pop=20")

    assert (reply.status, reply.json) == (200, {"messages": []})


@pytest.mark.parametrize(
    ("query", "title"),
    [
        ("", "Invalid API request"),
        ("?ids=a&pop=1", "Invalid API request"),
        ("?pop=0", "Invalid API request"),
        ("?pop=21", "Invalid API request"),
        ("?pop=x", "Invalid parameter"),
        ("?pop=", "Invalid API request"),
    ],
)
async def test_deleting_several_takes_exactly_one_of_ids_and_pop(
    api: Api, query: str, title: str
) -> None:
    reply = await api.delete(f"{MESSAGES}{query}")

    assert (reply.status, reply.title) == (400, title)


@pytest.mark.parametrize(
    ("body", "checksum"),
    [
        # `printf '{"b": 1, "a": [1.5]}' | md5sum`, `printf '"\\u00e9"' | md5sum`
        ('{"b" :1,"a":[1.50]}', "MD5:e281c2abc95212eab7b248ce93bfb9a5"),
        ('"\u00e9"', "MD5:d1aad59345f1f37ecc833dabc76ec5ef"),
        ("null", None),
    ],
)
async def test_a_checksum_is_over_the_body_as_python_writes_it(
    start_api: StartApi, body: str, checksum: str | None
) -> None:
    api = await start_api(enable_checksum=True)

    await api.post(MESSAGES, body=f'{{"messages": [{{"body": {body}}}]}}'.encode())

    [shown] = (await api.get(f"{MESSAGES}?echo=true")).json["messages"]
    [popped] = (await api.delete(f"{MESSAGES}?pop=1")).json["messages"]
    assert shown.get("checksum") == popped.get("checksum") == checksum


@pytest.mark.parametrize(("cap", "status"), [(34, 201), (33, 400)])
async def test_a_queue_can_cap_the_size_of_posts(api: Api, cap: int, status: int) -> None:
    body = b'{"messages": [{"body": "123456"}]}'
    assert len(body) == 34
    await api.put("/v2/queues/q", {"_max_messages_post_size": cap})

    reply = await api.post(MESSAGES, body=body)

    assert reply.status == status
    assert len(await listed(api)) == (1 if status == 201 else 0)


async def test_a_repeated_post_with_a_key_is_answered_as_the_first_and_stores_nothing(
    api: Api, clock: ManualClock
) -> None:
    document = {"messages": [{"body": 1}, {"body": 2}]}
    key = {"Idempotency-Key": "order-1"}

    first = await api.post(MESSAGES, document, headers=key)
    clock.advance(seconds=86399)
    second = await api.post(MESSAGES, document, headers=key)

    assert (second.status, second.body) == (first.status, first.body)
    assert second.headers["Location"] == first.headers["Location"]
    assert (await api.get("/v2/queues/q/stats")).json["messages"]["total"] == 0
    clock.advance(seconds=1)
    third = await api.post(MESSAGES, document, headers=key)
    assert third.body != first.body


async def test_a_key_with_another_body_is_a_conflict(api: Api) -> None:
    key = {"Idempotency-Key": "order-1"}
    await api.post(MESSAGES, {"messages": [{"body": 1}]}, headers=key)

    reply = await api.post(MESSAGES, {"messages": [{"body": 2}]}, headers=key)

    assert (reply.status, reply.title) == (409, "Resource conflict")
    assert await listed(api) == [1]


async def test_a_key_is_the_project_s_and_the_queue_s_own(api: Api) -> None:
    key = {"Idempotency-Key": "k"}
    document = {"messages": [{"body": 1}]}
    paths = [(MESSAGES, PROJECT), (MESSAGES, "p2"), ("/v2/queues/r/messages", PROJECT)]

    replies = [
        await api.post(path, document, headers=key | {"X-Project-ID": project})
        for path, project in paths
    ]

    assert len({reply.body for reply in replies}) == 3


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "\u00e9"])
async def test_a_key_is_1_to_255_visible_ascii_characters(api: Api, key: str) -> None:
    headers = {"Idempotency-Key": key}

    reply = await api.post(MESSAGES, {"messages": [{"body": 1}]}, headers=headers)

    assert reply.status == 400
    assert "255" in reply.json["description"]
    assert await listed(api) == []


async def test_the_doorbell_rings_only_when_deliveries_are_owed(api: Api) -> None:
    doorbell = api.service.doorbell
    assert isinstance(doorbell, CountingDoorbell)

    await api.post_bodies("q", 1)
    assert doorbell.rings == 0
    await api.subscribe("q", "http://example.org/")
    await api.post_bodies("q", 2)
    assert doorbell.rings == 1


async def test_a_relayed_message_is_stored_once_for_each_origin(api: Api) -> None:
    ref = QueueRef(PROJECT, "target")
    message = NewMessage(b'{"n" : 1}', ttl=100)

    for origin in ("d1", "d1", "d2"):
        await messages.relay(api.service, ref, message, origin=origin, hops=1)

    page = await api.get("/v2/queues/target/messages")
    assert page.body.count(b'"body":{"n" : 1}') == 2
    assert page.json["messages"][0]["ttl"] == 100


async def test_a_relayed_message_lives_no_longer_than_a_message_may(start_api: StartApi) -> None:
    """A confirmation has the ttl of its subscription: thousands of years, perhaps."""
    api = await start_api(max_message_ttl="86400")
    message = NewMessage(b"{}", 251_000_000_000)

    await messages.relay(api.service, QueueRef(PROJECT, "q"), message, origin="d", hops=1)

    [stored] = (await api.get("/v2/queues/q/messages?echo=true")).json["messages"]
    assert stored["ttl"] == 86400


async def test_a_relayed_message_has_a_checksum_where_messages_have_one(
    start_api: StartApi,
) -> None:
    api = await start_api(enable_checksum="true")
    await api.post_bodies("posted", {"a": 1})

    await messages.relay(
        api.service,
        QueueRef(PROJECT, "relayed"),
        NewMessage(b'{"a":1}', 60),
        origin="d",
        hops=1,
    )

    [posted] = (await api.get("/v2/queues/posted/messages?echo=true")).json["messages"]
    [relayed] = (await api.get("/v2/queues/relayed/messages?echo=true")).json["messages"]
    assert relayed["checksum"] == posted["checksum"]


async def test_a_relayed_message_meets_the_target_s_size_and_delay(api: Api) -> None:
    await api.put("/v2/queues/small", {"_max_messages_post_size": 5})
    await api.put("/v2/queues/slow", {"_default_message_delay": 10})
    message = NewMessage(b'"123456"', ttl=100)

    with pytest.raises(ValidationFailed, match="at most 5"):
        await messages.relay(api.service, QueueRef(PROJECT, "small"), message, origin="d", hops=1)
    await messages.relay(api.service, QueueRef(PROJECT, "slow"), message, origin="d", hops=1)

    assert await listed(api, queue="slow") == []
    assert await listed(api, "?include_delayed=true", queue="slow") == ["123456"]


async def test_a_relayed_message_that_its_queue_delays_for_its_whole_life_is_refused(
    api: Api,
) -> None:
    queue = QueueRef(PROJECT, "slow")
    await api.put("/v2/queues/slow", {"_default_message_delay": 60})
    message = NewMessage(body=b"1", ttl=60)

    with pytest.raises(
        ValidationFailed, match=r"ttl is 60 seconds, and queue 'slow' delays it by 60"
    ):
        await messages.relay(api.service, queue, message, origin="a", hops=1)
