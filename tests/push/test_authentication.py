"""Callers of the WebSocket API: tokens, signatures, proxies, and how long a socket may stay."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest

from api.push import session
from tests.api.conftest import PROJECT, Api, StartApi, make_token
from tests.clock import ManualClock
from tests.push.conftest import Client, Connect
from zaqar_notify.rules.signing import sign_url, wire_instant

DENIED = {"error": "Not authentified."}


@pytest.fixture
async def guarded(start_api: StartApi) -> Api:
    return await start_api(auth="token", signed_url_secrets="secret")


async def authenticated(client: Client, token: str, **headers: object) -> None:
    named = {"X-Auth-Token": token, "X-Project-ID": None, **headers}
    reply = await client.ask("authenticate", headers=named)
    assert (reply.status, reply.body) == (200, {"message": "Authentified."})
    assert reply.request["headers"] == {}


async def test_a_socket_is_refused_until_it_authenticates(guarded: Api, connect: Connect) -> None:
    client = await connect(guarded)
    before = await client.ask("queue_create", queue_name="q")
    await authenticated(client, await make_token(guarded))
    after = await client.ask("queue_create", queue_name="q")

    assert (before.status, before.body, after.status) == (403, DENIED, 201)


async def test_after_a_bad_token_a_good_one_may_follow(guarded: Api, connect: Connect) -> None:
    client = await connect(guarded)

    bad = await client.ask("authenticate", headers={"X-Auth-Token": "zqn_no"})
    none = await client.ask("authenticate")
    still = await client.ask("queue_list")
    await authenticated(client, await make_token(guarded))

    assert (bad.status, bad.body) == (401, {"error": "Authentication failed."})
    assert (none.status, still.status) == (401, 403)
    assert (await client.ask("queue_list")).status == 200


async def test_a_second_token_replaces_the_first(guarded: Api, connect: Connect) -> None:
    client = await connect(guarded)
    await authenticated(client, await make_token(guarded, scope="reader"))
    as_reader = await client.ask("queue_create", queue_name="q")
    await authenticated(client, await make_token(guarded, scope="member"))
    as_member = await client.ask("queue_create", queue_name="q")

    assert (as_reader.status, as_member.status) == (403, 201)


async def test_the_project_is_the_token_s(guarded: Api, connect: Connect) -> None:
    client = await connect(guarded)
    await authenticated(client, await make_token(guarded))

    other = await client.ask("queue_create", queue_name="q", headers={"X-Project-ID": "p2"})
    unnamed = await client.ask("queue_create", queue_name="q", headers={"X-Project-ID": None})

    assert (other.status, unnamed.status) == (403, 201)
    assert "p2" in other.body["error"]


async def test_a_token_for_some_queues_reaches_no_others(guarded: Api, connect: Connect) -> None:
    client = await connect(guarded)
    await authenticated(client, await make_token(guarded, scope="admin", queue="mine*"))

    mine = await client.ask("queue_get", queue_name="mine.1")
    theirs = await client.ask("queue_get", queue_name="q")
    everything = await client.ask("queue_list")

    assert [mine.status, theirs.status, everything.status] == [200, 403, 403]


async def test_the_headers_of_a_handshake_may_carry_the_token(
    guarded: Api, connect: Connect
) -> None:
    client = await connect(guarded, headers={"X-Auth-Token": await make_token(guarded)})

    reply = await client.ask("queue_create", queue_name="q")

    assert reply.status == 201


async def test_the_end_of_a_token_closes_the_socket(
    start_api: StartApi, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock()
    api = await start_api(auth="token", clock=clock)
    client = await connect(api)
    await authenticated(client, await make_token(api, ttl=60))
    monkeypatch.setattr(session, "KNOWN_SECONDS", 0.05)
    await client.ask("queue_list")

    clock.advance(seconds=60)

    assert await client.end() == (4003, "Authentication expired.")


async def test_a_revoked_token_closes_its_silent_socket(
    start_api: StartApi, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "KNOWN_SECONDS", 0.05)
    monkeypatch.setattr("zaqar_notify.auth.known_tokens.KNOWN_SECONDS", 0.05)
    api = await start_api(auth="token")
    client = await connect(api)
    await authenticated(client, await make_token(api))
    [stored] = await api.service.storage.control.tokens.list(None, marker=None, limit=2)

    await api.service.storage.control.tokens.remove(stored.id)

    assert await client.end() == (4003, "Authentication expired.")


async def test_a_socket_that_does_not_authenticate_is_closed(
    start_api: StartApi, connect: Connect
) -> None:
    api = await start_api(auth="token", websocket_authentication_seconds=0.2)
    client = await connect(api)
    await client.ask("queue_list")

    assert (await client.end())[0] == 1008


async def test_a_bad_token_in_the_handshake_proves_nothing(
    start_api: StartApi, connect: Connect
) -> None:
    api = await start_api(auth="token", websocket_authentication_seconds=0.2)
    client = await connect(api, headers={"X-Auth-Token": "zqn_no"})

    assert (await client.end())[0] == 1008


async def test_the_end_of_a_token_in_the_handshake_closes_the_socket(
    start_api: StartApi, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "KNOWN_SECONDS", 0.05)
    clock = ManualClock()
    api = await start_api(auth="token", clock=clock, websocket_authentication_seconds=0.2)
    token = await make_token(api, ttl=60)
    client = await connect(api, headers={"X-Auth-Token": token})
    await _is_silent(client, 0.4)  # The handshake has proved its caller.

    clock.advance(seconds=60)

    assert await client.end() == (4003, "Authentication expired.")


async def test_signed_frames_keep_their_socket_open(start_api: StartApi, connect: Connect) -> None:
    api = await start_api(
        auth="token", signed_url_secrets="secret", websocket_authentication_seconds=0.3
    )
    client = await connect(api)
    await client.ask("message_list", headers=signed(api, "GET"), queue_name="q")

    await _is_silent(client, 0.6)

    again = await client.ask("message_list", headers=signed(api, "GET"), queue_name="q")
    assert again.status == 200


async def _is_silent(client: Client, seconds: float) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await client.socket.receive()


async def test_a_silent_socket_is_closed(
    start_api: StartApi, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "KNOWN_SECONDS", 0.2)
    client = await connect(await start_api(websocket_idle_seconds=1))

    assert (await client.end())[0] == 1001


async def test_without_authentication_the_action_is_answered(
    start_api: StartApi, connect: Connect
) -> None:
    client = await connect(await start_api())

    await authenticated(client, "anything")


def signed(
    api: Api, *methods: str, queue: str = "q", below: str = "messages", lasts: int = 60
) -> dict[str, object]:
    expires = api.service.clock.host_now() + timedelta(seconds=lasts)
    paths = [f"/v2/queues/{queue}/{below}"]
    signature = sign_url("secret", paths=paths, methods=methods, project=PROJECT, expires=expires)
    return {
        "URL-Signature": signature,
        "URL-Expires": wire_instant(expires),
        "URL-Methods": list(methods),
        "URL-Paths": paths,
    }


async def test_a_signed_frame_needs_no_token(guarded: Api, connect: Connect) -> None:
    client = await connect(guarded)
    headers = signed(guarded, "GET", "POST")

    posted = await client.ask(
        "message_post", headers=headers, queue_name="q", messages=[{"body": 1, "ttl": 60}]
    )
    listed = await client.ask("message_list", headers=headers, queue_name="q", echo=True)
    deleted = await client.ask("message_delete_many", headers=headers, queue_name="q", pop=1)
    next_frame = await client.ask("message_list", queue_name="q")

    assert [posted.status, listed.status] == [201, 200]
    assert [one["body"] for one in listed.body["messages"]] == [1]
    assert posted.request["headers"]["URL-Signature"] == ""
    assert (deleted.status, deleted.body) == (403, DENIED)
    assert (next_frame.status, next_frame.body) == (403, DENIED)


NOT_SIGNED: tuple[tuple[dict[str, Any], str, str], ...] = (
    ({"queue": "other"}, "message_list", "q"),
    ({"queue": "q"}, "message_list", "q.2"),
    ({"lasts": -1}, "message_list", "q"),
    ({"below": "claims"}, "message_list", "q"),
    ({"below": "claims"}, "claim_create", "q"),
    ({"below": "subscriptions"}, "subscription_list", "q"),
)


async def test_a_signature_opens_the_messages_of_its_queue_alone(
    guarded: Api, connect: Connect
) -> None:
    client = await connect(guarded)
    for made, action, queue in NOT_SIGNED:
        headers = signed(guarded, "GET", "POST", **made)

        reply = await client.ask(action, headers=headers, queue_name=queue)

        assert (reply.status, reply.body) == (403, DENIED), (made, action, queue)


async def test_a_signature_subscribes_a_socket_until_it_expires(
    start_api: StartApi, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "KNOWN_SECONDS", 0.05)
    clock = ManualClock()
    api = await start_api(auth="token", signed_url_secrets="secret", clock=clock)
    client = await connect(api)
    headers = signed(api, "POST", below="subscriptions")

    other = await client.ask("subscription_create", headers=headers, queue_name="other")
    subscribed = await client.ask("subscription_create", headers=headers, queue_name="q")
    clock.advance(seconds=60)

    assert [other.status, subscribed.status] == [403, 201]
    assert await client.end() == (4003, "Authentication expired.")


async def test_a_revoked_signature_ends_the_socket_that_it_subscribed(
    start_api: StartApi, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "KNOWN_SECONDS", 0.05)
    api = await start_api(auth="none", signed_url_secrets="secret")
    client = await connect(api)
    headers = signed(api, "POST", below="subscriptions")
    await client.ask("subscription_create", headers=headers, queue_name="q")

    await api.delete("/v2/queues/q/share")

    assert await client.end() == (4003, "Authentication expired.")


async def test_a_proxy_names_the_project_at_the_handshake(
    start_api: StartApi, connect: Connect
) -> None:
    api = await start_api(trust_proxy=True)
    named = {"X-Project-ID": PROJECT, "X-Roles": "member", "X-User-Id": "u1"}
    client = await connect(api, headers=named)

    own = await client.ask("queue_create", queue_name="q")
    other = await client.ask("queue_create", queue_name="q", headers={"X-Project-ID": "p2"})
    roles = await client.ask(
        "queue_create", queue_name="q", headers={"X-Roles": "admin", "X-Project-ID": "p2"}
    )

    assert [own.status, other.status, roles.status] == [201, 403, 403]


@pytest.mark.parametrize("name", ["X-Project-ID", "X-Tenant-Id"])
async def test_a_project_that_a_proxy_put_into_the_handshake_is_that_of_all_frames(
    start_api: StartApi, connect: Connect, name: str
) -> None:
    client = await connect(await start_api(), headers={name: PROJECT})

    own = await client.ask("queue_create", queue_name="q")
    unnamed = await client.ask("queue_create", queue_name="q", headers={"X-Project-ID": None})
    other = await client.ask("queue_create", queue_name="q", headers={"X-Project-ID": "victim"})

    assert [own.status, unnamed.status, other.status] == [201, 204, 403]


async def test_without_a_project_from_the_proxy_no_frame_can_name_one(
    start_api: StartApi, connect: Connect
) -> None:
    client = await connect(await start_api(trust_proxy=True))

    reply = await client.ask("queue_create", queue_name="q")

    assert reply.status == 403


async def test_a_project_has_so_many_sockets(start_api: StartApi, connect: Connect) -> None:
    api = await start_api(websocket_max_per_project=1)
    first, second = await connect(api), await connect(api)
    await first.ask("queue_list")

    refused = await second.ask("queue_list")

    assert (refused.status, (await second.end())[0]) == (403, 1008)
    assert (await first.ask("queue_list")).status == 200
    await first.socket.close()
    assert (await (await connect(api)).ask("queue_list")).status == 200


async def test_a_silent_socket_whose_handshake_has_a_token_counts_for_its_project(
    start_api: StartApi, connect: Connect
) -> None:
    api = await start_api(auth="token", websocket_max_per_project=1)
    token = {"X-Auth-Token": await make_token(api)}
    first = await connect(api, headers=token)
    await _is_silent(first, 0.2)

    second = await connect(api, headers=token)

    assert await second.end() == (1008, "Too many connections.")
    assert (await first.ask("queue_list")).status == 200


ORIGINS = [
    (None, 101),
    ("http://127.0.0.1:{port}", 101),
    ("https://app.example.org", 101),
    ("https://notify.example.org", 101),
    ("https://evil.example.org", 403),
    ("http://127.0.0.1", 403),
    ("null", 403),
]


async def test_pages_of_other_origins_open_no_socket(start_api: StartApi) -> None:
    api = await start_api(
        cors_origins="https://app.example.org", public_url="https://notify.example.org"
    )
    for origin, status in ORIGINS:
        headers = {} if origin is None else {"Origin": origin.format(port=api.port)}

        assert await handshake(api, headers) == status, origin


async def test_every_origin_opens_one_where_the_operator_says_so(start_api: StartApi) -> None:
    api = await start_api(cors_origins="*")

    assert await handshake(api, {"Origin": "https://evil.example.org"}) == 101


async def test_a_page_whose_name_was_made_to_mean_this_host_does_nothing(
    start_api: StartApi, connect: Connect
) -> None:
    rebound = {"Host": "evil.example.org:80", "Origin": "http://evil.example.org"}
    client = await connect(await start_api(), headers=rebound)

    reply = await client.ask("queue_create", queue_name="q")

    assert (reply.status, "Host" in reply.body["error"]) == (400, True)


async def test_a_handshake_that_names_a_thing_twice_is_refused(start_api: StartApi) -> None:
    api = await start_api(trust_proxy=True)
    for name in ("X-Project-ID", "X-Auth-Token", "Host"):
        headers = {"Host": "a"} | {name: "a"}
        lines = "".join(f"{each}: {value}\r\n" for each, value in headers.items())

        answer = await api.send_raw(f"GET / HTTP/1.1\r\n{lines}{name}: b\r\n{OFFER}\r\n".encode())

        assert answer.split(b" ")[1] in (b"400", b"403"), name


OFFER = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)


async def handshake(api: Api, headers: dict[str, str], path: str = "/") -> int:
    async with aiohttp.ClientSession() as http:
        try:
            async with http.ws_connect(api.url + path, headers=headers):
                return 101
        except aiohttp.WSServerHandshakeError as error:
            return error.status


async def test_the_query_of_a_handshake_may_carry_a_signature(
    guarded: Api, connect: Connect
) -> None:
    headers = signed(guarded, "GET")
    names = {name.lower().replace("-", "_"): value for name, value in headers.items()}
    texts = {n: v if isinstance(v, str) else ",".join(v) for n, v in names.items()}  # type: ignore[arg-type]
    client = await connect(guarded, f"/?{urlencode({**texts, 'project_id': PROJECT})}")

    listed = await client.ask("message_list", queue_name="q")
    other = await client.ask("message_list", queue_name="r")
    posted = await client.ask("message_post", queue_name="q", messages=[{"body": 1}])

    assert [listed.status, other.status, posted.status] == [200, 403, 403]


async def test_a_signature_that_a_proxy_let_through_is_the_only_evidence(
    start_api: StartApi, connect: Connect
) -> None:
    api = await start_api(trust_proxy=True, signed_url_secrets="secret")
    forged = {"X-Project-ID": PROJECT, "X-Roles": "admin"}

    by_header = await connect(api, headers={**forged, "URL-Signature": ""})
    by_query = await connect(api, "/?url_signature=", headers=forged)

    for client in (by_header, by_query):
        reply = await client.ask("queue_create", queue_name="q")
        assert (reply.status, reply.body) == (403, DENIED)
    assert await handshake(api, forged, "/?URL_SIGNATURE=x") == 403
    assert await handshake(api, {}, "/?project_id=p1") == 403
