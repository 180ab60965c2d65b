"""Queues: operations that are the same in several versions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Literal

import orjson

from api.answers import NO_CONTENT, Answer, at, document
from api.requests import Call
from api.resources import Body, Handler, Operation, Parameter, Reply, Resource
from api.zaqar import schemas
from api.zaqar.bodies import read_metadata
from api.zaqar.examples import MESSAGE_ID
from api.zaqar.links import next_links, queue_href, queue_path
from api.zaqar.query import Query
from api.zaqar.shapes import age, instant, message_href
from zaqar_notify import queues
from zaqar_notify.auth.confinement import check_all_queues, check_named_queues
from zaqar_notify.errors import NotifyError
from zaqar_notify.metadata import (
    KNOWN_KEYS,
    KNOWN_KEYS_OF_TOPICS,
    warn_of_combinations,
)
from zaqar_notify.models import JsonObject, OldestNewest, Queue
from zaqar_notify.rules.unread import warn_of_keys, warn_of_policy
from zaqar_notify.service import Service


async def create(service: Service, call: Call) -> Answer:
    body = await call.body(service.settings.max_queue_metadata)
    metadata = read_metadata(body)
    check_named_queues(call.caller, metadata)
    created = await queues.create(service, call.ref, metadata)
    warn_of_unread(call, metadata)
    warn_of_combinations(call.ref, metadata, service.settings, warn=call.warn)
    return at(HTTPStatus.CREATED if created else HTTPStatus.NO_CONTENT, call.href)


async def delete(service: Service, call: Call) -> Answer:
    await queues.delete(service, call.ref)
    return NO_CONTENT


async def page(
    service: Service,
    call: Call,
    query: Query,
    *,
    metadata_of: Callable[[JsonObject], JsonObject],
    name_contains: str = "",
    metadata_equals: JsonObject | None = None,
    with_count: bool = False,
) -> JsonObject:
    """`{"queues": […], "links": […], "count"?}`.

    Args:
        metadata_of: From stored metadata to metadata as the version shows it.
    """
    check_all_queues(call.caller)
    detailed = query.boolean("detailed")
    found = await queues.list_queues(
        service,
        call.project,
        marker=query.text("marker"),
        limit=query.integer("limit"),
        name_contains=name_contains,
        metadata_equals=metadata_equals or {},
        with_count=with_count,
    )
    page = listed(
        call, query, "queues", found.queues, metadata_of=metadata_of if detailed else None
    )
    return page if found.count is None else page | {"count": found.count}


def listed(
    call: Call,
    query: Query,
    kind: Literal["queues", "topics"],
    found: Sequence[Queue],
    *,
    metadata_of: Callable[[JsonObject], JsonObject] | None,
) -> JsonObject:
    """`{"queues": […], "links": […]}`, or the same with `topics`; without `metadata_of` they have no metadata."""
    items: list[JsonObject] = []
    for each in found:
        ref = each.ref
        item = {"name": ref.public_name, "href": f"{call.prefix}{call.wire}{queue_path(ref)}"}
        items.append(
            item if metadata_of is None else item | {"metadata": metadata_of(each.metadata)}
        )
    marker = items[-1]["name"] if items else None
    return {kind: items, "links": orjson.Fragment(next_links(call.href, query.sent, marker))}


async def stats(service: Service, call: Call) -> Answer:
    found = await queues.stats(service, call.ref)
    messages: JsonObject = {"claimed": found.claimed, "free": found.free, "total": found.total}
    now = service.clock.now()

    def end(one: OldestNewest) -> JsonObject:
        return {
            "age": age(one.posted_at, now),
            "created": instant(service.clock.on_host(one.posted_at)),
            "href": message_href(queue_href(call), one.id),
        }

    if found.oldest is not None and found.newest is not None:
        messages |= {"oldest": end(found.oldest), "newest": end(found.newest)}
    return document({"messages": messages})


def warn_of_unread(call: Call, metadata: JsonObject) -> None:
    known = KNOWN_KEYS_OF_TOPICS if call.ref.is_topic else KNOWN_KEYS
    warn_of_keys(metadata, known, where="metadata:", warn=call.warn)
    warn_of_policy(metadata, warn=call.warn)


METADATA = schemas.Metadata(
    max_messages_post_size=262144,
    default_message_ttl=3600,
    default_message_delay=0,
    dead_letter_queue=None,
    dead_letter_queue_messages_ttl=None,
    max_claim_count=None,
    enable_encrypt_messages=False,
)

PAGE = (
    Parameter("marker", "Begin after this name.", str, "demo"),
    Parameter("limit", "Queues in the page, 1 to 20.", schemas.Limit, 10),
    Parameter("detailed", "Include the metadata.", bool, False),
)

DELETE = Operation(
    delete,
    "queues:delete",
    "Delete a queue with its messages and claims",
    {204: Reply("Deleted, or there was none; its subscriptions stay")},
)


def creating(wire: str) -> Operation:
    """The operation that creates a queue."""
    location = f"{wire}/queues/demo"
    return Operation(
        create,
        "queues:create",
        "Create a queue",
        {
            201: Reply("Created", location=location),
            204: Reply("It exists, and keeps its metadata", location=location),
        },
        description="Needed only for a queue with metadata of its own.",
        body=Body(schemas.Metadata(default_message_ttl=600), required=False),
    )


def stats_resource(
    wire: str, handler: Handler = stats, refuses: tuple[NotifyError, ...] = ()
) -> Resource:
    """The statistics of a queue."""
    end = schemas.End(
        age=40, created="2026-11-20T19:17:57Z", href=f"{wire}/queues/demo/messages/{MESSAGE_ID}"
    )
    counts = schemas.Counts(2, 11, 13, oldest=end, newest=end)
    replies = {
        200: Reply("`oldest` and `newest` are absent when there are none", schemas.Stats(counts))
    }
    counting = Operation(
        handler, "queues:stats", "Count a queue's messages", replies, refuses=refuses
    )
    return Resource(f"{wire}/queues/{{queue_name}}/stats", {"GET": counting})
