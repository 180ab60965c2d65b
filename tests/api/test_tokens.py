"""Tokens over HTTP: an admin manages those of its project and gives no more than it has."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import PROJECT, Api, Reply, StartApi, bearer, make_token
from tests.clock import ManualClock
from zaqar_notify.auth import tokens


@pytest.fixture
async def api(start_api: StartApi) -> Api:
    return await start_api(auth="token")


async def create(api: Api, token: str, **body: object) -> Reply:
    return await api.post("/v2/tokens", body, headers=bearer(token))


async def ids(api: Api, token: str, path: str = "/v2/tokens", **headers: str) -> list[str]:
    reply = await api.get(path, headers=bearer(token, **headers))
    assert reply.status == 200, reply
    return [each["id"] for each in reply.json["tokens"]]


async def test_a_made_token_shows_its_secret_once_and_works(api: Api) -> None:
    admin = await make_token(api, scope="admin")

    made = await create(api, admin, scope="reader", queue="orders.*", ttl=3600, name="reports")

    assert made.status == 201
    secret = made.json["token"]
    shown = {name: value for name, value in made.json.items() if name != "token"}
    assert shown == {
        "id": made.json["id"],
        "project": PROJECT,
        "scope": "reader",
        "queue": "orders.*",
        "name": "reports",
        "created_at": "2100-01-01T12:00:00Z",
        "expires_at": "2100-01-01T13:00:00Z",
        "last_used_at": None,
    }
    assert (await api.get("/v2/queues/orders.1", headers=bearer(secret))).status == 200
    listed = await api.get("/v2/tokens?limit=1&marker=0", headers=bearer(admin))
    assert [each.get("token") for each in listed.json["tokens"]] == [None]
    assert secret.encode() not in listed.body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"scope": "root"}',
        b'{"queues": "orders.*"}',
        b'{"queue": "orders/*"}',
        b'{"queue": ""}',
        b'{"queue": "[a-z]"}',
        b'{"queue": "orders", "scope": "operator"}',
        b'{"ttl": -1}',
        b'{"ttl": 59}',
        b'{"ttl": 9223372036854775807}',
        b'{"ttl": 99999999999999999999}',
        b'{"ttl": "90d"}',
        b'{"name": "\\u0000"}',
        b'{"name": "' + b"x" * 201 + b'"}',
        b'{"name": "' + b"x" * 5000 + b'"}',
        b'{"project": ["p1"]}',
    ],
)
async def test_bad_wishes(api: Api, body: bytes) -> None:
    admin = await make_token(api, scope="admin")

    reply = await api.post("/v2/tokens", body=body, headers=bearer(admin))

    assert reply.status == 400


@pytest.mark.parametrize("project", ["", " p", "p ", "a\0b", "a\nb", "日本", "p" * 257])
async def test_no_token_is_made_for_a_project_that_requests_can_not_name(
    api: Api, project: str
) -> None:
    operator = await make_token(api, project=None, scope="operator")

    assert (await create(api, operator, project=project)).status == 400


@pytest.mark.parametrize(
    ("own", "asked"),
    [
        ({"scope": "member"}, {}),
        ({"scope": "reader"}, {"scope": "reader"}),
        ({"scope": "admin"}, {"scope": "operator"}),
        ({"scope": "admin"}, {"project": "p2"}),
        ({"scope": "admin", "queue": "orders.*"}, {}),
        ({"scope": "admin", "queue": "orders.*"}, {"queue": "*"}),
        ({"scope": "admin", "queue": "orders.?"}, {"queue": "orders.*"}),
        ({"scope": "admin", "ttl": 3600}, {}),
        ({"scope": "admin", "ttl": 3600}, {"ttl": 3601}),
        ({"scope": "operator", "ttl": 3600}, {"scope": "operator"}),
    ],
)
async def test_nobody_gives_more_than_it_has(
    api: Api, own: dict[str, Any], asked: dict[str, Any]
) -> None:
    token = await make_token(api, **own)

    reply = await create(api, token, **asked)

    assert (reply.status, reply.title) == (403, "Not authorized")
    assert len(await api.service.storage.control.tokens.list(None, marker=None, limit=9)) == 1


async def test_a_token_that_was_revoked_makes_none_while_it_is_still_believed(api: Api) -> None:
    admin = await make_token(api, scope="admin")
    [stored] = await api.service.storage.control.tokens.list(None, marker=None, limit=2)
    await api.get("/v2/tokens", headers=bearer(admin))

    await api.service.storage.control.tokens.remove(stored.id)

    assert (await api.get("/v2/tokens", headers=bearer(admin))).status == 200
    assert (await create(api, admin)).status == 403


async def test_as_much_as_it_has_an_admin_may_give(api: Api) -> None:
    admin = await make_token(api, scope="admin", queue="orders.*", ttl=3600)

    made = await create(api, admin, scope="admin", queue="orders.eu.*", ttl=3600, project=PROJECT)

    assert made.status == 201


async def test_an_operator_makes_tokens_of_every_project_and_operators(api: Api) -> None:
    operator = await make_token(api, project=None, scope="operator")

    assert (await create(api, operator, project="p2", scope="admin")).json["project"] == "p2"
    assert (await create(api, operator, scope="operator")).json["project"] is None
    assert (await create(api, operator, scope="member")).status == 400


async def test_a_project_s_admin_sees_and_revokes_only_what_is_within_its_reach(api: Api) -> None:
    admin = await make_token(api, scope="admin", queue="orders.*", name="inside")
    await make_token(api, queue="orders.eu", name="inside")
    await make_token(api, name="outside")
    await make_token(api, scope="operator", name="outside")
    await make_token(api, project="p2", queue="orders.eu", name="outside")
    stored = await api.service.storage.control.tokens.list(None, marker=None, limit=9)

    inside = await ids(api, admin)
    for each in stored:
        if each.scope != "admin":
            reply = await api.delete(f"/v2/tokens/{each.id}", headers=bearer(admin))
            assert reply.status == 204

    assert inside == [each.id for each in stored if each.name == "inside"]
    left = await api.service.storage.control.tokens.list(None, marker=None, limit=9)
    kept = [each.id for each in stored if each.name == "outside" or each.scope == "admin"]
    assert [each.id for each in left] == kept


async def test_an_operator_sees_all_tokens_or_those_of_the_project_that_it_names(
    api: Api, clock: ManualClock
) -> None:
    operator = await make_token(api, project=None, scope="operator")
    clock.advance(seconds=1)
    await make_token(api, project="p1")
    clock.advance(seconds=1)
    await make_token(api, project="p2")

    everything = await ids(api, operator)

    assert len(everything) == 3
    assert await ids(api, operator, **{"X-Project-ID": "p2"}) == everything[2:]


async def test_tokens_are_listed_a_page_at_a_time(api: Api) -> None:
    admin = await make_token(api, scope="admin")
    for _ in range(4):
        await make_token(api)

    first = await api.get("/v2/tokens?limit=2", headers=bearer(admin))
    second = await ids(api, admin, first.json["links"][0]["href"])

    everything = await ids(api, admin)
    assert [each["id"] for each in first.json["tokens"]] + second == everything[:4]
    assert await ids(api, admin, f"/v2/tokens?marker={everything[-1]}") == []
    assert (await api.get("/v2/tokens?limit=101", headers=bearer(admin))).status == 400


async def test_a_project_has_so_many_tokens_and_expired_ones_make_room(
    api: Api, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "MOST_TOKENS", 2)
    admin = await make_token(api, scope="admin")
    assert (await create(api, admin, ttl=60)).status == 201

    full = await create(api, admin)
    clock.advance(seconds=60)

    assert full.status == 403
    assert "2 tokens" in full.json["description"]
    assert (await create(api, admin)).status == 201


async def test_without_authentication_only_admin_mode_manages_tokens(start_api: StartApi) -> None:
    api = await start_api(auth="none")
    assert (await api.get("/v2/tokens")).status == 403
    assert (await api.post("/v2/tokens", {})).status == 403
    assert (await api.delete("/v2/tokens/1")).status == 403


async def test_no_token_is_logged(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    admin = await make_token(api, scope="admin")

    made = await create(api, admin)
    await api.get("/v2/queues", headers=bearer(made.json["token"][:-1] + "0"))

    assert made.json["token"][:20] not in caplog.text
    assert admin not in caplog.text
