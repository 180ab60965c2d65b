"""A malformed request is a 4xx that names the fault, and leaves nothing behind."""

from __future__ import annotations

import pytest

from tests.api.conftest import CLIENT_ID, PROJECT, Api
from tests.clock import ManualClock

MESSAGES = "/v2/queues/q/messages"
API, BODY, PARAMETER = "Invalid API request", "Invalid request body", "Invalid parameter"

IDENTITY = f"Host: x\r\nClient-ID: {CLIENT_ID}\r\nX-Project-ID: {PROJECT}\r\n"


@pytest.mark.parametrize(
    ("body", "title"),
    [
        (None, BODY),
        (b"", BODY),
        (b" ", BODY),
        (b"{", BODY),
        (b"x", BODY),
        (b"null", BODY),
        (b'"messages"', BODY),
        (b"5", BODY),
        (b"{}", API),
        (b'{"message": []}', API),
        (b'{"messages": []}', API),
        (b"[]", API),
        (b'[{"body": 1, "ttl": 60}]', API),
        (b'["messages"]', BODY),
        (b"[", BODY),
        (b'{"messages": null}', BODY),
        (b'{"messages": {}}', BODY),
        (b'{"messages": ["x"]}', BODY),
        (b'{"messages": [5]}', BODY),
        (b'{"messages": [{}]}', BODY),
        (b'{"messages": [{"ttl": 60}]}', BODY),
        (b'{"messages": [{"body": 1, "ttl": null}]}', BODY),
        (b'{"messages": [{"body": 1, "ttl": "60"}]}', BODY),
        (b'{"messages": [{"body": 1, "ttl": 60.0}]}', BODY),
        (b'{"messages": [{"body": 1, "ttl": true}]}', BODY),
        (b'{"messages": [{"body": 1, "ttl": 59}]}', API),
        (b'{"messages": [{"body": 1, "ttl": 1209601}]}', API),
        (b'{"messages": [{"body": 1, "ttl": -60}]}', API),
        (b'{"messages": [{"body": 1, "ttl": 99999999999999999999}]}', BODY),
        (b'{"messages": [{"body": 1}, {"body": 2, "ttl": 5}]}', API),
        (b'{"messages": [{"body": 9223372036854775808}]}', BODY),
        (b'{"messages": [{"body": -9223372036854775809}]}', BODY),
        (b'{"messages": [{"body": NaN}]}', BODY),
        (b'{"messages": [{"body": Infinity}]}', BODY),
        (b'{"messages": [{"body": -Infinity}]}', BODY),
        (b'{"messages": [{"body": 1e999}]}', BODY),
        (b'{"messages": [{"body": ' + b"[" * 201 + b"]" * 201 + b"}]}", BODY),
        (b'{"messages": [{"body": 01}]}', BODY),
        (b'{"messages": [{"body": \'x\'}]}', BODY),
        (b'{"messages": [{"body": "\xff"}]}', BODY),
        (b'{"messages": [{"body": "\xed\xa0\x80"}]}', BODY),
        (b'{"messages": [{"body": "\x01"}]}', BODY),
        (b'{"messages": [{"body": 1}]} x', BODY),
        (b'{"messages": [{"body": 1},]}', BODY),
        (b'\xef\xbb\xbf{"messages": [{"body": 1}]}', BODY),
        ('{"messages": [{"body": 1}]}'.encode("utf-16"), BODY),
        (b'{"messages": [{"body": ' + b"[" * 100000, BODY),
        (b'{"messages": [{"body": ' + b"[" * 100000 + b"]" * 100000 + b"}]}", BODY),
        (b"[" * 100000, BODY),
        (b'{"messages": [{"body": "' + b"x" * 262144 + b'"}]}', API),
    ],
    ids=lambda value: None if value is None else repr(value[:48]),
)
async def test_bad_posts_store_nothing_and_create_no_queue(
    api: Api, body: bytes | None, title: str
) -> None:
    reply = await api.post(MESSAGES, body=body)

    assert (reply.status, reply.title) == (400, title)
    assert reply.json["description"]
    assert (await api.get("/v2/queues")).json["queues"] == []


