"""One message, one answer: whatever headers it has, however it is cut, whatever comes behind it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping

import pytest

from tests.api.conftest import CLIENT_ID, PROJECT, Api

HOST = b"Host: x\r\n"
IDENTITY = HOST + f"Client-ID: {CLIENT_ID}\r\nX-Project-ID: {PROJECT}\r\n".encode()
VICTIM = f"DELETE /v2/queues/theirs HTTP/1.1\r\nHost: x\r\nClient-ID: {CLIENT_ID}\r\nX-Project-ID: victim\r\n\r\n"
PING = b"GET /v2/ping HTTP/1.1\r\nConnection: close\r\n" + IDENTITY + b"\r\n"
OFFERS = {
    "websocket": b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
    "unknown": b"connection: keep-alive, UPGRADE\r\nUPGRADE: any/1, thing\r\n",
    "twice": b"Upgrade: a\r\nConnection: upgrade\r\nConnection: upgrade\r\nUpgrade: b\r\n",
}
STATUS = re.compile(rb"HTTP/1\.1 (\d\d\d) ")


def statuses(answers: bytes) -> list[int]:
    """The statuses on one connection, without 100 Continue."""
    return [int(status) for status in STATUS.findall(answers) if status != b"100"]


def request(method: str, path: str, body: bytes, *heads: bytes, chunked: bool = False) -> bytes:
    framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    length = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(body)
    line = f"{method} {path} HTTP/1.1\r\n".encode()
    return line + IDENTITY + b"".join(heads) + length + b"\r\n\r\n" + framed


async def send_in_segments(api: Api, *segments: bytes) -> bytes:
    """Send each part in a segment of its own; all bytes that come until the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    try:
        for segment in segments:
            writer.write(segment)
            await writer.drain()
            await asyncio.sleep(0.02)
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


async def bodies(api: Api, queue: str = "q") -> list[object]:
    page = await api.get(f"/v2/queues/{queue}/messages?echo=true")
    return [message["body"] for message in page.json["messages"]]


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("offer", OFFERS)
async def test_the_body_of_a_request_that_offers_another_protocol_is_its_body(
    api: Api, offer: str, chunked: bool
) -> None:
    smuggled = json.dumps({"messages": [{"body": VICTIM}]}).encode()
    post = request("POST", "/v2/queues/q/messages", smuggled, OFFERS[offer], chunked=chunked)

    answers = await api.send_raw(post + PING)

    assert statuses(answers) == [201, 204]
    assert await bodies(api) == [VICTIM]


@pytest.mark.parametrize("padding", [b"", b"\r\n" * 40], ids=["", "blank lines"])
@pytest.mark.parametrize("size", [200, 70_000, 250_000, 300_000])
async def test_no_part_of_a_body_is_a_request(api: Api, size: int, padding: bytes) -> None:
    """In a second segment, and past 64 and 256 KiB; a body over the limit is one message, too."""
    await api.put("/v2/queues/theirs", headers={"X-Project-ID": "victim"})
    filler = b" " * (size - 2 * len(VICTIM)) + padding + VICTIM.encode() * 2
    head, _, body = request("POST", "/v2/queues/q/messages", filler, OFFERS["h2c"]).partition(
        b"\r\n\r\n"
    )

    answers = await send_in_segments(api, padding + head + b"\r\n\r\n", body, PING)

    assert statuses(answers) == [400, 204]
    reply = await api.get("/v2/queues", headers={"X-Project-ID": "victim"})
    assert [queue["name"] for queue in reply.json["queues"]] == ["theirs"]


async def test_requests_that_offer_another_protocol_can_be_pipelined(api: Api) -> None:
    posts = [
        request(
            "POST",
            "/v2/queues/q/messages",
            json.dumps({"messages": [{"body": number}]}).encode(),
            OFFERS["h2c"],
        )
        for number in range(50)
    ]

    answers = await api.send_raw(b"\r\n".join([*posts, PING]))

    assert statuses(answers) == [201] * 50 + [204]
    assert await bodies(api) == list(range(10))


