"""The documentation is valid, and says of each route what there is; no more, no less."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from api.openapi import describe
from api.routes import RESOURCES
from tests.api.conftest import Api, StartApi
from zaqar_notify.clock import SystemClock

DOCUMENT = describe(RESOURCES, title="t", version="1")

# What we use of the OpenAPI 3.1 specification, strictly.
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
                "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1},
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
            "required": ["name", "in", "required", "description", "schema", "example"],
            "properties": {"in": {"enum": ["path", "query", "header"]}},
        },
        "content": {
            "minProperties": 1,
            "propertyNames": {"pattern": "^application/"},
            "additionalProperties": {"type": "object", "required": ["schema"]},
        },
    },
}


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_the_document_has_the_form_that_the_specification_asks_for() -> None:
    jsonschema.validate(DOCUMENT, SCHEMA)


def test_every_route_and_method_is_documented_and_nothing_else() -> None:
    documented = {(path, method.upper()) for path, method, _ in operations()}
    served = {
        (resource.path, method)
        for resource in RESOURCES
        for method in resource.handlers
        if method != "HEAD" or "HEAD" in resource.operations
    }

    assert documented == served


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
                if "$ref" not in content["schema"]
            ),
            *operation["parameters"],
        ]
        for content in contents:
            jsonschema.validate(content["example"], content["schema"])


@pytest.mark.parametrize(
    ("path", "method", "body"),
    [
        (path, method, next(iter(operation["requestBody"]["content"].items())))
        for path, method, operation in operations()
        if "requestBody" in operation
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_the_examples_of_bodies_are_accepted(
    start_api: StartApi, path: str, method: str, body: tuple[str, dict[str, Any]]
) -> None:
    content_type, content = body
    api = await start_api(signed_url_secrets="secret", clock=SystemClock())
    await api.put("/v2/queues/demo")
    message = await api.post_bodies("demo", 1)
    claim = await api.post("/v2/queues/demo/claims", {"ttl": 100})
    values = {
        "queue_name": "demo",
        "message_id": message[0],
        "claim_id": claim.headers["Location"].rpartition("/")[2],
        "subscription_id": await api.subscribe("demo", "http://example.org/"),
    }

    reply = await api.call(
        method.upper(),
        path.format(**values),
        content["example"],
        headers={"Content-Type": content_type},
    )

    documented = {int(status) for status in DOCUMENT["paths"][path][method]["responses"]}
    assert reply.status in documented
    assert reply.status < 300


async def test_the_document_and_its_page_are_served(api: Api) -> None:
    document = await api.get("/openapi.json", headers={"Client-ID": None, "X-Project-ID": None})
    page = await api.get("/docs", headers={"Client-ID": None, "X-Project-ID": None})

    assert document.json["paths"] == DOCUMENT["paths"]
    assert page.status == 200
    assert b"/openapi.json" in page.body


async def test_what_is_beside_the_document_is_refused_in_the_contract_s_form(api: Api) -> None:
    refused = await api.post("/docs")

    assert (refused.status, refused.json) == (405, {"title": "405 Method Not Allowed"})
    assert "GET" in refused.headers["Allow"]
    assert (await api.get("/redoc")).json == {"title": "404 Not Found"}
