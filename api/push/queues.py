"""Actions on queues."""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from api.answers import Answer, document
from api.push.actions import action
from api.push.calls import FrameCall
from api.zaqar.bodies import read_metadata
from api.zaqar.shapes import age, instant
from zaqar_notify import queues
from zaqar_notify.auth.confinement import check_all_queues, check_named_queues
from zaqar_notify.models import JsonObject, OldestNewest
from zaqar_notify.service import Service


class ListFields(msgspec.Struct):
    marker: str | None = None
    limit: int | None = None
    detailed: bool | None = None


class QueueFields(msgspec.Struct):
    queue_name: str


class CreateFields(QueueFields):
    metadata: msgspec.Raw = msgspec.Raw(b"{}")


class PurgeFields(QueueFields):
    resource_types: list[object] | None = None


async def list_queues(service: Service, call: FrameCall, fields: ListFields) -> Answer:
    check_all_queues(call.caller)
    found = await queues.list_queues(
        service,
        call.project,
        marker=fields.marker,
        limit=fields.limit,
        name_contains="",
        metadata_equals={},
        with_count=False,
    )
    listed = [
        {"name": one.ref.name} | ({"metadata": one.metadata} if fields.detailed else {})
        for one in found.queues
    ]
    return document({"queues": listed})


async def create(service: Service, call: FrameCall, fields: CreateFields) -> Answer:
    await call.body(service.settings.max_queue_metadata)
    metadata = read_metadata(bytes(fields.metadata))
    check_named_queues(call.caller, metadata)
    created = await queues.create(service, call.ref, metadata)
    status = HTTPStatus.CREATED if created else HTTPStatus.NO_CONTENT
    return document(f"Queue {call.ref.name} created.", status)


async def show(service: Service, call: FrameCall, fields: QueueFields) -> Answer:
    return document(await queues.metadata(service, call.ref) or {})


async def delete(service: Service, call: FrameCall, fields: QueueFields) -> Answer:
    await queues.delete(service, call.ref)
    return document(f"Queue {call.ref.name} removed.", HTTPStatus.NO_CONTENT)


async def stats(service: Service, call: FrameCall, fields: QueueFields) -> Answer:
    """The counts; those of a queue that was never created come with 404."""
    is_known = await queues.metadata(service, call.ref) is not None
    found = await queues.stats(service, call.ref)
    messages: JsonObject = {"claimed": found.claimed, "free": found.free, "total": found.total}
    now = service.clock.now()

    def end(one: OldestNewest) -> JsonObject:
        created = instant(service.clock.on_host(one.posted_at))
        return {"id": one.id, "age": age(one.posted_at, now), "created": created}

    if found.oldest is not None and found.newest is not None:
        messages |= {"oldest": end(found.oldest), "newest": end(found.newest)}
    return document({"messages": messages}, HTTPStatus.OK if is_known else HTTPStatus.NOT_FOUND)


async def purge(service: Service, call: FrameCall, fields: PurgeFields) -> Answer:
    kinds = fields.resource_types
    await queues.purge(
        service,
        call.ref,
        messages=not kinds or "messages" in kinds,
        subscriptions=not kinds or "subscriptions" in kinds,
    )
    return Answer(HTTPStatus.NO_CONTENT, b"{}")


ACTIONS = (
    action("queue_list", "GET", "", ListFields, list_queues),
    action("queue_create", "PUT", "/{queue_name}", CreateFields, create),
    action("queue_get", "GET", "/{queue_name}", QueueFields, show),
    action("queue_delete", "DELETE", "/{queue_name}", QueueFields, delete),
    action("queue_get_stats", "GET", "/{queue_name}/stats", QueueFields, stats),
    action("queue_purge", "POST", "/{queue_name}/purge", PurgeFields, purge),
)