@pytest.mark.parametrize("cut", [1, 30, 140, 240, 300])
async def test_a_head_with_an_offer_may_come_in_two_segments(api: Api, cut: int) -> None:
    post = request("POST", "/v2/queues/q/messages", b'{"messages": [{"body": 1}]}', OFFERS["h2c"])

    answers = await send_in_segments(api, post[:cut], post[cut:], PING)

    assert statuses(answers) == [201, 204]


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/nowhere", "/v2/nowhere/at/all"])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
async def test_routes_without_a_body_answer_once_too(api: Api, path: str, chunked: bool) -> None:
    sent = request("POST", path, VICTIM.encode(), OFFERS["websocket"], chunked=chunked)

    answers = await send_in_segments(api, sent[:-50], sent[-50:] + PING)

    # A chunked body that is not read ends the connection.
    assert statuses(answers)[1:] == ([] if chunked else [204])
    assert statuses(answers)[0] in (404, 405)


async def test_a_tunnel_is_refused_and_what_follows_is_no_request(api: Api) -> None:
    answers = await api.send_raw(b"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n" + PING)

    assert statuses(answers) == [400]


async def test_prior_knowledge_of_another_protocol_is_refused_once(api: Api) -> None:
    answers = await api.send_raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0" * 100)

    assert statuses(answers) == [400]


async def test_an_expected_100_with_an_offer_is_answered_once(api: Api) -> None:
    body = b'{"messages": [{"body": 1}]}'
    post = request(
        "POST", "/v2/queues/q/messages", body, OFFERS["h2c"], b"Expect: 100-continue\r\n"
    )
    head = post[: -len(body)]

    answers = await send_in_segments(api, head, body, PING)

    assert answers.startswith(b"HTTP/1.1 100 ")
    assert statuses(answers) == [201, 204]


UNREADABLE = {
    "two lengths": b"Content-Length: 3\r\nContent-Length: 4\r\n",
    "length and chunks": b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
    "not chunked at last": b"Transfer-Encoding: chunked, gzip\r\n",
    "a folded line": b"X: a\r\n b\r\n",
    "a blank before the colon": b"Content-Length : 3\r\n",
}


@pytest.mark.parametrize("headers", UNREADABLE.values(), ids=UNREADABLE)
async def test_a_request_that_can_be_read_in_two_ways_is_refused(api: Api, headers: bytes) -> None:
    head = b"POST /v2/queues/q/messages HTTP/1.1\r\n" + IDENTITY + headers

    answers = await api.send_raw(head + b"\r\nabc" + PING)

    assert statuses(answers) == [400]


@pytest.mark.parametrize("coding", ["identity", "xchunked", "gzip, chunked"])
async def test_a_request_without_a_certain_end_does_nothing(api: Api, coding: str) -> None:
    await api.put("/v2/queues/q")
    head = b"DELETE /v2/queues/q HTTP/1.1\r\n" + IDENTITY

    answers = await api.send_raw(head + f"Transfer-Encoding: {coding}\r\n\r\n0\r\n\r\n".encode())

    assert statuses(answers) == [400]
    assert len((await api.get("/v2/queues")).json["queues"]) == 1


@pytest.mark.parametrize("wait", [0, 1])
async def test_what_is_no_request_is_answered_after_the_requests_before_it(
    api: Api, wait: int
) -> None:
    browse = f"GET /v2/queues/q/messages?wait={wait} HTTP/1.1\r\n".encode() + IDENTITY + b"\r\n"

    answers = await api.send_raw(browse + browse + b"no request\r\n\r\n" + PING)

    assert statuses(answers) == [200, 200, 400]


@pytest.mark.parametrize("path", ["/v2/queues/q/messages", "/nowhere"])
async def test_a_body_that_breaks_off_has_one_answer(api: Api, path: str) -> None:
    head = f"POST {path} HTTP/1.1\r\n".encode() + IDENTITY

    answers = await send_in_segments(
        api, head + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"no chunk\r\n" + PING
    )

    assert len(statuses(answers)) == 1


