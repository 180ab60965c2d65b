"""Queues of version 1.1: metadata as it is stored, without defaults, which nothing changes after the creation."""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from api.answers import Answer, document
from api.requests import Call
from api.resources import Operation, Reply, Resource
from api.zaqar import queues as common
from api.zaqar.query import Query
from api.zaqar.schemas import Exact, Link, Metadata
from zaqar_notify import queues
from zaqar_notify.service import Service


class StoredQueue(Exact):
    """A queue in a listing of a version before 2."""

    name: str
    href: str
    metadata: Metadata | UnsetType = UNSET


class StoredQueuePage(Exact):
    """Queues by name, and where the page after them is, in a version before 2."""

    queues: list[StoredQueue]
    links: list[Link]


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
