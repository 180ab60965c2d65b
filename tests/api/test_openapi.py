"""The document is valid OpenAPI, and complete for each route."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock
from urllib.parse import urljoin

import jsonschema
import orjson
import pytest
from starlette.routing import Route

from api import documentation
from api.app import create_app
from api.errors import RESPONSES
from api.routes.probes import DOCUMENTED
from api.routing import ResourceRoute
from api.v2.subscriptions import CHANGEABLE
from tests.api.conftest import Api, StartApi
from tests.api.documented import document_of, with_components
from tests.api.surfaces import RESOURCES, surfaces_with
from zaqar_notify.clock import SystemClock
from zaqar_notify.delivery.posts import PostedMessage
from zaqar_notify.metadata import KNOWN_KEYS
from zaqar_notify.settings import VERSIONS, Settings

NEEDS_MORE = re.compile(r"/v2/(pools/|flavors/|moves|confirm|unsubscribe|certificates)")
"""Their examples name pools that there are not here; tests of their own ask them."""
DOCUMENT = document_of(surfaces_with(Settings(versions=VERSIONS, admin_mode=True)))

# The part of the OpenAPI 3.1 specification that we use, strictly.
SCHEMA = {
    "type": "object",
    "required": ["openapi", "info", "paths", "components"],
    "additionalProperties": False,
    "properties": {
        "openapi": {"const": "3.1.0"},
        "info": {
            "type": "object",
            "required": ["title", "version"],
            "additionalProperties": {"type": "string"},
        },
        "components": {"type": "object"},
        "servers": {"const": [{"url": "."}]},
        "security": {"const": [{}, {"token": []}]},
        "paths": {
            "propertyNames": {"pattern": "^/"},
            "additionalProperties": {
                "propertyNames": {"enum": ["get", "head", "post", "put", "patch", "delete"]},
                "additionalProperties": {"$ref": "#/$defs/operation"},
            },
        },
    },
    "$defs": {
        "operation": {
            "type": "object",
            "required": ["operationId", "summary", "tags", "parameters", "responses"],
            "additionalProperties": False,
            "properties": {
                "operationId": {"type": "string", "pattern": "^[a-z0-9_]+$"},
                "summary": {"type": "string", "minLength": 5},
                "description": {"type": "string", "minLength": 5},
                "tags": {
                    "type": "array",
                    "items": {"type": "string", "minLength": 1},
                    "minItems": 1,
                },
                "parameters": {"type": "array", "items": {"$ref": "#/$defs/parameter"}},
                "requestBody": {
                    "type": "object",
                    "required": ["content", "required"],
                    "properties": {"content": {"$ref": "#/$defs/content"}},
                },
                "responses": {
                    "propertyNames": {"pattern": "^[2345][0-9]{2}$"},
                    "additionalProperties": {
                        "type": "object",
                        "required": ["description"],
                        "properties": {"content": {"$ref": "#/$defs/content"}},
                    },
                },
            },
        },
        "parameter": {
            "type": "object",
            "required": ["name", "in", "required", "description", "schema"],
            "properties": {"in": {"enum": ["path", "query", "header"]}},
        },
        "content": {
            "minProperties": 1,
            "propertyNames": {"pattern": "^(application|text)/"},
            "additionalProperties": {"type": "object", "required": ["schema"]},
        },
    },
}


NEEDS_IDS = re.compile(r"/v[\d.]+/(queues|topics)/\{(queue|topic)_name\}/messages")
"""The path whose DELETE needs `ids` or `pop`: a page can't begin with either."""


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


async def test_the_document_has_the_form_that_the_specification_asks_for(api: Api) -> None:
    jsonschema.validate((await api.get("/openapi.json")).json, SCHEMA)


def test_every_method_is_documented_and_nothing_else() -> None:
    documented = {(path, method.upper()) for path, method, _ in operations()}
    served = {
        (resource.path, method)
        for resource in RESOURCES
        for method in resource.by_method
        if method != "HEAD" or "HEAD" in resource.operations
    }

    assert documented == served | {(path, "GET") for path in DOCUMENTED}


async def test_every_route_is_documented(api: Api) -> None:
    app = create_app(api.service)
    served = {
        route.path
        for each in app.routes
        for route in getattr(each, "routes", [each])
        if isinstance(route, Route | ResourceRoute)
    }

    assert served - set(DOCUMENT["paths"]) == {"/docs", "/openapi.json"}


def test_operation_ids_are_unique() -> None:
    ids = [operation["operationId"] for _, _, operation in operations()]

    assert len(set(ids)) == len(ids)


def test_path_parameters_are_those_of_the_path() -> None:
    for path, _, operation in operations():
        named = {item["name"] for item in operation["parameters"] if item["in"] == "path"}

        assert named == {word[1:-1] for word in path.split("/") if word.startswith("{")}


def test_every_example_fits_its_schema() -> None:
    for _, _, operation in operations():
        contents = [
            *operation.get("requestBody", {}).get("content", {}).values(),
            *(
                content
                for response in operation["responses"].values()
                for content in response.get("content", {}).values()
            ),
        ]
        for content in contents:
            jsonschema.validate(content["example"], with_components(content["schema"], DOCUMENT))


def test_every_example_of_an_error_is_one_of_its_status() -> None:
    titles: dict[str, set[str]] = {
        "405": {"405 Method Not Allowed"},
        "500": {"Internal server error"},
    }
    for status, title in RESPONSES.values():
        titles.setdefault(str(int(status)), set()).add(title)

    for path, method, operation in operations():
        for status, reply in operation["responses"].items():
            content = reply.get("content", {}).get("application/json")
            if status >= "400" and content:
                assert content["example"]["title"] in titles[status], (path, method, status)


