"""Requests as a browser sends them for pages of other origins."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from fastapi import FastAPI

from api.answers import Answer
from api.app import create_app
from api.errors import answer_to
from api.requests import Call
from api.resources import UNGUARDED, Operation, Resource
from api.resources import Reply as Documented
from api.surfaces import Surface
from api.zaqar.admission import admit
from tests.api.added import Everybody, add_surface
from tests.api.conftest import Api, Reply, StartApi
from tests.api.surfaces import RESOURCES
from zaqar_notify.auth import Caller, Policy, Target
from zaqar_notify.service import Service

ORIGIN = "https://console.example.org"
STRANGER = "https://elsewhere.example.org"
SENT = (
    "authorization,client-id,content-type,idempotency-key,last-event-id,url-expires,url-methods,"
    "url-paths,url-signature,x-auth-token,x-openstack-request-id,x-project-id,x-tenant-id"
)
READ = {"Location", "Retry-After", "Warning", "WWW-Authenticate", "X-OpenStack-Request-Id"}
PATHS = (
    *(resource.path.replace("{", "").replace("}", "") for resource in RESOURCES),
    "/healthz",
    "/readyz",
    "/metrics",
    "/docs",
    "/openapi.json",
    "/v2/unknown",
    "/unknown",
)


class Nothing(Policy):
    def permits(self, caller: Caller, rule: str, target: Target) -> bool:
        return False


async def preflight(api: Api, path: str, origin: str = ORIGIN, headers: str = SENT) -> Reply:
    """The request that a browser sends before a PUT with our headers; it adds none of them itself."""
    asked = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": headers}
    ids = {"Client-ID": None, "X-Project-ID": None}
    return await api.call("OPTIONS", path, headers={"Origin": origin, **asked, **ids})


def is_readable(reply: Reply, origin: str = ORIGIN) -> bool:
    """Whether a browser shows the answer, and the headers that clients need, to the page."""
    shown = set(reply.headers.get("Access-Control-Expose-Headers", "").split(", "))
    return reply.headers.get("Access-Control-Allow-Origin") == origin and shown == READ


def vary_of(reply: Reply) -> str:
    """All of its `Vary` headers."""
    return ", ".join(value for name, value in reply.headers.items() if name.lower() == "vary")


async def test_preflights_of_every_path_are_answered_without_credentials(
    start_api: StartApi,
) -> None:
    api = await start_api(cors_origins=ORIGIN, admin_mode=True)

    for path in PATHS:
        reply = await preflight(api, path)

        assert reply.status == 200, path
        assert reply.headers["Access-Control-Allow-Origin"] == ORIGIN, path
        assert "PUT" in reply.headers["Access-Control-Allow-Methods"], path
        assert "Access-Control-Allow-Credentials" not in reply.headers, path


async def test_an_allowed_page_can_read_every_answer_and_caches_keep_origins_apart(
    start_api: StartApi,
) -> None:
    api = await start_api(cors_origins=f"https://other.example.org,{ORIGIN}", admin_mode=True)

    for path in PATHS:
        for method in ("GET", "DELETE"):
            reply = await api.call(method, path, headers={"Origin": ORIGIN})
            without = await api.call(method, path)

            assert is_readable(reply), (method, path)
            for each in (reply, without):
                assert "Origin" in vary_of(each), (method, path)


async def test_refusals_can_be_read(start_api: StartApi) -> None:
    api = await start_api(cors_origins=ORIGIN, policy=Nothing())
    forbidden = await api.get("/v2/queues", headers={"Origin": ORIGIN})
    unnamed = await api.get("/v2/queues", headers={"Origin": ORIGIN, "Client-ID": None})
    await api.service.storage.close()
    away = await api.get("/readyz", headers={"Origin": ORIGIN})

    assert [forbidden.status, unnamed.status, away.status] == [403, 400, 503]
    assert all(is_readable(each) for each in (forbidden, unnamed, away))


async def test_the_answer_to_a_defect_can_be_read(
    start_api: StartApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.api.conftest.create_app", with_defect)
    api = await start_api(cors_origins=ORIGIN)

    reply = await api.get("/defect", headers={"Origin": ORIGIN})

    assert reply.status == 500
    assert is_readable(reply)


def with_defect(service: Service, policy: Policy) -> FastAPI:
    app = create_app(service, policy)

    @app.get("/defect")
    async def fail() -> None:
        raise ZeroDivisionError

    return app


async def test_a_stream_can_be_read(start_api: StartApi, monkeypatch: pytest.MonkeyPatch) -> None:
    add_surface(monkeypatch, STREAM)
    api = await start_api(cors_origins=ORIGIN)

    reply = await api.get("/stream", headers={"Origin": ORIGIN})

    assert reply.body == b"onetwo"
    assert is_readable(reply)


async def _parts() -> AsyncGenerator[bytes, None]:
    yield b"one"
    yield b"two"


async def _stream(service: Service, call: Call) -> Answer:
    return Answer(200, _parts(), content_type=b"text/event-stream")


_OPERATION = Operation(_stream, UNGUARDED, "Show parts", {200: Documented("Parts")})
STREAM = Surface(
    "/stream",
    (Resource("/stream", {"GET": _OPERATION}, is_open=True),),
    Everybody(),
    admit,
    answer_to,
)


async def test_other_pages_learn_nothing(start_api: StartApi) -> None:
    api = await start_api(cors_origins=ORIGIN)

    for origin in (STRANGER, f"{ORIGIN}.evil", f"{ORIGIN}:444", "null", ORIGIN.upper()):
        asked = await preflight(api, "/v2/queues/q", origin)
        read = await api.get("/v2/queues", headers={"Origin": origin})

        assert asked.status == 400
        for reply in (asked, read):
            assert "Access-Control-Allow-Origin" not in reply.headers


async def test_a_header_that_is_not_ours_is_refused_before_the_request(start_api: StartApi) -> None:
    api = await start_api(cors_origins=ORIGIN)

    assert (await preflight(api, "/v2/queues/q", headers="x-roles")).status == 400


async def test_any_origin_may_be_allowed_but_never_with_cookies(start_api: StartApi) -> None:
    api = await start_api(cors_origins="*")

    asked = await preflight(api, "/v2/queues/q", STRANGER)
    read = await api.get("/v2/queues", headers={"Origin": STRANGER, "Cookie": "a=b"})

    assert asked.status == 200
    for reply in (asked, read):
        assert reply.headers["Access-Control-Allow-Origin"] == "*"
        assert "Access-Control-Allow-Credentials" not in reply.headers


async def test_options_without_a_preflight_names_the_methods(start_api: StartApi) -> None:
    api = await start_api(cors_origins=ORIGIN)

    reply = await api.call("OPTIONS", "/v2/queues/q", headers={"Client-ID": None})

    assert "PUT" in reply.headers["Allow"]


async def test_no_page_is_allowed_unless_it_is_set(api: Api) -> None:
    asked = await preflight(api, "/v2/queues/q")
    read = await api.get("/v2/queues", headers={"Origin": ORIGIN})

    for reply in (asked, read):
        assert "Access-Control-Allow-Origin" not in reply.headers


async def test_a_page_without_a_token_sees_which_one_it_needs(start_api: StartApi) -> None:
    api = await start_api(cors_origins=ORIGIN, auth="token")

    asked = await preflight(api, "/v2/queues/q")
    refused = await api.put("/v2/queues/q", headers={"Origin": ORIGIN})

    assert asked.status == 200
    assert (refused.status, refused.headers["WWW-Authenticate"][:6]) == (401, "Bearer")
    assert is_readable(refused)