@pytest.mark.parametrize("metadata", [{}, {"_default_message_delay": 5}])
@pytest.mark.parametrize(
    ("delay", "title"),
    [
        ("901", API),
        ("-1", API),
        ("null", BODY),
        ("true", BODY),
        ('"5"', BODY),
        ("5.0", BODY),
        ("[]", BODY),
    ],
)
async def test_bad_delays(api: Api, metadata: dict[str, int], delay: str, title: str) -> None:
    await api.put("/v2/queues/q", metadata)

    body = f'{{"messages": [{{"body": 1, "delay": {delay}}}]}}'.encode()
    reply = await api.post(MESSAGES, body=body)

    assert (reply.status, reply.title) == (400, title)
    assert (await api.get("/v2/queues/q/stats")).json["messages"]["total"] == 0


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ('"ttl": 59', ("ttl", "60", "1209600", "seconds", "59")),
        ('"ttl": "x"', ("ttl", "int")),
        ('"body": NaN', ("JSON",)),
    ],
)
async def test_a_refusal_names_the_field_the_limit_and_the_unit(
    api: Api, field: str, words: tuple[str, ...]
) -> None:
    body = f'{{"messages": [{{"body": 1, {field}}}]}}'.encode()

    description = (await api.post(MESSAGES, body=body)).json["description"]

    assert all(word in description for word in words), description


@pytest.mark.parametrize(
    ("document", "title"),
    [
        ([], BODY),
        ("x", BODY),
        (5, BODY),
        ({"_default_message_ttl": 59}, API),
        ({"_default_message_ttl": ""}, API),
        ({"_default_message_ttl": True}, API),
        ({"_default_message_ttl": "60"}, API),
        ({"_max_messages_post_size": ""}, API),
        ({"_max_messages_post_size": 0}, API),
        ({"_max_messages_post_size": 262145}, API),
        ({"_default_message_delay": ""}, API),
        ({"_default_message_delay": 901}, API),
        ({"_dead_letter_queue_messages_ttl": 59}, API),
        ({"_max_claim_count": "3"}, API),
        ({"_dead_letter_queue": "no such!"}, API),
        ({"_enable_encrypt_messages": 1}, API),
        ({"_retry_policy": []}, API),
        ({"_retry_policy": {"minimum_delay": 25}}, API),
        ({"n": 2**63}, BODY),
    ],
    ids=repr,
)
async def test_bad_metadata_creates_no_queue(api: Api, document: object, title: str) -> None:
    reply = await api.put("/v2/queues/q", document)

    assert (reply.status, reply.title) == (400, title)
    assert (await api.get("/v2/queues")).json["queues"] == []


@pytest.mark.parametrize(
    ("body", "title"),
    [(b"{", BODY), (b'{"a": NaN}', BODY), (b'{"a": "\xff"}', BODY), (b"x" * 65537, API)],
    ids=["syntax", "NaN", "UTF-8", "size"],
)
async def test_bad_bytes_for_metadata(api: Api, body: bytes, title: str) -> None:
    reply = await api.put("/v2/queues/q", body=body)

    assert (reply.status, reply.title) == (400, title)


@pytest.mark.parametrize(
    ("path", "title"),
    [
        ("/v2/queues?limit=0", API),
        ("/v2/queues?limit=21", API),
        ("/v2/queues?limit=-1", API),
        ("/v2/queues?limit=1.5", PARAMETER),
        ("/v2/queues?detailed=None", PARAMETER),
        ("/v2/queues?with_count=maybe", PARAMETER),
        ("/v2/queues?" + "&".join(f"k{n}=1" for n in range(21)), API),
        ("/v2/queues?" + "&".join("a=1" for _ in range(101)), API),
        (f"{MESSAGES}?limit=0", API),
        (f"{MESSAGES}?limit=21", API),
        (f"{MESSAGES}?limit=x", PARAMETER),
        (f"{MESSAGES}?echo=TRUE", PARAMETER),
        (f"{MESSAGES}?include_claimed=2", PARAMETER),
        (f"{MESSAGES}?include_delayed=x", PARAMETER),
        (f"{MESSAGES}?wait=21", API),
        (f"{MESSAGES}?wait=x", PARAMETER),
    ],
)
async def test_bad_parameters(api: Api, path: str, title: str) -> None:
    reply = await api.get(path)

    assert (reply.status, reply.title) == (400, title)