async def test_fields_behind_a_body_are_no_headers(api: Api) -> None:
    """A proxy that sets the project may let them through."""
    body = b'{"messages": [{"body": 1}]}'
    post = b"POST /v2/queues/q/messages HTTP/1.1\r\n" + IDENTITY
    post += b"Transfer-Encoding: chunked\r\nTrailer: X-Project-ID\r\n\r\n"

    answers = await api.send_raw(
        post + b"%x\r\n%b\r\n0\r\nX-Project-ID: victim\r\n\r\n" % (len(body), body) + PING
    )

    assert statuses(answers) == [201, 204]
    assert await bodies(api) == [1]


async def test_a_chunked_purge_purges_what_it_names_and_no_more(api: Api) -> None:
    await api.subscribe("q", "http://example.org/")
    await api.post_bodies("q", 1)
    purge = request("POST", "/v2/queues/q/purge", b'{"resource_types": ["messages"]}', chunked=True)

    assert statuses(await api.send_raw(purge + PING)) == [204, 204]

    assert await bodies(api) == []
    assert len((await api.get("/v2/queues/q/subscriptions")).json["subscriptions"]) == 1


SENT: Mapping[str, tuple[str, str, bytes, int]] = {
    "put queue": ("PUT", "/v2/queues/new", b'{"colour": "red"}', 201),
    "claim": ("POST", "/v2/queues/q/claims", b'{"ttl": 61, "grace": 61}', 201),
    "bad claim": ("POST", "/v2/queues/q/claims", b'{"ttl": 1}', 400),
    "subscribe": ("POST", "/v2/queues/q/subscriptions", b'{"subscriber": "queue:r"}', 201),
    "form": ("POST", "/v2/queues/q/purge", b"a=b", 400),
}


@pytest.mark.parametrize("name", SENT)
async def test_chunked_bodies_are_read_like_those_of_stated_length(api: Api, name: str) -> None:
    method, path, body, expected = SENT[name]
    await api.post_bodies("q", 1)
    form = b"Content-Type: application/x-www-form-urlencoded\r\n" if name == "form" else b""

    answers = await api.send_raw(request(method, path, body, form, chunked=True) + PING)

    assert statuses(answers)[0] == expected
    if name == "put queue":
        assert (await api.get("/v2/queues/new")).json["colour"] == "red"


@pytest.mark.parametrize(
    ("path", "limit"), [("/v2/queues/q/messages", 262144), ("/v2/queues/q/claims", 65536)]
)
async def test_chunked_bodies_have_the_limit_of_others(api: Api, path: str, limit: int) -> None:
    answers = await api.send_raw(request("POST", path, b"x" * (limit + 1), chunked=True))

    assert statuses(answers) == [400]
    assert b"at most %d bytes" % limit in answers


async def test_a_chunked_body_without_end_loses_its_connection(api: Api) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(request("POST", "/v2/queues/q/messages", b"", chunked=True)[:-5])

    async def send_without_end() -> None:
        while True:
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            await writer.drain()

    with pytest.raises(ConnectionError):
        await asyncio.wait_for(send_without_end(), 20)
    writer.close()


REPEATED = (
    "Host", "Client-ID", "X-Project-ID", "X-Tenant-Id", "X-Auth-Token", "X-Roles", "X-User-Id",
    "URL-Signature", "URL-Paths", "URL-Methods", "URL-Expires", "Idempotency-Key", "Authorization",
)  # fmt: skip


@pytest.mark.parametrize("path", ["/v2/ping", "/", "/docs", "/nowhere"])
async def test_a_header_that_says_who_asks_counts_once_or_not_at_all(api: Api, path: str) -> None:
    head = f"GET {path} HTTP/1.1\r\nConnection: close\r\n".encode() + IDENTITY

    for name in REPEATED:
        twice = f"{name.upper()}: a\r\n{name.lower()}: a\r\n".encode()
        answer = await api.send_raw(head + twice + b"\r\n")

        assert statuses(answer) == [400], name
        assert f"The header {name.lower()} was sent" in answer.decode()


