"""Messages of a queue: post, browse, read, delete, pop."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from http import HTTPStatus

from api.answers import NO_CONTENT, Answer, at
from api.refusals import HeaderInvalid
from api.requests import Call
from api.resources import Body, Operation, Parameter, Reply, Resource
from api.v2 import schemas
from api.v2.bodies import read_messages
from api.v2.examples import LINKS, MARKER, MESSAGE, MESSAGE_ID, WAIT
from api.v2.links import next_links, queue_href
from api.v2.query import Query, long_poll
from api.v2.shapes import message, messages, popped
from zaqar_notify import messages as service_messages
from zaqar_notify.errors import (
    IdempotencyKeyReused,
    MessageDoesNotExist,
    MessageIsClaimed,
    ValidationFailed,
)
from zaqar_notify.models import NewMessage
from zaqar_notify.rules.unread import Warn
from zaqar_notify.service import Service
from zaqar_notify.settings import Settings
from zaqar_notify.storage.base import IdempotencyKey

_KEY = re.compile(r"[!-~]{1,255}")
_HOPS = re.compile(r"[0-9]{1,3}")

IDS_IN_LOCATION = 20
"""Common clients and proxies can't read a header with more ids."""


async def post(service: Service, call: Call) -> Answer:
    settings = service.settings
    body = await call.body(settings.max_messages_post_size)
    posted = await service_messages.post(
        service,
        call.ref,
        read_messages(body, settings, call.warn),
        size=len(body),
        client_id=call.client_id,
        idempotency_key=_idempotency_key(call, body, settings),
        request_id=call.request_id.decode("ascii"),
        hops=_hops(call),
    )
    if posted.never_seen:
        _warn_of_never_seen(posted.never_seen, call.warn)
    base = f"{queue_href(call)}/messages"
    resources = '","'.join([f"{base}/{message_id}" for message_id in posted.ids])
    return at(
        HTTPStatus.CREATED,
        f"{base}?ids={','.join(posted.ids[:IDS_IN_LOCATION])}",
        f'{{"resources":["{resources}"]}}'.encode(),
    )


def _idempotency_key(call: Call, body: bytes, settings: Settings) -> IdempotencyKey | None:
    key = call.header(b"idempotency-key")
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise HeaderInvalid(
            "Invalid header value", "Idempotency-Key must be 1 to 255 visible ASCII characters"
        )
    fingerprint = hashlib.sha256(body).digest()
    return IdempotencyKey(key, fingerprint, settings.idempotency_keep_seconds)


def _hops(call: Call) -> int:
    """The hops of a message that a webhook posts; 0 for other clients, which send no count."""
    text = call.header(b"zaqar-hops")
    if text is None:
        return 0
    if not _HOPS.fullmatch(text):
        raise HeaderInvalid("Invalid header value", "Zaqar-Hops must be a number of 1 to 3 digits")
    return int(text)


def _warn_of_never_seen(never_seen: Iterable[NewMessage], warn: Warn) -> None:
    for ttl, delay in dict.fromkeys((one.ttl, one.delay) for one in never_seen):
        warn(
            f"message: a delay of {delay} seconds is not less than the ttl of {ttl}: it expires before "
            "it is due, so it is never claimed or delivered, and pages show it with include_delayed only"
        )


async def browse(service: Service, call: Call) -> Answer:
    query = Query(call.query_string)
    ids = query.words("ids")
    if ids:
        return await _several(service, call, ids)
    page = await service_messages.page(
        service,
        call.ref,
        marker=query.text("marker"),
        limit=query.integer("limit"),
        without_client=None if query.boolean("echo") else call.client_id,
        include_claimed=query.boolean("include_claimed"),
        include_delayed=query.boolean("include_delayed"),
        wait=long_poll(call, query, service),
    )
    links = b',"links":%b}' % next_links(call.href, query.sent, page.marker)
    now = service.clock.now()
    return Answer(HTTPStatus.OK, messages(queue_href(call), page.messages, now, after=links))


async def _several(service: Service, call: Call, ids: list[str]) -> Answer:
    found = await service_messages.get_many(service, call.ref, ids)
    return Answer(HTTPStatus.OK, messages(queue_href(call), found, service.clock.now()))


async def show(service: Service, call: Call) -> Answer:
    found = await service_messages.get(service, call.ref, call.names["message_id"])
    return Answer(HTTPStatus.OK, message(queue_href(call), found, service.clock.now()))


async def delete(service: Service, call: Call) -> Answer:
    message_id = call.names["message_id"]
    claim_id = Query(call.query_string).text("claim_id")
    await service_messages.delete(service, call.ref, message_id, claim_id=claim_id)
    return NO_CONTENT