async def test_blank_and_unknown_parameters_are_ignored(api: Api) -> None:
    await api.post_bodies("q", 1)

    reply = await api.get(f"{MESSAGES}?limit=&echo=true&marker=&wait=&nothing=at%00all")

    assert len(reply.json["messages"]) == 1


async def test_a_body_over_the_limit_is_refused_before_it_is_sent(api: Api) -> None:
    request = f"POST {MESSAGES} HTTP/1.1\r\n{IDENTITY}Content-Length: 1000000000000\r\n\r\n"

    answer = await api.send_raw(request.encode() + b'{"messages"')

    assert answer.startswith(b"HTTP/1.1 400")
    assert b"connection: close" in answer.lower()
    assert b"at most 262144 bytes" in answer


async def test_a_body_somewhat_over_the_limit_leaves_the_connection_usable(api: Api) -> None:
    request = f"POST {MESSAGES} HTTP/1.1\r\n{IDENTITY}Content-Length: 300000\r\n\r\n".encode()
    following = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

    answer = await api.send_raw(request + b"x" * 300000 + following)

    assert answer.startswith(b"HTTP/1.1 400")
    assert b"HTTP/1.1 300" in answer


async def test_a_body_that_is_refused_unasked_for_ends_the_connection(api: Api) -> None:
    request = f"POST {MESSAGES} HTTP/1.1\r\n{IDENTITY}Expect: 100-continue\r\n"
    following = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

    answer = await api.send_raw(f"{request}Content-Length: 300000\r\n\r\n{following}".encode())

    assert answer.startswith(b"HTTP/1.1 400")
    assert b"connection: close" in answer.lower()
    assert b"100 Continue" not in answer


async def test_a_body_that_is_asked_for_is_read(api: Api) -> None:
    body = '{"messages": [{"body": 1}]}'
    request = f"POST {MESSAGES} HTTP/1.1\r\n{IDENTITY}Connection: close\r\n"

    answer = await api.send_raw(
        f"{request}Expect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    )

    assert b"HTTP/1.1 201" in answer


async def test_a_body_that_comes_in_pieces_is_put_together(api: Api) -> None:
    body = b'{"messages": [{"body": "%b"}]}' % (b"x" * 200000)

    assert (await api.post(MESSAGES, body=body)).status == 201


async def test_a_get_may_carry_a_body(api: Api) -> None:
    reply = await api.get(MESSAGES, body=b"{}")

    assert reply.status == 200


@pytest.mark.parametrize("method", ["GET", "DELETE", "PATCH", "PUT", "POST", "HEAD"])
@pytest.mark.parametrize(
    "path",
    ["/v2/queues/%ff", "/v2/queues/q/messages/%ff%00", "/v2/queues/q/claims/%ed%a0%80", "/%2e%2e/"],
)
async def test_odd_paths_are_no_failures_of_ours(api: Api, method: str, path: str) -> None:
    reply = await api.call(method, path)

    assert reply.status < 500


async def test_a_project_can_have_any_characters(api: Api, clock: ManualClock) -> None:
    odd = {"X-Project-ID": "p%_\u00e9'\";--"}
    await api.put("/v2/queues/q", headers=odd)

    assert len((await api.get("/v2/queues", headers=odd)).json["queues"]) == 1
    assert (await api.get("/v2/queues")).json["queues"] == []
