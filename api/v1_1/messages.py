"""Messages of version 1.1: without delays, and without a queue's defaults."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from api.answers import Answer
from api.documents import Reader
from api.requests import Call
from api.resources import Body
from api.zaqar import messages
from api.zaqar.bodies import (
    PlainMessage,
    check_messages,
    explain_array,
    warn_of_unread_messages,
)
from api.zaqar.query import Query
from zaqar_notify.delivery.posts import PostedMessage
from zaqar_notify.errors import BodyInvalid
from zaqar_notify.rules.unread import Warn
from zaqar_notify.service import Service
from zaqar_notify.settings import Settings


class PlainBody(Struct):
    messages: list[PlainMessage] = []


class StrictPlainMessage(PlainMessage, forbid_unknown_fields=True):
    """A message without unknown fields."""


class StrictPlainBody(PlainBody, forbid_unknown_fields=True):
    messages: list[StrictPlainMessage] = []  # type: ignore[assignment]


_body = Reader(PlainBody, strict=StrictPlainBody)


async def post(service: Service, call: Call) -> Answer:
    body = await call.body(service.settings.max_messages_post_size)
    posted = _read_messages(body, service.settings, call.warn)
    return messages.stored(call, await messages.store(service, call, body, posted))


def _read_messages(body: bytes, settings: Settings, warn: Warn) -> list[PostedMessage]:
    """The messages of `{"messages": [{"body", "ttl"?}]}`, at least one."""
    on_unread = partial(warn_of_unread_messages, body, PlainMessage, warn)
    try:
        found = _body.read(body, on_unread=on_unread).messages
    except BodyInvalid:
        explain_array(body)
        raise
    check_messages(body, found, settings)
    return [one.posted(settings.default_message_ttl) for one in found]


async def browse(service: Service, call: Call) -> Answer:
    return await messages.browse(service, call, knows_delays=False)


async def delete_several(service: Service, call: Call) -> Answer:
    """Delete or pop. The version names no claims, so where they are asked for, claimed messages are refused."""
    claim_ids = () if service.settings.message_delete_with_claim_id else None
    query = Query(call.query_string)
    return await messages.delete_several(service, call, query, claim_ids=claim_ids)


class NewPlainMessage(Struct, omit_defaults=True):
    """A message to be posted by a version before 2. `ttl` is seconds; an absent one takes the service's default."""

    body: Any
    ttl: int | UnsetType = UNSET


class PlainPost(Struct):
    """Messages to be posted by version 1.1, all or none."""

    messages: Annotated[list[NewPlainMessage], Meta(min_length=1)]


RESOURCES = messages.resources(
    "/v1.1",
    post=messages.posting(
        "/v1.1",
        post,
        "`ttl` is seconds; the queue's defaults for `ttl` and `delay` are not applied.",
        Body(PlainPost([NewPlainMessage({"event": "hello"}, ttl=300)])),
    ),
    browse=messages.browsing("/v1.1", browse),
    delete_several=messages.deleting_several("/v1.1", delete_several),
)
