"""Requests that are refused before a handler is asked, and the order of the refusals."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

import pytest

from tests.api.conftest import CLIENT_ID, OTHER_CLIENT_ID, PROJECT, Api, StartApi

FORM: dict[str, str | None] = {"Content-Type": "application/x-www-form-urlencoded"}

# Each request has this fault and all later ones; the first one must be named.
FAULTS: list[tuple[str, str, str, Mapping[str, str | None], int, str | None]] = [
    ("no such route", "PUT", "/v2/queues/q!/nothing", FORM, 404, "404 Not Found"),
    ("signature", "PUT", "/v2/queues/q!/messages", FORM | {"URL-Signature": ""}, 404, "404 Not Found"),
    ("form", "PUT", "/v2/queues/q!/messages", FORM | {"Accept": "text/html"}, 400, "Invalid Content-Type"),
    ("accept", "PUT", "/v2/queues/q!/messages", {"Accept": "text/html", "Client-ID": None}, 406, None),
    ("client id", "PUT", "/v2/queues/q!/messages", {"Client-ID": None, "X-Project-ID": None}, 400, "Missing header value"),
    ("client id form", "PUT", "/v2/queues/q!/messages", {"Client-ID": "me", "X-Project-ID": None}, 400, "Wrong UUID value"),
    ("project", "PUT", "/v2/queues/q!/messages", {"X-Project-ID": None}, 400, "Project-Id Missing"),
    ("empty project", "PUT", "/v2/queues/q!/messages", {"X-Project-ID": ""}, 400, "Empty project header not allowed"),
    ("queue name", "PUT", "/v2/queues/q!/messages", {}, 400, "Invalid queue identification"),
    ("method", "PUT", "/v2/queues/q/messages?limit=x", {}, 405, "405 Method Not Allowed"),
    ("parameter", "GET", "/v2/queues/q/messages?limit=x", {}, 400, "Invalid parameter"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "title"),
    [fault[1:] for fault in FAULTS],
    ids=[fault[0] for fault in FAULTS],
)
async def test_the_first_fault_in_the_contract_s_order_is_the_answer(
    api: Api,
    method: str,
    path: str,
    headers: Mapping[str, str | None],
    status: int,
    title: str | None,
) -> None:
    reply = await api.call(method, path, body=b"{", headers=headers)

    assert (reply.status, reply.title) == (status, title)
    assert reply.headers["Vary"] == "Accept"


@pytest.mark.parametrize(
    "path",
    ["/v1", "/v1/queues", "/v3", "/v2/queues/q/", "/v2/queues/q/messages/", "/v2//queues"],
)
async def test_an_unknown_path_is_404_and_nothing_more(api: Api, path: str) -> None:
    reply = await api.get(path)

    assert reply.status == 404
    assert reply.json == {"title": "404 Not Found"}
    assert reply.headers["X-OpenStack-Request-Id"].startswith("req-")


async def test_a_trailing_slash_after_queues_is_an_empty_name(api: Api) -> None:
    reply = await api.put("/v2/queues/")

    assert (reply.status, reply.title) == (400, "Invalid queue identification")


@pytest.mark.parametrize(
    "client_id",
    [
        CLIENT_ID,
        CLIENT_ID.upper(),
        OTHER_CLIENT_ID,
        f"{{{OTHER_CLIENT_ID}}}",
        f"urn:uuid:{OTHER_CLIENT_ID}",
    ],
)
async def test_a_client_id_may_be_a_uuid_in_any_form(api: Api, client_id: str) -> None:
    reply = await api.get("/v2/queues", headers={"Client-ID": client_id})

    assert reply.status == 200


@pytest.mark.parametrize(
    "client_id", ["", "me", CLIENT_ID[1:], f"{CLIENT_ID}0", f"{CLIENT_ID}{'-' * 64}", "\u00e9" * 32]
)
async def test_other_client_ids_are_refused(api: Api, client_id: str) -> None:
    reply = await api.get("/v2/queues", headers={"Client-ID": client_id})

    assert (reply.status, reply.title) == (400, "Wrong UUID value")


async def test_one_client_id_in_two_forms_is_one_client(api: Api) -> None:
    dashed = "3381AF92-2b9e-11e3-b191-71861300734c"
    await api.post_bodies("q", "mine")

    reply = await api.get("/v2/queues/q/messages", headers={"Client-ID": dashed})

    assert reply.json["messages"] == []


@pytest.mark.parametrize(("length", "status"), [(9, 400), (10, 200), (36, 200), (37, 400)])
async def test_a_free_client_id_has_a_length(start_api: StartApi, length: int, status: int) -> None:
    api = await start_api(client_id_uuid_safe="off")

    reply = await api.get("/v2/queues", headers={"Client-ID": "x" * length})

    assert reply.status == status


async def test_posting_and_listing_work_with_a_free_client_id(start_api: StartApi) -> None:
    api = await start_api(client_id_uuid_safe="off")
    me = {"Client-ID": "not-a-uuid"}
    await api.post("/v2/queues/q/messages", {"messages": [{"body": 1}]}, headers=me)

    mine = await api.get("/v2/queues/q/messages", headers=me)
    echoed = await api.get("/v2/queues/q/messages?echo=true", headers=me)

    assert [len(reply.json["messages"]) for reply in (mine, echoed)] == [0, 1]


async def test_x_tenant_id_stands_in_for_x_project_id(api: Api) -> None:
    await api.put("/v2/queues/q")

    tenant = {"X-Project-ID": None, "X-Tenant-Id": PROJECT}
    reply = await api.get("/v2/queues", headers=tenant)

    assert [queue["name"] for queue in reply.json["queues"]] == ["q"]


@pytest.mark.parametrize(("length", "status"), [(256, 200), (257, 400)])
async def test_a_project_has_at_most_256_characters(api: Api, length: int, status: int) -> None:
    reply = await api.get("/v2/queues/q", headers={"X-Project-ID": "p" * length})

    assert reply.status == status


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("*/*", 200),
        ("application/*", 200),
        ("*", 200),
        ("", 200),
        (None, 200),
        ("application/json", 200),
        ("text/html, application/json;q=0.5", 200),
        ("text/html", 406),
        ("application/json;q=0, text/html", 406),
        ("application/json;q=0, */*", 406),
    ],
)
async def test_accept_must_admit_json(api: Api, accept: str | None, status: int) -> None:
    reply = await api.get("/v2/queues", headers={"Accept": accept})

    assert reply.status == status
    assert status == 200 or reply.body == b""


@pytest.mark.parametrize("content_type", ["text/plain", None, "application/json; charset=utf-8"])
async def test_the_content_type_of_a_post_does_not_matter(
    api: Api, content_type: str | None
) -> None:
    headers = {"Content-Type": content_type}

    reply = await api.post("/v2/queues/q/messages", {"messages": [{"body": 1}]}, headers=headers)

    assert reply.status == 201


async def test_a_form_without_a_body_passes(api: Api) -> None:
    assert (await api.put("/v2/queues/q", headers=FORM)).status == 201


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/", "GET, HEAD, OPTIONS"),
        ("/v2/queues/q", "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"),
        ("/v2/queues/q/claims", "OPTIONS, POST"),
    ],
)
async def test_options_needs_no_headers_and_405_names_the_same_methods(
    api: Api, path: str, allow: str
) -> None:
    options = await api.call("OPTIONS", path, headers={"Client-ID": None, "X-Project-ID": None})
    refused = await api.call("TRACE", path)

    assert (options.status, options.headers["Allow"]) == (200, allow)
    assert (refused.status, refused.headers["Allow"]) == (405, allow)


@pytest.mark.parametrize(
    "path", ["/", "/v2/queues", "/v2/queues/q", "/v2/queues/q/stats", "/v2/queues/q/messages"]
)
async def test_head_is_get_without_the_body(api: Api, path: str) -> None:
    get = await api.get(path)
    head = await api.call("HEAD", path)

    assert (head.status, head.body) == (get.status, b"")
    assert head.headers["Content-Length"] == get.headers["Content-Length"]


async def test_an_empty_extra_spec_header_changes_nothing(api: Api) -> None:
    reply = await api.get("/v2/queues", headers={"EXTRA-SPEC": "", "Client-ID": None})

    assert (reply.status, reply.title) == (400, "Missing header value")


async def test_every_answer_has_a_request_id_of_its_own(api: Api) -> None:
    replies = [
        await api.get(path) for path in ("/", "/v2/queues", "/v2/queues", "/nowhere", "/docs")
    ]

    ids = [reply.headers["X-OpenStack-Request-Id"] for reply in replies]
    assert len(set(ids)) == len(ids)
    uuid = r"req-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    assert all(re.fullmatch(uuid, request_id) for request_id in ids)


async def test_an_unforeseen_error_is_500_with_the_request_id_and_one_traceback(
    api: Api, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a secret of ours")

    monkeypatch.setattr(api.service.storage.queues, "get", fail)

    with caplog.at_level(logging.ERROR):
        reply = await api.get("/v2/queues/q")

    assert reply.status == 500
    assert reply.json == {
        "title": "Internal server error",
        "description": reply.headers["X-OpenStack-Request-Id"],
    }
    assert [record.exc_info is not None for record in caplog.records] == [True]
