"""Quotas of a project: show and change."""

from __future__ import annotations

from msgspec.structs import asdict

from api.answers import Answer, document
from api.requests import Call
from api.resources import Body, Operation, Reply, Resource
from api.v2 import schemas
from zaqar_notify.errors import BodyInvalid
from zaqar_notify.quotas import change, report
from zaqar_notify.rules.jsontext import read_json
from zaqar_notify.service import Service

MAX_QUOTAS_BODY = 4096
"""Bytes; all quotas fit many times over."""


async def show(service: Service, call: Call) -> Answer:
    project = call.names["project_id"]
    defaults, used = service.quotas.limits.defaults, await service.quotas.used(project)
    found = await report(service.storage, defaults, project, used=used)
    quotas = {each.name: asdict(each) for each in found}
    for quota in quotas.values():
        del quota["name"]
    return document({"project_id": project, "quotas": quotas})


async def update(service: Service, call: Call) -> Answer:
    sent = read_json(await call.body(MAX_QUOTAS_BODY))
    if not isinstance(sent, dict):
        raise BodyInvalid('The body must be a JSON object of quotas: {"queues": 100}')
    await change(service.storage, call.names["project_id"], sent)
    return await show(service, call)


_SHOWN = schemas.Quotas(
    "demo",
    {
        "queues": schemas.Quota(limit=100, is_default=False, used=3),
        "requests_per_second": schemas.Quota(limit=2000, is_default=True, used=None),
    },
)

RESOURCES = (
    Resource(
        "/v2/quotas/{project_id}",
        {
            "GET": Operation(
                show,
                "quotas:get",
                "Show a project's quotas",
                {200: Reply("All quotas of the project", _SHOWN)},
            ),
            "PUT": Operation(
                update,
                "quotas:update",
                "Change a project's quotas",
                {200: Reply("All quotas of the project, as they are now", _SHOWN)},
                description="Quotas that the body does not name stay as they are; null gives a quota back its "
                "default. Every process keeps to the new values within five seconds.",
                body=Body(schemas.NewQuotas(queues=100, stored_bytes=None)),
            ),
        },
        is_signable=False,
        needs_project=False,
    ),
)