@pytest.mark.parametrize("path", ["/v2/ping", "/", "/docs", "/nowhere"])
async def test_http_1_1_asks_for_a_host(api: Api, path: str) -> None:
    identity = IDENTITY.removeprefix(HOST)

    new = await api.send_raw(f"GET {path} HTTP/1.1\r\n".encode() + identity + b"\r\n" + PING)
    old = await api.send_raw(f"GET {path} HTTP/1.0\r\n".encode() + identity + b"\r\n")
    later = await api.send_raw(f"GET {path} HTTP/2.0\r\n".encode() + identity + b"\r\n")

    assert statuses(new) == [400, 204]
    assert statuses(later) == [400]
    assert statuses(old) != [400]


async def test_lists_may_come_in_several_headers(api: Api) -> None:
    accept = b"Accept: application/json\r\nAccept: text/html\r\n"

    answer = await api.send_raw(PING[:-2] + accept + b"\r\n")

    assert statuses(answer) == [204]


TARGETS = {
    "//v2/queues": 200,
    "///v2/queues": 200,
    "http://mq.example/v2/queues": 200,
    "http://mq.example//v2/queues?limit=1": 200,
    "http://mq.example": 300,
    "/v2//queues": 404,
    "/v2/queues/": 400,
    "/v2/queues/..": 400,
    "/v2/queues/./messages": 400,
    "/v2/queues/%2e%2E/messages": 400,
    "/v2/queues/a%2Fmessages": 400,
    "/v2/queues/a%2fb/messages": 400,
    "/v2%2Fqueues": 404,
    "v2/queues": 400,
}


async def test_request_targets(api: Api) -> None:
    for target, expected in TARGETS.items():
        head = f"GET {target} HTTP/1.1\r\nConnection: close\r\n".encode()

        assert statuses(await api.send_raw(head + IDENTITY + b"\r\n")) == [expected], target


async def test_a_star_asks_for_the_server_itself(api: Api) -> None:
    answer = await api.send_raw(b"OPTIONS * HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n")

    assert statuses(answer) == [200]


REFUSED_EARLY = {
    "HTTP/1.0": b"POST /v2/queues/q/messages HTTP/1.0\r\n",
    "close": b"POST /v2/queues/q/messages HTTP/1.1\r\nConnection: close\r\n",
    "no route": b"POST /nowhere HTTP/1.0\r\n",
    "too large": b"POST /v2/queues/q/messages HTTP/1.1\r\n",
}


@pytest.mark.parametrize("kind", REFUSED_EARLY)
async def test_an_early_refusal_takes_the_body_off_the_wire(api: Api, kind: str) -> None:
    """Its sender reads only when it has sent all, as proxies do: a reset would make it a 502."""
    size = 2_500_000 if kind == "too large" else 900_000
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port, limit=1 << 10)
    writer.write(REFUSED_EARLY[kind] + IDENTITY + b"Content-Length: %d\r\n\r\n" % size)
    for _ in range(10):
        writer.write(b"x" * (size // 10))
        await writer.drain()
        await asyncio.sleep(0.005)

    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()

    assert statuses(answer) in ([400], [404])


@pytest.mark.parametrize(
    "sent",
    [
        PING,
        b"GET /docs HTTP/1.1\r\nConnection: close\r\nHost: x\r\n\r\n",
        b"GET /nowhere HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n" + PING,
        b"no request\r\n\r\n",
        b"GET /v2/ping HTTP/1.1\r\nX: " + b"x" * 140_000,
        request("POST", "/v2/queues/q/messages", b"x" * 300_000) + PING,
    ],
    ids=["ping", "docs", "404", "no host", "unreadable", "long head", "long body"],
)
async def test_every_answer_has_one_date(api: Api, sent: bytes) -> None:
    answers = await api.send_raw(sent)

    heads = re.split(rb"(?=HTTP/1\.1 \d\d\d )", answers)[1:]
    assert [len(re.findall(rb"(?mi)^date: ", head)) for head in heads] == [1] * len(heads)
    assert heads
