"""Actions on messages."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from http import HTTPStatus

import msgspec

from api.answers import Answer, document
from api.push.actions import action
from api.push.calls import FrameCall
from api.push.queues import QueueFields
from api.zaqar.bodies import read_messages
from api.zaqar.messages import store
from api.zaqar.shapes import NOTHING_MORE, More, age, end_of, popped
from zaqar_notify import messages
from zaqar_notify.errors import ValidationFailed
from zaqar_notify.models import Message
from zaqar_notify.service import Service

DONE = Answer(HTTPStatus.NO_CONTENT, b"{}")


class PostFields(QueueFields):
    messages: msgspec.Raw


class PageFields(QueueFields):
    marker: str | None = None
    limit: int | None = None
    echo: bool | None = None
    include_claimed: bool | None = None
    include_delayed: bool | None = None
    attributes: bool | None = None


class MessageFields(QueueFields):
    message_id: str


class ShownFields(MessageFields):
    attributes: bool | None = None


class DeleteFields(MessageFields):
    claim_id: str | None = None


class ManyFields(QueueFields):
    message_ids: list[str]
    attributes: bool | None = None


class DeleteManyFields(QueueFields):
    message_ids: list[str] | None = None
    pop: int | None = None
    claim_ids: list[str] | None = None
    attributes: bool | None = None


async def post(service: Service, call: FrameCall, fields: PostFields) -> Answer:
    settings = service.settings
    call.text = bytes(fields.messages)
    posted = await call.body(settings.max_messages_post_size)
    found = read_messages(b'{"messages":%b}' % posted, settings, call.warn)
    ids = await store(service, call, posted, found)
    return document({"message_ids": ids}, HTTPStatus.CREATED)


async def browse(service: Service, call: FrameCall, fields: PageFields) -> Answer:
    page = await messages.page(
        service,
        call.ref,
        marker=fields.marker,
        limit=fields.limit,
        without_client=None if fields.echo else call.client_id,
        include_claimed=bool(fields.include_claimed),
        include_delayed=bool(fields.include_delayed),
    )
    shown = listed(page.messages, service.clock.now(), more=More(bool(fields.attributes)))
    return Answer(HTTPStatus.OK, shown)


async def show(service: Service, call: FrameCall, fields: ShownFields) -> Answer:
    found = await messages.get(service, call.ref, fields.message_id)
    shown = b'{"messages":%b}' % _message(found, service.clock.now(), More(bool(fields.attributes)))
    return Answer(HTTPStatus.OK, shown)


async def show_many(service: Service, call: FrameCall, fields: ManyFields) -> Answer:
    if not fields.message_ids:
        raise ValidationFailed("message_ids must have at least one id")
    found = await messages.find_many(service, call.ref, fields.message_ids)
    shown = listed(found, service.clock.now(), more=More(bool(fields.attributes)))
    return Answer(HTTPStatus.OK, shown)


async def delete(service: Service, call: FrameCall, fields: DeleteFields) -> Answer:
    await messages.delete(service, call.ref, fields.message_id, claim_id=fields.claim_id)
    return DONE


async def delete_many(service: Service, call: FrameCall, fields: DeleteManyFields) -> Answer:
    ids, claim_ids = fields.message_ids, fields.claim_ids
    if bool(ids) == (fields.pop is not None):
        raise ValidationFailed("Exactly one of message_ids and pop is required")
    if fields.pop is not None:
        found = await messages.pop(service, call.ref, fields.pop)
        shown = popped(found, service.clock.now(), more=More(bool(fields.attributes)))
        return Answer(HTTPStatus.OK, shown)
    if not service.settings.message_delete_with_claim_id:
        claim_ids = None
    elif not claim_ids:
        raise ValidationFailed("claim_ids is required to delete messages by ids on this server")
    await messages.delete_many(service, call.ref, ids or (), claim_ids=claim_ids)
    return DONE


def listed(
    found: Iterable[Message],
    now: datetime,
    *,
    before: bytes = b"{",
    more: More = NOTHING_MORE,
) -> bytes:
    """`{"messages": […]}`, or with other fields before it; the messages' bodies stay as they are."""
    shown = b",".join(_message(one, now, more) for one in found)
    return b'%b"messages":[%b]}' % (before, shown)


def _message(message: Message, now: datetime, more: More) -> bytes:
    claim = b"null" if message.claim_id is None else b'"%b"' % message.claim_id.encode()
    return b'{"id":"%b","claim_id":%b,"ttl":%d,"age":%d,"body":%b%b' % (
        message.id.encode(),
        claim,
        message.ttl,
        age(message.posted_at, now),
        bytes(message.body),
        end_of(message, now, more),
    )


_MANY = "/{queue_name}/messages"
_ONE = "/{queue_name}/messages/{message_id}"

ACTIONS = (
    action("message_post", "POST", _MANY, PostFields, post, needs_client_id=True),
    action("message_list", "GET", _MANY, PageFields, browse, needs_client_id=True),
    action("message_get", "GET", _ONE, ShownFields, show),
    action("message_get_many", "GET", _MANY, ManyFields, show_many),
    action("message_delete", "DELETE", _ONE, DeleteFields, delete),
    action("message_delete_many", "DELETE", _MANY, DeleteManyFields, delete_many),
)
