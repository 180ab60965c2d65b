"""The OpenAPI document, built from the documentation beside the handlers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import msgspec
import orjson
from starlette.types import Message

from api.answers import Answer
from api.refusals import MethodNotAllowed, Unauthorized
from api.requests import Call
from api.resources import Body, Operation, Parameter, Reply, Resource
from api.surfaces import Documented, Surface
from zaqar_notify.errors import (
    OwnDelivery,
    RateExceeded,
    RuleNotPermitted,
    SignatureRefused,
    StorageUnavailable,
)
from zaqar_notify.models import JsonObject

REQUEST_ID = "req-5f9c1f64-1f0b-4b5c-9d3e-2a7c1e0b8f42"

OPEN_ERRORS = (
    MethodNotAllowed(b"GET, HEAD, OPTIONS"),
    Exception("a defect"),
    StorageUnavailable(),
    OwnDelivery(),
)
COMMON_ERRORS = (
    # First: of two examples for one status, the later one is shown.
    RateExceeded("requests_per_second", 2000, 1),
    *OPEN_ERRORS,
    RuleNotPermitted("messages:create", ["reader"]),
    Unauthorized("The request has no token", ()),
    # The answer to a pre-signed request.
    SignatureRefused(),
)
"""Errors of every resource that requires identity."""

_REFERENCE = "#/components/schemas/{name}"

_UNDERSCORES = str.maketrans("/.", "__")
_PARAMETER = re.compile(r"\{(\w+)\}")


def describe(surfaces: Sequence[Surface], kinds: Sequence[Any] = ()) -> JsonObject:
    """The `paths` and `components` of an OpenAPI 3.1 document for the surfaces' resources.

    Args:
        kinds: More types of bodies, which other modules describe by `schema_of`.
    """
    all_kinds = [*(kind for surface in surfaces for kind in _kinds(surface)), *kinds]
    _, schemas = msgspec.json.schema_components(all_kinds, ref_template=_REFERENCE)
    paths = {
        resource.path: _path(surface, resource)
        for surface in surfaces
        for resource in surface.resources
    }
    return {"paths": paths, "components": {"schemas": schemas}}


def schema_of(kind: Any) -> JsonObject:
    """The JSON schema of a type; for a structure, a reference to its component."""
    (schema,), _ = msgspec.json.schema_components((kind,), ref_template=_REFERENCE)
    return schema


def _kinds(surface: Surface) -> list[Any]:
    """The types of all bodies."""
    kinds = [surface.documented.error]
    for resource in surface.resources:
        for operation in resource.operations.values():
            kinds += [reply.kind for reply in operation.replies.values()]
            if operation.body is not None:
                kinds.append(operation.body.kind)
    return kinds


def _path(surface: Surface, resource: Resource) -> JsonObject:
    return {
        method.lower(): _operation(surface, resource, method.lower(), operation)
        for method, operation in resource.operations.items()
    }


def _operation(
    surface: Surface, resource: Resource, method: str, operation: Operation
) -> JsonObject:
    described: JsonObject = {
        "operationId": f"{method}{_PARAMETER.sub('', resource.path).translate(_UNDERSCORES)}"
        + "".join(f"_by_{name}" for name in _names(resource)[1:]),
        "summary": operation.summary,
        "tags": [surface.documented.group + _tag(resource)],
        "parameters": _parameters(surface.documented, resource, operation),
        "responses": _responses(surface, resource, operation),
    }
    if operation.description:
        described["description"] = operation.description
    if operation.body is not None:
        described["requestBody"] = _request_body(operation.body)
    return described


def _names(resource: Resource) -> list[str]:
    return _PARAMETER.findall(resource.path)


def _tag(resource: Resource) -> str:
    words = [word for word in resource.path.split("/")[2:] if word and word[0] != "{"]
    return words[1] if len(words) > 1 else (words or ["discovery"])[0]


def _parameters(surface: Documented, resource: Resource, operation: Operation) -> list[JsonObject]:
    """The parameters. A page for trying requests fills in the examples of required ones."""
    headers = () if resource.is_open else surface.headers
    names = [_parameter(surface.names[name], "path", is_needed=True) for name in _names(resource)]
    for name in names:
        if name["name"].endswith("_id"):  # The page must not fill it in.
            name["schema"]["examples"] = [name.pop("example")]
    return [
        *names,
        *(_parameter(each, "header", is_needed=surface.needs_headers) for each in headers),
        *(_parameter(parameter, "header", is_needed=False) for parameter in operation.headers),
        *(_parameter(parameter, "query", is_needed=False) for parameter in operation.query),
    ]


def _parameter(parameter: Parameter, place: str, *, is_needed: bool) -> JsonObject:
    schema = schema_of(parameter.kind)
    described = {
        "name": parameter.name,
        "in": place,
        "required": is_needed,
        "description": parameter.description,
        "schema": schema,
    }
    if is_needed:
        return described | {"example": parameter.example}
    return described | {"schema": schema | {"examples": [parameter.example]}}


def _responses(surface: Surface, resource: Resource, operation: Operation) -> JsonObject:
    common = OPEN_ERRORS if resource.is_open else (*COMMON_ERRORS, *surface.documented.refuses)
    answers = (surface.errors(error, _example_call()) for error in (*common, *operation.refuses))
    errors = {int(answer.status): answer for answer in answers}
    described = {
        str(status): _error(surface.documented, errors[status]) for status in sorted(errors)
    }
    own = {str(int(status)): _reply(reply) for status, reply in operation.replies.items()}
    # A reply of its own without a body stands beside the errors of all resources, which have one.
    return {
        **{status: described.get(status, {}) | reply for status, reply in own.items()},
        **{status: error for status, error in described.items() if status not in own},
    }


def _example_call() -> Call:
    """The request that examples of errors answer."""
    scope = {
        "method": "GET",
        "path": "/",
        "query_string": b"",
        "headers": [(b"host", b"example.org")],
        "http_version": "1.1",
    }

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    return Call(scope, receive, REQUEST_ID.encode(), "", "", {})


def _reply(reply: Reply) -> JsonObject:
    described: JsonObject = {
        "description": reply.description,
        "headers": {"X-OpenStack-Request-Id": {"schema": {"type": "string"}}},
    }
    if reply.location is not None:
        described["headers"]["Location"] = {
            "schema": {"type": "string"},
            "example": reply.location,
        }
    if reply.example is not None:
        described["content"] = {
            reply.content_type: {
                "schema": schema_of(reply.kind),
                "example": msgspec.to_builtins(reply.example),
            }
        }
    if reply.events is not None:
        described["content"]["text/event-stream"] = {
            "schema": {"type": "string"},
            "example": reply.events,
        }
    return described


def _error(surface: Documented, answer: Answer) -> JsonObject:
    status = HTTPStatus(answer.status)
    described: JsonObject = {"description": surface.meanings.get(status) or status.phrase}
    if answer.whole:
        content_type = answer.content_type.decode()
        is_json = content_type == "application/json"
        example = orjson.loads(answer.whole) if is_json else answer.whole.decode()
        schema = schema_of(surface.error)
        described["content"] = {content_type: {"schema": schema, "example": example}}
    return described


def _request_body(body: Body) -> JsonObject:
    return {
        "required": body.required,
        "content": {
            body.content_type: {
                "schema": schema_of(body.kind),
                "example": msgspec.to_builtins(body.example),
            }
        },
    }