async def delete_several(service: Service, call: Call) -> Answer:
    query = Query(call.query_string)
    ids = query.words("ids")
    count = query.integer("pop")
    claim_ids = query.words("claim_ids")
    if bool(ids) == (count is not None):
        raise ValidationFailed("Exactly one of ids and pop is required")
    if count is not None:
        return await _pop(service, call, count, query)
    guarded = service.settings.message_delete_with_claim_id
    if guarded and not claim_ids:
        raise ValidationFailed("claim_ids is required to delete messages by ids on this server")
    await service_messages.delete_many(
        service, call.ref, ids, claim_ids=claim_ids if guarded else None
    )
    return NO_CONTENT


async def _pop(service: Service, call: Call, count: int, query: Query) -> Answer:
    if query.words("claim_ids") and service.settings.message_delete_with_claim_id:
        raise ValidationFailed("claim_ids goes with ids, not with pop")
    found = await service_messages.pop(service, call.ref, count)
    return Answer(HTTPStatus.OK, popped(found, service.clock.now()))


IDS = Parameter(
    "ids", "Message ids, comma separated or repeated; at most 20.", list[str], [MESSAGE_ID]
)

RESOURCES = (
    Resource(
        "/v2/queues/{queue_name}/messages",
        {
            "POST": Operation(
                post,
                "messages:create",
                "Post messages",
                {
                    201: Reply(
                        "Stored, all of them, in this order",
                        schemas.Posted([f"/v2/queues/demo/messages/{MESSAGE_ID}"]),
                        location=f"/v2/queues/demo/messages?ids={MESSAGE_ID}",
                    )
                },
                description="The queue needs no creation. `body` is any JSON value and comes back as "
                "the bytes that it was. `ttl` and `delay` are seconds; pages and claims hide a message "
                "until its delay is over. All messages are stored, or none. "
                "`Location` names the first 20 at most.",
                headers=(
                    Parameter(
                        "Idempotency-Key",
                        "1 to 255 visible ASCII characters. A second post with this key and the same "
                        "body is answered as the first, and stores nothing.",
                        str,
                        "order-1042",
                    ),
                    Parameter(
                        "Zaqar-Hops",
                        "As the webhook that led to this post had it: queues and webhooks that the messages have "
                        "crossed. Past the limit the post is refused, which ends loops.",
                        schemas.Count,
                        1,
                    ),
                ),
                body=Body(schemas.Post([schemas.NewMessage({"event": "hello"}, ttl=300, delay=0)])),
                refuses=(IdempotencyKeyReused("order-1042"),),
            ),
            "GET": Operation(
                browse,
                "messages:get_all",
                "Browse messages, or read several by id",
                {200: Reply("A page, oldest first", schemas.MessagePage([MESSAGE], LINKS))},
                description="With `ids`, those messages and no `links`; 404 when there is none.",
                query=(
                    MARKER,
                    Parameter("limit", "Messages in the page, 1 to 20.", schemas.Limit, 10),
                    Parameter("echo", "Include messages that this Client-ID posted.", bool, False),
                    Parameter(
                        "include_claimed", "Include messages under a live claim.", bool, False
                    ),
                    Parameter("include_delayed", "Include messages still delayed.", bool, False),
                    WAIT,
                    IDS,
                ),
                refuses=(MessageDoesNotExist("demo", MESSAGE_ID),),
            ),
            "DELETE": Operation(
                delete_several,
                "messages:delete_all",
                "Delete several messages, or pop some",
                {
                    204: Reply("Deleted, as far as they existed"),
                    200: Reply(
                        "Popped: removed and returned",
                        schemas.PoppedMessages(
                            [
                                schemas.PoppedMessage(
                                    id=MESSAGE_ID,
                                    ttl=300,
                                    age=5,
                                    body={"event": "hello"},
                                    claim_id=None,
                                    claim_count=0,
                                )
                            ]
                        ),
                    ),
                },
                description="Exactly one of `ids` and `pop`. By `ids`, claimed messages go too.",
                query=(
                    IDS,
                    Parameter(
                        "pop",
                        "Take so many of the oldest visible messages, 1 to 20.",
                        schemas.Limit,
                        1,
                    ),
                    Parameter(
                        "claim_ids",
                        "The claims of claimed messages, on servers that ask for them.",
                        list[str],
                        ["0b6fe8e4a8a64a6f9f3c2d1e5b7a9c08"],
                    ),
                ),
            ),
        },
    ),
    Resource(
        "/v2/queues/{queue_name}/messages/{message_id}",
        {
            "GET": Operation(
                show,
                "messages:get",
                "Show a message",
                {200: Reply("The message, claimed and delayed ones too", MESSAGE)},
                refuses=(MessageDoesNotExist("demo", MESSAGE_ID),),
            ),
            "DELETE": Operation(
                delete,
                "messages:delete",
                "Delete a message",
                {204: Reply("Deleted, or there was none")},
                query=(
                    Parameter(
                        "claim_id",
                        "The live claim that holds the message; needed for a claimed one.",
                        str,
                        "0b6fe8e4a8a64a6f9f3c2d1e5b7a9c08",
                    ),
                ),
                refuses=(MessageIsClaimed(MESSAGE_ID),),
            ),
        },
    ),
)
