"""The OpenAPI document, built from what is written beside the handlers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
import orjson

from api.answers import Answer
from api.errors import NOT_ACCEPTABLE, RESPONSES, example_of, failure, method_not_allowed
from api.resources import Body, Operation, Parameter, Reply, Resource
from api.v2.examples import CLAIM_ID, MESSAGE_ID, SUBSCRIPTION_ID
from zaqar_notify.errors import (
    QUEUE_NAME_RULE,
    OwnDelivery,
    ParameterInvalid,
    RuleNotPermitted,
    SignatureRefused,
    StorageUnavailable,
)
from zaqar_notify.models import Document

REQUEST_ID = "req-5f9c1f64-1f0b-4b5c-9d3e-2a7c1e0b8f42"

OPEN_ERRORS = (
    method_not_allowed(b"GET, HEAD, OPTIONS"),
    failure(REQUEST_ID.encode()),
    example_of(StorageUnavailable()),
    example_of(OwnDelivery()),
)
COMMON_ERRORS = (
    *OPEN_ERRORS,
    example_of(RuleNotPermitted("messages:create")),
    example_of(ParameterInvalid("limit must be from 1 to 20, not 21")),
    # To a pre-signed request.
    example_of(SignatureRefused()),
    NOT_ACCEPTABLE,
)
"""Of every resource that asks for identity."""


class Error(msgspec.Struct):
    """Why a request was refused."""

    title: str
    description: str | msgspec.UnsetType = msgspec.UNSET


IDENTITY = (
    Parameter(
        "Client-ID",
        "A UUID that the client chose for itself.",
        str,
        "3381af92-2b9e-11e3-b191-71861300734c",
    ),
    Parameter("X-Project-ID", "The project (tenant).", str, "demo"),
)

PATH_PARAMETERS = {
    "queue_name": Parameter("queue_name", QUEUE_NAME_RULE, str, "demo"),
    "message_id": Parameter("message_id", "The message's id.", str, MESSAGE_ID),
    "claim_id": Parameter("claim_id", "The claim's id.", str, CLAIM_ID),
    "subscription_id": Parameter("subscription_id", "The subscription's id.", str, SUBSCRIPTION_ID),
}

FILLED_IN = {"queue_name", *(parameter.name for parameter in IDENTITY)}
"""What a page that tries a request out begins with. Ids are another's; all else may be left out."""

_REFERENCE = "#/components/schemas/{name}"

_PARAMETER = re.compile(r"\{(\w+)\}")


def describe(resources: Iterable[Resource], kinds: Sequence[Any] = ()) -> Document:
    """What an OpenAPI 3.1 document says of the resources: its `paths` and `components`.

    Args:
        kinds: Types of bodies that are described elsewhere, by `schema_of`.
    """
    resources = list(resources)
    all_kinds = [*_kinds(resources), *kinds]
    _, schemas = msgspec.json.schema_components(all_kinds, ref_template=_REFERENCE)
    return {
        "paths": {resource.path: _path(resource) for resource in resources},
        "components": {"schemas": schemas},
    }


def schema_of(kind: Any) -> Document:
    """The JSON schema of a type; of a structure, a reference to its component."""
    (schema,), _ = msgspec.json.schema_components((kind,), ref_template=_REFERENCE)
    return schema


def _kinds(resources: Iterable[Resource]) -> list[Any]:
    """The types of all bodies."""
    kinds = [Error]
    for resource in resources:
        for operation in resource.operations.values():
            kinds += [reply.kind for reply in operation.replies.values()]
            if operation.body is not None:
                kinds.append(operation.body.kind)
    return kinds


def _path(resource: Resource) -> Document:
    return {
        method.lower(): _operation(resource, method.lower(), operation)
        for method, operation in resource.operations.items()
    }


def _operation(resource: Resource, method: str, operation: Operation) -> Document:
    described: Document = {
        "operationId": f"{method}{_PARAMETER.sub('', resource.path).replace('/', '_')}"
        + "".join(f"_by_{name}" for name in _names(resource)[1:]),
        "summary": operation.summary,
        "tags": [_tag(resource)],
        "parameters": _parameters(resource, operation),
        "responses": _responses(resource, operation),
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


def _parameters(resource: Resource, operation: Operation) -> list[Document]:
    identity = () if resource.is_open else IDENTITY
    return [
        *(_parameter(PATH_PARAMETERS[name], "path", required=True) for name in _names(resource)),
        *(_parameter(parameter, "header", required=True) for parameter in identity),
        *(_parameter(parameter, "header", required=False) for parameter in operation.headers),
        *(_parameter(parameter, "query", required=False) for parameter in operation.query),
    ]


def _parameter(parameter: Parameter, place: str, *, required: bool) -> Document:
    schema = schema_of(parameter.kind)
    described = {
        "name": parameter.name,
        "in": place,
        "required": required,
        "description": parameter.description,
        "schema": schema,
    }
    if parameter.name in FILLED_IN:
        return described | {"example": parameter.example}
    return described | {"schema": schema | {"examples": [parameter.example]}}


def _responses(resource: Resource, operation: Operation) -> Document:
    common = OPEN_ERRORS if resource.is_open else COMMON_ERRORS
    errors = {answer.status: answer for answer in (*common, *map(example_of, operation.refuses))}
    responses = {str(int(status)): _error(errors[status]) for status in sorted(errors)}
    return {str(status): _reply(reply) for status, reply in operation.replies.items()} | {
        status: error for status, error in responses.items() if int(status) not in operation.replies
    }


def _reply(reply: Reply) -> Document:
    described: Document = {
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
    return described


def _error(answer: Answer) -> Document:
    if answer.status == HTTPStatus.NOT_ACCEPTABLE:
        return {"description": "The client takes no JSON"}
    titles = {title: None for status, title in RESPONSES.values() if status == answer.status}
    return {
        "description": "; ".join(titles) or HTTPStatus(answer.status).phrase,
        "content": {
            "application/json": {
                "schema": schema_of(Error),
                "example": orjson.loads(answer.whole),
            }
        },
    }


def _request_body(body: Body) -> Document:
    return {
        "required": body.required,
        "content": {
            body.content_type: {
                "schema": schema_of(body.kind),
                "example": msgspec.to_builtins(body.example),
            }
        },
    }