def test_a_page_that_tries_out_requests_begins_with_what_is_needed_alone() -> None:
    for path, method, operation in operations():
        for parameter in operation["parameters"]:
            is_filled_in = "example" in parameter or "example" in parameter["schema"]
            is_id = parameter["name"].endswith("_id")

            assert is_filled_in == (parameter["required"] and not is_id), (path, method, parameter)


async def test_what_the_page_shows_works_as_it_stands(start_api: StartApi) -> None:
    """As a reader who presses "Execute" wherever no id is asked for."""
    api = await start_api(
        signed_url_secrets="secret", admin_mode=True, versions=VERSIONS, clock=SystemClock()
    )
    tried = [
        (method.upper(), path, operation)
        for path, method, operation in operations()
        if "_id}" not in path and not (method == "delete" and NEEDS_IDS.fullmatch(path))
        if not NEEDS_MORE.match(path)
    ]
    # A reader that begins with the last operation finds nothing to delete, which works, too.
    for method, path, operation in sorted(tried, key=lambda one: one[0] == "DELETE"):
        body = operation.get("requestBody", {"content": {None: {"example": None}}})["content"]
        [(content_type, content)] = body.items()

        reply = await api.call(
            method,
            path.format(queue_name="demo", topic_name="demo"),
            content["example"],
            headers={"Content-Type": content_type},
        )

        assert str(reply.status) in operation["responses"], (method, path, reply.body)
        assert reply.status < 400, (method, path, reply.body)


@pytest.mark.parametrize(
    ("path", "method", "body"),
    [
        (path, method, next(iter(operation["requestBody"]["content"].items())))
        for path, method, operation in operations()
        if "requestBody" in operation and not NEEDS_MORE.match(path)
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_the_examples_of_bodies_are_accepted(
    start_api: StartApi, path: str, method: str, body: tuple[str, dict[str, Any]]
) -> None:
    content_type, content = body
    api = await start_api(
        admin_mode=True,
        versions=VERSIONS,
        signed_url_secrets="secret",
        webhook_secret="secret",
        clock=SystemClock(),
    )
    await api.put("/v2/queues/demo")
    await api.put("/v2/topics/demo")
    message = await api.post_bodies("demo", 1)
    claim = await api.post("/v2/queues/demo/claims", {"ttl": 100})
    values = {
        "queue_name": "demo",
        "topic_name": "demo",
        "message_id": message[0],
        "claim_id": claim.headers["Location"].rpartition("/")[2],
        "subscription_id": await api.subscribe(
            "demo", "http://example.org/", kind="topics" if "/topics/" in path else "queues"
        ),
        "project_id": "demo",
    }

    reply = await api.call(
        method.upper(),
        path.format(**values),
        content["example"],
        headers={"Content-Type": content_type},
    )

    assert reply.status < 300
    assert "Warning" not in reply.headers, "A documented field that nothing reads"


def test_the_documented_fields_are_those_that_are_read() -> None:
    properties = {
        name: set(schema["properties"])
        for name, schema in DOCUMENT["components"]["schemas"].items()
        if "properties" in schema
    }

    assert properties["NewMessage"] == set(PostedMessage.__struct_fields__)
    assert properties["NewSubscription"] == properties["SubscriptionChange"] == set(CHANGEABLE)
    assert properties["Metadata"] == set(KNOWN_KEYS)


async def test_the_document_and_its_page_are_served(start_api: StartApi) -> None:
    api = await start_api(versions=VERSIONS, admin_mode=True)
    document = await api.get("/openapi.json", headers={"Client-ID": None, "X-Project-ID": None})
    page = await api.get("/docs", headers={"Client-ID": None, "X-Project-ID": None})

    assert document.json["paths"] == DOCUMENT["paths"]
    assert page.status == 200


@pytest.mark.parametrize(
    ("public", "prefix"), [("", ""), ("/messaging", "/messaging"), ("/mq", "")]
)
async def test_the_page_loads_nothing_from_elsewhere(
    start_api: StartApi, public: str, prefix: str
) -> None:
    """Nor from outside the public URL's path, which a proxy takes away, or leaves."""
    api = await start_api(public_url=f"https://mq.example{public}")

    page = await api.get(f"{prefix}/docs", headers={"Client-ID": None, "X-Project-ID": None})

    loaded = re.findall(r"""(?:href|src)="([^"]*)"|url: '([^']*)'""", page.body.decode())
    addresses = [in_tag or in_script for in_tag, in_script in loaded]

    assert len(addresses) == 4
    assert b"//" not in re.sub(rb"<!--.*?-->", b"", page.body), "No address of elsewhere"
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]
    for address in addresses:
        assert address[0] != "/", "Relative to the page"
        reply = await api.get(urljoin(f"{prefix}/docs", address))
        assert (reply.status, bool(reply.body)) == (200, True), address


async def test_paths_beside_the_document_are_refused_in_the_contract_s_form(api: Api) -> None:
    refused = await api.post("/docs")

    assert (refused.status, refused.json) == (405, {"title": "405 Method Not Allowed"})
    assert "GET" in refused.headers["Allow"]
    assert (await api.get("/redoc")).json == {"title": "404 Not Found"}


async def test_the_document_is_encoded_once_for_all_who_ask(
    start_api: StartApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = Mock(wraps=orjson.dumps)
    monkeypatch.setattr(documentation, "orjson", Mock(dumps=encoded))
    api = await start_api()

    first, second = [await api.get("/openapi.json") for _ in range(2)]

    assert first.json == second.json
    assert encoded.call_count == 1
