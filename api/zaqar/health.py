"""Health: whether the service answers, and the state of the store."""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from api.answers import NO_CONTENT, Answer, document
from api.requests import Call
from api.resources import Operation, Reply, Resource
from api.zaqar import schemas
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.health import StoreReport
from zaqar_notify.models import JsonObject
from zaqar_notify.service import Service
from zaqar_notify.storage.internal import DEFAULT_POOL


async def ping(service: Service, call: Call) -> Answer:
    """Answer 204 or 503. The 503 has no body, unlike every other error."""
    try:
        await service.storage.ping()
    except StorageUnavailable:
        return Answer(HTTPStatus.SERVICE_UNAVAILABLE, headers=((b"Retry-After", b"1"),))
    return NO_CONTENT


async def is_running(service: Service, call: Call) -> Answer:
    return NO_CONTENT


async def health(service: Service, call: Call) -> Answer:
    reports = await service.health.reports(service.storage, service.clock)
    shown = {pool: _shown(report) for pool, report in reports.items()}
    if len(shown) == 1:
        return document(shown[DEFAULT_POOL])
    is_reachable = await service.health.is_catalog_reachable(service.storage)
    return document({**shown, "catalog_reachable": is_reachable})


def _shown(report: StoreReport) -> JsonObject:
    shown: JsonObject = {
        "storage_reachable": report.is_reachable,
        "operation_status": {
            name: msgspec.structs.asdict(operation) for name, operation in report.operations.items()
        },
    }
    volume = report.volume
    if volume is None:
        return shown
    counts = {"free": volume.free, "claimed": volume.claimed, "total": volume.total}
    return shown | {"message_volume": counts}


_SUCCEEDED = schemas.OperationStatus(succeeded=True, seconds=0.0021, ref=None)

PING = Operation(
    ping,
    "ping:get",
    "Ask whether the store answers",
    {204: Reply("It does"), 503: Reply("It does not")},
)
IS_RUNNING = Operation(
    is_running, "ping:get", "Ask whether the service answers", {204: Reply("It does")}
)


def ping_resource(wire: str) -> Resource:
    return Resource(f"{wire}/ping", {"GET": PING, "HEAD": IS_RUNNING})


def health_resource(wire: str) -> Resource:
    """The operator's view of the store."""
    return Resource(
        f"{wire}/health",
        {
            "GET": Operation(
                health,
                "health:get",
                "Show how the store is doing",
                {
                    200: Reply(
                        "The result of a trial of the store; `ref` of a failed operation is in the log",
                        schemas.HealthReport(
                            storage_reachable=True,
                            operation_status={
                                "create_queue": _SUCCEEDED,
                                "post_messages": _SUCCEEDED,
                            },
                            message_volume=schemas.MessageVolume(free=10, claimed=2, total=12),
                        ),
                    )
                },
                description="The store is tried out every ten seconds at most, not by each request; messages are "
                "counted more seldom where that takes long. Where pools are registered, the answer has "
                "`catalog_reachable`, and such an object for the store of each pool, by its name. "
                "Served with the setting ZAQAR_ADMIN_MODE.",
            )
        },
        is_signable=False,
        needs_project=False,
    )
