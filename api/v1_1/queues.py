"""Queues of version 1.1: metadata as it is stored, without defaults, which nothing changes after the creation."""

from __future__ import annotations

from api.answers import Answer, document
from api.requests import Call
from api.resources import Operation, Reply, Resource
from api.zaqar import queues as common
from api.zaqar.query import Query
from api.zaqar.schemas import Link, Metadata, StoredQueue, StoredQueuePage
from zaqar_notify import queues
from zaqar_notify.service import Service


async def show(service: Service, call: Call) -> Answer:
    return document(await queues.metadata(service, call.ref) or {})


async def list_queues(service: Service, call: Call) -> Answer:
    query = Query(call.query_string)
    return document(await common.page(service, call, query, metadata_of=lambda stored: stored))


STORED = Metadata(default_message_ttl=600)

RESOURCES = (
    Resource(
        "/v1.1/queues",
        {
            "GET": Operation(
                list_queues,
                "queues:get_all",
                "List queues",
                {
                    200: Reply(
                        "A page, by name",
                        StoredQueuePage(
                            [StoredQueue("demo", "/v1.1/queues/demo", STORED)],
                            [Link("next", "/v1.1/queues?detailed=true&marker=demo")],
                        ),
                    )
                },
                query=common.PAGE,
            )
        },
    ),
    Resource(
        "/v1.1/queues/{queue_name}",
        {
            "PUT": common.creating("/v1.1"),
            "GET": Operation(
                show,
                "queues:get",
                "Show a queue's metadata",
                {200: Reply("The metadata as it is stored", STORED)},
            ),
            "DELETE": common.DELETE,
        },
    ),
    common.stats_resource("/v1.1"),
)
