"""Whether the service answers."""

from __future__ import annotations

from http import HTTPStatus

from api.answers import NO_CONTENT, Answer
from api.requests import Call
from api.resources import Operation, Reply, Resource
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.service import Service


async def ping(service: Service, call: Call) -> Answer:
    """Both answers have no body, unlike every other error."""
    try:
        await service.storage.ping()
    except StorageUnavailable:
        return Answer(HTTPStatus.SERVICE_UNAVAILABLE, headers=((b"Retry-After", b"1"),))
    return NO_CONTENT


async def is_running(service: Service, call: Call) -> Answer:
    return NO_CONTENT


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
                ping,
                "Ask whether the store answers, without any header",
                {204: Reply("It does")},
                description="For load balancers and process supervisors.",
            )
        },
        is_open=True,
    ),
)
