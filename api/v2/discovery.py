"""The home document: the resources of this version."""

from __future__ import annotations

from http import HTTPStatus

import msgspec
import orjson

from api.answers import Answer
from api.requests import Call
from api.resources import UNGUARDED, Operation, Reply, Resource
from api.v2 import schemas
from zaqar_notify.models import JsonObject
from zaqar_notify.service import Service


def _entry(
    template: str, variables: dict[str, str], *allow: str, posts: bool = False
) -> JsonObject:
    hints: JsonObject = {"allow": list(allow), "formats": {"application/json": {}}}
    if posts:
        hints["accept-post"] = ["application/json"]
    entry: JsonObject = {"href-template": template, "hints": hints}
    if variables:
        entry["href-vars"] = {name: f"param/{value}" for name, value in variables.items()}
    return entry


def home(prefix: str) -> JsonObject:
    """The home document; every link begins with `prefix`."""
    queue = {"queue_name": "queue_name"}
    message = queue | {"message_id": "message_id"}
    claim = queue | {"claim_id": "claim_id"}
    subscription = queue | {"subscriptions_id": "subscriptions_id"}
    post_subscriptions = queue | {"limit": "subscription_limit"}
    subscription_page = queue | {"marker": "marker", "limit": "subscription_limit"}
    queue_page = {"marker": "marker", "limit": "queue_limit", "detailed": "detailed"}
    message_page = queue | {
        "marker": "marker",
        "limit": "messages_limit",
        "echo": "echo",
        "include_claimed": "include_claimed",
    }
    messages, claims = "/queues/{queue_name}/messages", "/queues/{queue_name}/claims"
    subscriptions = "/queues/{queue_name}/subscriptions"
    one_subscription = f"{subscriptions}/{{subscriptions_id}}"
    resources = {
        "queues": _entry("/queues{?marker,limit,detailed}", queue_page, "GET"),
        "queue": _entry("/queues/{queue_name}", queue, "GET", "PUT", "DELETE", "PATCH"),
        "queue_stats": _entry("/queues/{queue_name}/stats", queue, "GET"),
        "queue_share": _entry("/queues/{queue_name}/share", queue, "POST", posts=True),
        "queue_purge": _entry("/queues/{queue_name}/purge", queue, "POST", posts=True),
        "messages": _entry(
            f"{messages}{{?marker,limit,echo,include_claimed}}", message_page, "GET"
        ),
        "post_messages": _entry(messages, queue, "POST", posts=True),
        "messages_delete": _entry(
            f"{messages}{{?ids,pop}}", queue | {"ids": "ids", "pop": "pop"}, "DELETE"
        ),
        "message_delete": _entry(
            f"{messages}/{{message_id}}{{?claim_id}}", message | {"claim_id": "claim_id"}, "DELETE"
        ),
        "message_get": _entry(f"{messages}/{{message_id}}", message, "GET"),
        "claim": _entry(f"{claims}/{{claim_id}}", claim, "GET"),
        "post_claim": _entry(
            f"{claims}{{?limit}}", queue | {"limit": "claim_limit"}, "POST", posts=True
        ),
        "patch_claim": _entry(f"{claims}/{{claim_id}}", claim, "PATCH", posts=True),
        "delete_claim": _entry(f"{claims}/{{claim_id}}", claim, "DELETE"),
        "subscriptions_get": _entry(f"{subscriptions}{{?marker,limit}}", subscription_page, "GET"),
        "subscriptions_post": _entry(subscriptions, post_subscriptions, "POST", posts=True),
        "subscription": _entry(one_subscription, subscription, "GET", "DELETE"),
        "subscription_patch": _entry(one_subscription, subscription, "PATCH", posts=True),
        "ping": _entry("/ping", {}, "GET"),
    }
    for entry in resources.values():
        entry["href-template"] = f"{prefix}/v2{entry['href-template']}"
    return {"resources": {f"rel/{name}": entry for name, entry in resources.items()}}


async def show_home(service: Service, call: Call) -> Answer:
    return Answer(
        HTTPStatus.OK,
        orjson.dumps(home(call.prefix)),
        ((b"Cache-Control", b"max-age=86400"),),
        content_type=b"application/json-home",
    )


_SHOW_HOME = Operation(
    show_home,
    UNGUARDED,
    "List the resources of this version",
    {
        200: Reply(
            "The home document",
            msgspec.convert(home(""), schemas.Home),
            content_type="application/json-home",
        )
    },
)

RESOURCES = (
    Resource("/v2/", {"GET": _SHOW_HOME}),
    Resource("/v2", {"GET": _SHOW_HOME}),
)
