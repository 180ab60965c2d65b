"""The home document of a version: its resources, as URI templates."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import msgspec
import orjson

from api.answers import Answer
from api.requests import Call
from api.resources import UNGUARDED, Operation, Reply, Resource
from api.zaqar import schemas
from zaqar_notify.models import JsonObject
from zaqar_notify.service import Service

NO_ENTRIES: Mapping[str, JsonObject] = {}
QUEUE = {"queue_name": "queue_name"}
QUEUES_PAGE = {"marker": "marker", "limit": "queue_limit", "detailed": "detailed"}
MESSAGES_PAGE = QUEUE | {
    "marker": "marker",
    "limit": "messages_limit",
    "echo": "echo",
    "include_claimed": "include_claimed",
}


def entry(template: str, variables: dict[str, str], *allow: str, posts: bool = False) -> JsonObject:
    hints: JsonObject = {"allow": list(allow), "formats": {"application/json": {}}}
    if posts:
        hints["accept-post"] = ["application/json"]
    entry: JsonObject = {"href-template": template, "hints": hints}
    if variables:
        entry["href-vars"] = {name: f"param/{value}" for name, value in variables.items()}
    return entry


def of_one_address(path: str, *allow: str) -> JsonObject:
    """An entry without variables, as Zaqar has it for the health."""
    return {"href": path, "hints": {"allow": list(allow), "formats": {"application/json": {}}}}


def home(prefix: str, wire: str, entries: Mapping[str, JsonObject]) -> JsonObject:
    """The home document; every link begins with `prefix`, and then with the version's `wire`."""
    found = {}
    for name, each in entries.items():
        link = "href" if "href" in each else "href-template"
        found[f"rel/{name}"] = each | {link: f"{prefix}{wire}{each[link]}"}
    return {"resources": found}


def resources(
    wire: str,
    entries: Mapping[str, JsonObject],
    of_operators: Mapping[str, JsonObject] = NO_ENTRIES,
) -> tuple[Resource, ...]:
    """The resources of a version with this prefix, and with these relations.

    Args:
        of_operators: The relations that are there with `ZAQAR_ADMIN_MODE`, too.
    """

    async def show(service: Service, call: Call) -> Answer:
        shown = {**entries, **of_operators} if service.settings.admin_mode else entries
        return Answer(
            HTTPStatus.OK,
            orjson.dumps(home(call.prefix, wire, shown)),
            ((b"Cache-Control", b"max-age=86400"),),
            content_type=b"application/json-home",
        )

    example = msgspec.convert(home("", wire, entries), schemas.Home)
    reply = Reply("The home document", example, content_type="application/json-home")
    operation = Operation(show, UNGUARDED, "List the resources of this version", {200: reply})
    return Resource(f"{wire}/", {"GET": operation}), Resource(wire, {"GET": operation})


_MESSAGE = QUEUE | {"message_id": "message_id"}
_CLAIM = QUEUE | {"claim_id": "claim_id"}
_MESSAGES, _CLAIMS = "/queues/{queue_name}/messages", "/queues/{queue_name}/claims"

ENTRIES: dict[str, JsonObject] = {
    "queues": entry("/queues{?marker,limit,detailed}", QUEUES_PAGE, "GET"),
    "queue": entry("/queues/{queue_name}", QUEUE, "PUT", "DELETE"),
    "queue_stats": entry("/queues/{queue_name}/stats", QUEUE, "GET"),
    "messages": entry(f"{_MESSAGES}{{?marker,limit,echo,include_claimed}}", MESSAGES_PAGE, "GET"),
    "post_messages": entry(_MESSAGES, QUEUE, "POST", posts=True),
    "messages_delete": entry(
        f"{_MESSAGES}{{?ids,pop}}", QUEUE | {"ids": "ids", "pop": "pop"}, "DELETE"
    ),
    "message_delete": entry(
        f"{_MESSAGES}/{{message_id}}{{?claim_id}}", _MESSAGE | {"claim_id": "claim_id"}, "DELETE"
    ),
    "claim": entry(f"{_CLAIMS}/{{claim_id}}", _CLAIM, "GET"),
    "post_claim": entry(
        f"{_CLAIMS}{{?limit}}", QUEUE | {"limit": "claim_limit"}, "POST", posts=True
    ),
    "patch_claim": entry(f"{_CLAIMS}/{{claim_id}}", _CLAIM, "PATCH", posts=True),
    "delete_claim": entry(f"{_CLAIMS}/{{claim_id}}", _CLAIM, "DELETE"),
    "ping": entry("/ping", {}, "GET"),
}
"""The relations that versions 1.1 and 2 have."""
