"""The one decision for every request: who the caller is, and of which project."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta

import pytest

from api.credentials import MAX_TOKEN_BYTES
from tests.api.conftest import CLIENT_ID, PROJECT, Api, Reply, StartApi, bearer, make_token
from tests.clock import ManualClock
from zaqar_notify.auth import Caller, Target, known_tokens
from zaqar_notify.models import Token
from zaqar_notify.rules.tokens import new_secret

Headers = Mapping[str, str | None]
NO_PROJECT: Headers = {"X-Project-ID": None}


class Everything:
    """Permits everything, and notes the callers."""

    def __init__(self) -> None:
        self.callers: list[Caller] = []

    def permits(self, caller: Caller, rule: str, target: Target) -> bool:
        self.callers.append(caller)
        return True


@pytest.fixture
async def api(start_api: StartApi) -> Api:
    return await start_api(auth="token", signed_url_secrets="secret")


async def queues_of(api: Api, headers: Headers) -> list[str]:
    reply = await api.get("/v2/queues", headers=headers)
    assert reply.status == 200, reply
    return [queue["name"] for queue in reply.json["queues"]]


def assert_unauthorized(reply: Reply) -> None:
    assert reply.status == 401
    sentence = reply.json["description"]
    assert reply.json == {
        "title": "Unauthorized",
        "description": sentence,
        "error": {"code": 401, "title": "Unauthorized", "message": sentence},
    }
    assert reply.headers["WWW-Authenticate"] == 'Bearer realm="zaqar-notify"'


# Tokens


@pytest.mark.parametrize("header", ["Authorization", "X-Auth-Token"])
async def test_a_token_names_its_project(api: Api, header: str) -> None:
    mine, theirs = await make_token(api), await make_token(api, project="p2")
    scheme = "bearer " if header == "Authorization" else ""
    await api.put("/v2/queues/q", headers={header: scheme + mine, "X-Project-ID": None})

    assert await queues_of(api, bearer(mine)) == ["q"]
    assert await queues_of(api, bearer(theirs)) == []


@pytest.mark.parametrize("name", ["X-Project-ID", "X-Tenant-Id"])
async def test_a_header_that_names_another_project_is_refused(api: Api, name: str) -> None:
    token = await make_token(api)

    same = await api.get("/v2/queues", headers=bearer(token) | {name: PROJECT})
    other = await api.get("/v2/queues", headers=bearer(token) | {name: "p2"})
    empty = await api.get("/v2/queues", headers=bearer(token) | {name: ""})

    assert [same.status, other.status, empty.status] == [200, 403, 200]
    assert other.title == "Not authorized"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Auth-Token": ""},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic cDE6cGFzc3dvcmQ="},
        {"X-Auth-Token": "keystone-s"},
        {"X-Auth-Token": "zqn_"},
        {"X-Auth-Token": new_secret()},
        {"X-Auth-Token": new_secret()[:-1]},
        {"X-Auth-Token": "zqn_" + "é" * 49},
        {"X-Auth-Token": "two words"},
        {"X-Auth-Token": "x" * (MAX_TOKEN_BYTES + 1)},
        {"EXTRA-SPEC": "messagecode:x"},
        {"EXTRA-SPEC": ""},
        {"X-Roles": "admin", "X-User-Id": "root", "X-Identity-Status": "Confirmed"},
    ],
    ids=lambda headers: " ".join(headers)[:40],
)
@pytest.mark.parametrize("path", ["/v2/queues", "/v2/", "/v2/nothing", "/nothing"])
async def test_nobody_without_a_valid_token_learns_anything(
    api: Api, path: str, headers: Headers
) -> None:
    assert_unauthorized(await api.get(path, headers=headers))


async def test_a_request_with_every_fault_is_unauthorized_first(api: Api) -> None:
    faults = {"Content-Type": "application/x-www-form-urlencoded", "Client-ID": None}

    reply = await api.call("PUT", "/v2/queues/q!/messages", body=b"{", headers=faults)

    assert_unauthorized(reply)


async def test_two_tokens_are_refused(api: Api) -> None:
    token = await make_token(api)

    reply = await api.get("/v2/queues", headers=bearer(token) | {"X-Auth-Token": token})

    assert (reply.status, reply.title) == (400, "Invalid header value")


@pytest.mark.parametrize("name", ["X-Auth-Token", "Authorization", "X-Project-ID", "X-Roles"])
async def test_a_repeated_identity_header_is_refused(api: Api, name: str) -> None:
    token = await make_token(api)
    line = f"{name}: {PROJECT}\r\n"

    answer = await api.send_raw(
        f"GET /v2/queues HTTP/1.1\r\nHost: h\r\nConnection: close\r\nClient-ID: {CLIENT_ID}\r\n"
        f"X-Auth-Token: {token}\r\n{line}{line}\r\n".encode()
    )

    assert answer.startswith(b"HTTP/1.1 400 ")


async def test_a_token_ends_exactly_when_it_expires(api: Api, clock: ManualClock) -> None:
    token = await make_token(api, ttl=60)

    clock.advance(seconds=59.999)
    assert (await api.get("/v2/queues", headers=bearer(token))).status == 200

    clock.advance(seconds=0.001)
    assert_unauthorized(await api.get("/v2/queues", headers=bearer(token)))


async def test_a_mistyped_token_is_refused_without_a_look_into_the_store(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(digest: bytes) -> None:
        raise AssertionError("The store was asked")

    monkeypatch.setattr(api.service.storage.control.tokens, "find", fail)

    assert_unauthorized(await api.get("/v2/queues", headers=bearer(new_secret()[:-1] + "?")))


async def test_a_known_token_costs_no_read_of_the_store(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    find = api.service.storage.control.tokens.find

    async def noted(digest: bytes) -> Token | None:
        asked.append(digest)
        return await find(digest)

    monkeypatch.setattr(api.service.storage.control.tokens, "find", noted)
    token = await make_token(api)

    for _ in range(50):
        await api.get("/v2/", headers=bearer(token))

    # Once more after each 3 seconds, which a slow machine may need.
    assert 1 <= len(asked) <= 5


async def test_a_revoked_token_is_refused_once_it_is_looked_up_again(
    start_api: StartApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_tokens, "KNOWN_SECONDS", 0.0)
    api = await start_api(auth="token")
    token = await make_token(api)
    assert (await api.get("/v2/queues", headers=bearer(token))).status == 200
    [stored] = await api.service.storage.control.tokens.list(None, marker=None, limit=2)

    await api.service.storage.control.tokens.remove(stored.id)

    assert_unauthorized(await api.get("/v2/queues", headers=bearer(token)))


async def test_with_the_store_away_known_tokens_go_on_and_unknown_ones_are_asked_to_wait(
    api: Api,
) -> None:
    known, unknown = await make_token(api), await make_token(api)
    await api.get("/v2/", headers=bearer(known))

    await api.service.storage.close()

    assert (await api.get("/v2/", headers=bearer(known))).status == 200
    reply = await api.get("/v2/", headers=bearer(unknown))
    assert (reply.status, reply.headers["Retry-After"]) == (503, "1")


async def test_with_a_store_that_hangs_an_unknown_token_is_asked_to_come_again(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(digest: bytes) -> None:
        await asyncio.Event().wait()

    known = await make_token(api)
    await api.get("/v2/", headers=bearer(known))
    monkeypatch.setattr(api.service.storage.control.tokens, "find", hang)
    monkeypatch.setattr(known_tokens, "PATIENCE_SECONDS", 0.1)
    flood = [
        asyncio.create_task(api.get("/v2/", headers=bearer(new_secret())))
        for _ in range(2 * known_tokens.MOST_ASKING)
    ]

    refused = await asyncio.gather(*flood)

    assert {(each.status, each.headers["Retry-After"]) for each in refused} == {(503, "1")}
    assert (await api.get("/v2/", headers=bearer(known))).status == 200


async def test_strangers_leave_room_for_callers_that_are_known(
    start_api: StartApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()

    async def hang(digest: bytes) -> None:
        asked.set()
        await asyncio.Event().wait()

    api = await start_api(auth="token", max_requests=8)
    known = await make_token(api)
    await api.get("/v2/", headers=bearer(known))
    monkeypatch.setattr(api.service.storage.control.tokens, "find", hang)
    strangers = [
        asyncio.create_task(api.get("/v2/", headers=bearer(new_secret()))) for _ in range(16)
    ]
    await asked.wait()

    assert (await api.get("/v2/", headers=bearer(known))).status == 200
    refused, waiting = await asyncio.wait(strangers, timeout=0)

    assert len(waiting) == 8 // 4
    assert {(each.result().status, each.result().title) for each in refused} == {
        (503, "Service temporarily unavailable")
    }
    assert api.service.metrics.overloads["callers"] == len(refused)
    for each in waiting:
        each.cancel()


async def test_the_last_use_is_noted_once_a_minute(
    api: Api, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await make_token(api)
    tokens = api.service.storage.control.tokens
    start = clock.now()

    async def last_use_after(seconds: float) -> float | None:
        clock.advance(seconds=seconds)
        finder = known_tokens.KnownTokens(tokens, clock, most_waiting=1)
        await finder.caller(token)
        await asyncio.gather(*finder._noting)
        [stored] = await tokens.list(None, marker=None, limit=2)
        assert stored.last_used_at is not None
        return (stored.last_used_at - start) / timedelta(seconds=1)

    assert await last_use_after(0) == 0
    assert await last_use_after(59.999) == 0
    assert await last_use_after(0.001) == 60


async def test_the_caller_says_how_it_is_known(start_api: StartApi) -> None:
    policy = Everything()
    api = await start_api(policy=policy, auth="token")
    token = await make_token(api, scope="reader", queue="orders.*")

    await api.get("/v2/queues/orders.1", headers=bearer(token))

    [stored] = await api.service.storage.control.tokens.list(None, marker=None, limit=2)
    assert policy.callers == [
        Caller(
            PROJECT,
            roles=frozenset({"reader"}),
            how="token",
            token_id=stored.id,
            is_strict=True,
            queues="orders.*",
        )
    ]


# Operators


async def test_an_operator_s_token_names_its_project_by_header(api: Api) -> None:
    token = await make_token(api, project=None, scope="operator")
    await api.put("/v2/queues/q", headers=bearer(token) | {"X-Project-ID": "p2"})

    assert await queues_of(api, bearer(token) | {"X-Project-ID": "p2"}) == ["q"]
    assert await queues_of(api, bearer(token) | {"X-Project-ID": "p1"}) == []
    nameless = await api.get("/v2/queues", headers=bearer(token))
    assert (nameless.status, nameless.title) == (400, "Project-Id Missing")


async def test_an_operator_s_token_can_have_a_project_for_requests_without_one(api: Api) -> None:
    token = await make_token(api, scope="operator")
    await api.put("/v2/queues/q", headers=bearer(token))

    assert await queues_of(api, bearer(token)) == ["q"]
    assert await queues_of(api, bearer(token) | {"X-Project-ID": "p2"}) == []


async def test_an_operator_s_route_needs_no_project(start_api: StartApi) -> None:
    api = await start_api(auth="token", admin_mode=True)
    operator = await make_token(api, project=None, scope="operator")
    admin = await make_token(api, scope="admin")

    assert (await api.get("/v2/health", headers=bearer(operator))).status == 200
    assert (await api.get("/v2/health", headers=bearer(admin))).status == 403


# Scopes


@pytest.mark.parametrize(
    ("scope", "statuses"),
    [("reader", [200, 200, 403, 403, 403, 403]), ("member", [200, 200, 201, 201, 200, 200])],
)
async def test_scopes_are_strict(api: Api, scope: str, statuses: list[int]) -> None:
    headers = bearer(await make_token(api, scope=scope))
    messages = {"messages": [{"body": 1}, {"body": 2}]}
    calls: tuple[tuple[str, str, object], ...] = (
        ("GET", "/v2/queues", None),
        ("GET", "/v2/queues/q/messages", None),
        ("POST", "/v2/queues/q/messages", messages),
        ("POST", "/v2/queues/q/claims", {}),
        ("DELETE", "/v2/queues/q/messages?pop=1", None),
        ("POST", "/v2/queues/q/share", {}),
    )

    answered = [(await api.call(*call, headers=headers)).status for call in calls]

    assert answered == statuses


# No authentication


@pytest.mark.parametrize(
    "host", ["rebound.example", "REBOUND.example:8888", "rebound.example.", "localhost.example:1"]
)
@pytest.mark.parametrize("path", ["/v2/queues", "/v1.1/queues", "/v2/nothing"])
async def test_none_does_not_believe_requests_to_a_public_name(
    start_api: StartApi, path: str, host: str
) -> None:
    api = await start_api(auth="none", public_url="https://mq.example/messaging")

    refused = await api.get(path, headers={"Host": host})

    assert (refused.status, refused.title) == (400, "Invalid header value")
    assert "ZAQAR_PUBLIC_URL" in refused.json["description"]


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1:8888", "10.0.0.7", "[::1]", "[::1]:8888", "localhost:8888", "a.localhost"),
        *("api:80", "", "mq.example", "MQ.example.:443"),
    ],
)
async def test_none_believes_requests_to_addresses_local_names_and_its_own(
    start_api: StartApi, host: str
) -> None:
    api = await start_api(auth="none", public_url="https://mq.example/messaging")

    assert (await api.get("/v2/queues", headers={"Host": host})).status == 200


async def test_a_trusted_proxy_may_pass_any_name_on(start_api: StartApi) -> None:
    api = await start_api(auth="none", trust_proxy=True)

    assert (await api.get("/v2/queues", headers={"Host": "any.example"})).status == 200


async def test_a_request_with_a_token_may_come_to_any_name(api: Api) -> None:
    headers = bearer(await make_token(api)) | {"Host": "any.example"}

    assert (await api.get("/v2/queues", headers=headers)).status == 200


async def test_none_ignores_tokens_and_roles(start_api: StartApi) -> None:
    policy = Everything()
    api = await start_api(policy=policy, auth="none")

    for headers in ({"X-Auth-Token": "zqn_x"}, {"Authorization": "Basic x"}, {"X-Roles": "admin"}):
        assert (await api.get("/v2/queues", headers=headers)).status == 200

    assert set(policy.callers) == {Caller(PROJECT, roles=frozenset({"member"}))}


async def test_a_setting_names_the_project_of_requests_without_one(start_api: StartApi) -> None:
    api = await start_api(auth="none", default_project="home")
    await api.put("/v2/queues/q", headers=NO_PROJECT)

    assert await queues_of(api, {"X-Project-ID": "home"}) == ["q"]
    assert await queues_of(api, NO_PROJECT) == ["q"]
    empty = await api.get("/v2/queues", headers={"X-Project-ID": ""})
    assert empty.title == "Empty project header not allowed"


async def test_a_trusted_proxy_names_user_and_roles(start_api: StartApi) -> None:
    policy = Everything()
    api = await start_api(policy=policy, auth="none", trust_proxy=True)

    await api.get("/v2/queues", headers={"X-Roles": "reader, auditor,", "X-User-Id": "u1"})
    await api.get("/v2/queues", headers={"X-User-Id": "u1"})

    assert policy.callers == [
        Caller(PROJECT, "u1", frozenset({"reader", "auditor"}), how="proxy"),
        Caller(PROJECT, roles=frozenset({"member"})),
    ]


# Signatures


async def test_a_signature_needs_no_token_and_an_empty_one_opens_nothing(api: Api) -> None:
    token = await make_token(api)
    shared = (await api.post("/v2/queues/q/share", {}, headers=bearer(token))).json
    signed = {
        "URL-Signature": shared["signature"],
        "URL-Methods": ",".join(shared["methods"]),
        "URL-Paths": ",".join(shared["paths"]),
        "URL-Expires": shared["expires"],
        "X-Project-ID": PROJECT,
    }

    assert (await api.get("/v2/queues/q/messages", headers=signed)).status == 200
    for headers in ({}, bearer(token), {"X-Project-ID": PROJECT}):
        for signature in ("", "0" * 64):
            forged = {**headers, "URL-Signature": signature}
            assert (await api.get("/v2/queues/q/messages", headers=forged)).status == 404


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/metrics", "/docs", "/openapi.json"])
async def test_open_paths_need_no_token(api: Api, path: str) -> None:
    assert (await api.get(path)).status in (200, 204, 300)


async def test_options_needs_no_token(api: Api) -> None:
    assert (await api.call("OPTIONS", "/v2/queues")).status == 200


async def test_an_application_that_was_told_nothing_asks_for_tokens(start_api: StartApi) -> None:
    api = await start_api(auth=())

    assert_unauthorized(await api.get("/v2/queues"))
