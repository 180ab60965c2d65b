"""Queues of version 1: they have to be created, and their metadata is a resource of its own."""

from __future__ import annotations

from http import HTTPStatus

from api.answers import NO_CONTENT, Answer, at, document
from api.requests import Call
from api.resources import Body, Operation, Reply, Resource
from api.v1.schemas import QUEUE, OwnMetadata
from api.v1.shapes import located
from api.zaqar import queues as common
from api.zaqar.bodies import read_metadata
from api.zaqar.query import Query
from api.zaqar.schemas import Link, Metadata, StoredQueue, StoredQueuePage
from zaqar_notify import queues
from zaqar_notify.errors import BodyInvalid, QueueDoesNotExist, ValidationFailed
from zaqar_notify.rules.unread import RESERVED
from zaqar_notify.service import Service


async def create(service: Service, call: Call) -> Answer:
    """Create the queue; a body is not read."""
    created = await queues.create(service, call.ref, {})
    return at(HTTPStatus.CREATED if created else HTTPStatus.NO_CONTENT, call.href)


async def exists(service: Service, call: Call) -> Answer:
    """Answer 204 or 404, both without a body."""
    found = await queues.metadata(service, call.ref)
    status = HTTPStatus.NOT_FOUND if found is None else HTTPStatus.NO_CONTENT
    return located(Answer(status), call)


async def list_queues(service: Service, call: Call) -> Answer:
    query = Query(call.query_string)
    page = await common.page(service, call, query, metadata_of=lambda stored: stored)
    return located(document(page), call) if page["queues"] else NO_CONTENT


async def show_metadata(service: Service, call: Call) -> Answer:
    found = await queues.metadata(service, call.ref)
    if found is None:
        raise QueueDoesNotExist(call.ref.name)
    return located(document(found), call)


async def replace_metadata(service: Service, call: Call) -> Answer:
    body = await call.body(service.settings.max_queue_metadata)
    if not body:
        raise BodyInvalid("A JSON body is required: the queue's metadata, an object")
    metadata = read_metadata(body)
    for key in metadata:
        if key.startswith(RESERVED):
            raise ValidationFailed(
                f"Version 1 can't set the reserved key {key[:80]!r}; keys of your own do not begin with {RESERVED}"
            )
    await queues.replace_metadata(service, call.ref, metadata)
    return at(HTTPStatus.NO_CONTENT, call.href)


async def stats(service: Service, call: Call) -> Answer:
    await queues.check_exists(service, call.ref)
    return located(await common.stats(service, call), call)


RESOURCES = (
    Resource(
        "/v1/queues",
        {
            "GET": Operation(
                list_queues,
                "queues:get_all",
                "List queues",
                {
                    200: Reply(
                        "A page, by name",
                        StoredQueuePage(
                            [StoredQueue("demo", QUEUE, Metadata(default_message_ttl=600))],
                            [Link("next", "/v1/queues?detailed=true&marker=demo")],
                        ),
                    ),
                    204: Reply("There is none after the marker"),
                },
                query=common.PAGE,
            )
        },
    ),
    Resource(
        "/v1/queues/{queue_name}",
        {
            "PUT": Operation(
                create,
                "queues:create",
                "Create a queue",
                {
                    201: Reply("Created", location=QUEUE),
                    204: Reply("It exists", location=QUEUE),
                },
                description="Needed before the first message. A body is not read.",
            ),
            "GET": Operation(
                exists,
                "queues:get",
                "Ask whether a queue exists",
                {204: Reply("It does"), 404: Reply("It does not")},
            ),
            "DELETE": common.DELETE,
        },
    ),
    Resource(
        "/v1/queues/{queue_name}/metadata",
        {
            "GET": Operation(
                show_metadata,
                "queues:get",
                "Show a queue's metadata",
                {200: Reply("The metadata as it is stored", Metadata(default_message_ttl=600))},
                refuses=(QueueDoesNotExist("demo"),),
            ),
            "PUT": Operation(
                replace_metadata,
                "queues:update",
                "Replace a queue's metadata",
                {204: Reply("Replaced; reserved keys stay", location=f"{QUEUE}/metadata")},
                body=Body(OwnMetadata()),
                refuses=(QueueDoesNotExist("demo"),),
            ),
        },
    ),
    common.stats_resource("/v1", stats, refuses=(QueueDoesNotExist("demo"),)),
)
