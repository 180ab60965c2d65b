"""What this process counts, for Prometheus."""

from __future__ import annotations

from http import HTTPStatus

from api.answers import Answer
from api.requests import Call
from api.resources import UNGUARDED, Operation, Reply, Resource
from zaqar_notify.exposition import CONTENT_TYPE, exposition
from zaqar_notify.service import Service


async def show(service: Service, call: Call) -> Answer:
    return Answer(
        HTTPStatus.OK, await exposition(service), content_type=CONTENT_TYPE.encode("ascii")
    )


RESOURCES = (
    Resource(
        "/metrics",
        {
            "GET": Operation(
                show,
                UNGUARDED,
                "Show the metrics of the process that answers",
                {200: Reply("Prometheus' text format")},
                description="Not served when the setting ZAQAR_METRICS is off.",
            )
        },
        is_open=True,
    ),
)
