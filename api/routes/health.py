"""Whether the service answers: to clients, to those who start and stop it, to those who watch it."""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from api.answers import NO_CONTENT, Answer, document
from api.requests import Call
from api.resources import Operation, Reply, Resource
from zaqar_notify.errors import ServiceStopping, StorageUnavailable
from zaqar_notify.service import Service

_READY = document({"ready": True})


async def ping(service: Service, call: Call) -> Answer:
    """Both answers have no body, unlike every other error."""
    try:
        await service.storage.ping()
    except StorageUnavailable:
        return Answer(HTTPStatus.SERVICE_UNAVAILABLE, headers=((b"Retry-After", b"1"),))
    return NO_CONTENT


async def is_running(service: Service, call: Call) -> Answer:
    return NO_CONTENT


async def is_ready(service: Service, call: Call) -> Answer:
    if service.health.is_draining:
        raise ServiceStopping
    await service.health.readiness.check(service.storage)
    return _READY


async def health(service: Service, call: Call) -> Answer:
    operations = await service.health.operations(service.storage, service.clock)
    return document(
        {
            "storage_reachable": await service.health.readiness.is_able(service.storage),
            "operation_status": {
                name: msgspec.structs.asdict(operation) for name, operation in operations.items()
            },
        }
    )


_SUCCEEDED = {"succeeded": True, "seconds": 0.0021, "ref": None}

RESOURCES = (
    Resource(
        "/v2/ping",
        {
            "GET": Operation(ping, "Ask whether the store answers", {204: Reply("It does")}),
            "HEAD": Operation(
                is_running, "Ask whether the service answers", {204: Reply("It does")}
            ),
        },
    ),
    Resource(
        "/healthz",
        {
            "GET": Operation(
                is_running,
                "Ask whether this process is alive",
                {204: Reply("It is; the store was not asked")},
                description="For supervisors, which restart what is not alive.",
            )
        },
        is_open=True,
    ),
    Resource(
        "/readyz",
        {
            "GET": Operation(
                is_ready,
                "Ask whether this process can serve requests",
                {
                    200: Reply(
                        "It can: the store acknowledges writes, and no stop is near",
                        {"ready": True},
                    )
                },
                description="For load balancers, which send requests to what is ready.",
            )
        },
        is_open=True,
    ),
)

ADMIN_RESOURCES = (
    Resource(
        "/v2/health",
        {
            "GET": Operation(
                health,
                "Show how the store is doing",
                {
                    200: Reply(
                        "What came of trying out the store; of a failed operation, `ref` is in the log",
                        {
                            "storage_reachable": True,
                            "operation_status": {
                                "create_queue": _SUCCEEDED,
                                "post_messages": _SUCCEEDED,
                            },
                        },
                    )
                },
                description="The store is tried out every ten seconds at most, not by each request. "
                "Served with the setting ZAQAR_ADMIN_MODE.",
            )
        },
    ),
)
