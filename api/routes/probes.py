"""Whether this process is alive and ready: for those who start and stop it, and who send it requests."""

from __future__ import annotations

from api.answers import NO_CONTENT, Answer, document
from api.requests import Call
from api.resources import UNGUARDED, Operation, Reply, Resource
from zaqar_notify.errors import ServiceStopping
from zaqar_notify.service import Service

_READY = document({"ready": True})


async def is_running(service: Service, call: Call) -> Answer:
    return NO_CONTENT


async def is_ready(service: Service, call: Call) -> Answer:
    if service.health.is_draining:
        raise ServiceStopping
    await service.health.readiness.check(service.storage)
    return _READY


RESOURCES = (
    Resource(
        "/healthz",
        {
            "GET": Operation(
                is_running,
                UNGUARDED,
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
                UNGUARDED,
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
