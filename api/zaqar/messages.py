"""Messages of a queue: post, browse, read, delete, pop. Each version says how far it goes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus

from api.answers import NO_CONTENT, Answer, at
from api.refusals import HeaderInvalid
from api.requests import Call
from api.resources import Body, Handler, Operation, Parameter, Reply, Resource
from api.zaqar import schemas
from api.zaqar.attributes import asked_of, parameters
from api.zaqar.examples import CLAIM_ID, IDS, MARKER, MESSAGE_ID, POP, WAIT, links
from api.zaqar.examples import message as message_example
from api.zaqar.links import next_links, queue_href
from api.zaqar.query import Query, long_poll
from api.zaqar.shapes import message, messages, popped
from zaqar_notify import messages as service_messages
from zaqar_notify.delivery.posts import PostedMessage
from zaqar_notify.errors import (
    IdempotencyKeyReused,
    MessageDoesNotExist,
    MessageIsClaimed,
    ValidationFailed,
)
from zaqar_notify.models import NewMessage, Page
from zaqar_notify.rules.unread import Warn
from zaqar_notify.service import Service
from zaqar_notify.settings import Settings
from zaqar_notify.storage.base import IdempotencyKey

_KEY = re.compile(rb"[!-~]{1,255}")
_HOPS = re.compile(rb"[0-9]{1,3}")

IDS_IN_LOCATION = 20
"""Common clients and proxies can't read a header with more ids."""


async def store(
    service: Service, call: Call, body: bytes, messages: Sequence[PostedMessage]
) -> list[str]:
    """Store the messages of a post's body, and return their ids in order."""
    posted = await service_messages.post(
        service,
        call.ref,
        messages,
        size=len(body),
        client_id=call.client_id,
        idempotency_key=idempotency_key(call, body, service.settings),
        request_id=call.request_id.decode("ascii"),
        hops=_hops(call),
        permits=call.check_post,
    )
    # Links lead to the messages, which a filter may have put on another queue.
    call.ref = posted.ref
    if posted.never_seen:
        _warn_of_never_seen(posted.never_seen, call.warn)
    return posted.ids


def stored(call: Call, ids: Sequence[str], *, after: str = "}") -> Answer:
    """The answer to a post: links to its messages, or with other fields after them."""
    base = f"{queue_href(call)}/messages"
    resources = '","'.join([f"{base}/{message_id}" for message_id in ids])
    return at(
        HTTPStatus.CREATED,
        f"{base}?ids={','.join(ids[:IDS_IN_LOCATION])}",
        f'{{"resources":["{resources}"]{after}'.encode(),
    )


def idempotency_key(call: Call, body: bytes, settings: Settings) -> IdempotencyKey | None:
    """The client's name for its request, with the digest of the body; None: it gave none."""
    key = call.headers.get(b"idempotency-key")
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise HeaderInvalid(
            "Invalid header value", "Idempotency-Key must be 1 to 255 visible ASCII characters"
        )
    fingerprint = hashlib.sha256(body).digest()
    return IdempotencyKey(key.decode("ascii"), fingerprint, settings.idempotency_keep_seconds)


def _hops(call: Call) -> int:
    """The hops of a message that a webhook posts; 0 for other clients, which send no count."""
    text = call.headers.get(b"zaqar-hops")
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


async def browse(service: Service, call: Call, *, knows_delays: bool) -> Answer:
    """A page of messages, or with `ids` those messages.

    Args:
        knows_delays: The version has the parameter `include_delayed`.
    """
    query = Query(call.query_string)
    ids = query.words("ids")
    more = asked_of(service, call)
    if ids:
        found = await service_messages.get_many(service, call.ref, ids)
        shown = messages(queue_href(call), found, service.clock.now(), more=more)
        return Answer(HTTPStatus.OK, shown)
    page = await page_of(service, call, query, knows_delays=knows_delays)
    after = b',"links":%b}' % next_links(call.href, query.sent, page.marker)
    now = service.clock.now()
    shown = messages(queue_href(call), page.messages, now, after=after, more=more)
    return Answer(HTTPStatus.OK, shown)


async def page_of(service: Service, call: Call, query: Query, *, knows_delays: bool) -> Page:
    return await service_messages.page(
        service,
        call.ref,
        marker=query.text("marker"),
        limit=query.integer("limit"),
        without_client=None if query.boolean("echo") else call.client_id,
        include_claimed=query.boolean("include_claimed"),
        include_delayed=knows_delays and query.boolean("include_delayed"),
        wait=long_poll(call, query, service),
    )


async def show(service: Service, call: Call) -> Answer:
    found = await service_messages.get(service, call.ref, call.names["message_id"])
    more = asked_of(service, call)
    shown = message(queue_href(call), found, service.clock.now(), more=more)
    return Answer(HTTPStatus.OK, shown)


async def delete(service: Service, call: Call) -> Answer:
    message_id = call.names["message_id"]
    claim_id = Query(call.query_string).text("claim_id")
    await service_messages.delete(service, call.ref, message_id, claim_id=claim_id)
    return NO_CONTENT


async def delete_several(
    service: Service, call: Call, query: Query, *, claim_ids: Sequence[str] | None
) -> Answer:
    """Delete the messages of `ids`, or pop as many as `pop` says.

    Args:
        claim_ids: None deletes claimed messages, too; else they go only under one of these claims.
    """
    ids = query.words("ids")
    count = query.integer("pop")
    if bool(ids) == (count is not None):
        raise ValidationFailed("Exactly one of ids and pop is required")
    if count is not None:
        found = await service_messages.pop(service, call.ref, count)
        shown = popped(found, service.clock.now(), more=asked_of(service, call))
        return Answer(HTTPStatus.OK, shown)
    await service_messages.delete_many(service, call.ref, ids, claim_ids=claim_ids)
    return NO_CONTENT


def resources(
    wire: str, *, post: Operation, browse: Operation, delete_several: Operation
) -> tuple[Resource, ...]:
    """The resources of a version with this prefix; the rest is the same in all versions."""
    return (
        Resource(
            f"{wire}/queues/{{queue_name}}/messages",
            {"POST": post, "GET": browse, "DELETE": delete_several},
        ),
        Resource(
            f"{wire}/queues/{{queue_name}}/messages/{{message_id}}",
            {
                "GET": Operation(
                    show,
                    "messages:get",
                    "Show a message",
                    {
                        200: Reply(
                            "The message, claimed and delayed ones too", message_example(wire)
                        )
                    },
                    query=parameters(wire),
                    refuses=(MessageDoesNotExist("demo", MESSAGE_ID),),
                ),
                "DELETE": DELETE,
            },
        ),
    )


DELETE = Operation(
    delete,
    "messages:delete",
    "Delete a message",
    {204: Reply("Deleted, or there was none")},
    query=(
        Parameter(
            "claim_id",
            "The live claim that holds the message; needed for a claimed one.",
            str,
            CLAIM_ID,
        ),
    ),
    refuses=(MessageIsClaimed(MESSAGE_ID),),
)

IDEMPOTENCY_KEY = Parameter(
    "Idempotency-Key",
    "1 to 255 visible ASCII characters. A second post with this key and the same "
    "body is answered as the first, and stores nothing.",
    str,
    "order-1042",
)
HOPS = Parameter(
    "Zaqar-Hops",
    "As the webhook that led to this post had it: queues and webhooks that the messages have "
    "crossed. Past the limit the post is refused, which ends loops.",
    schemas.Count,
    1,
)
KEY_REUSED = IdempotencyKeyReused("order-1042")
ECHO = Parameter("echo", "Include messages that this Client-ID posted.", bool, False)
INCLUDE_CLAIMED = Parameter("include_claimed", "Include messages under a live claim.", bool, False)


def posting(wire: str, handler: Handler, description: str, body: Body) -> Operation:
    """The operation that posts messages."""
    return Operation(
        handler,
        "messages:create",
        "Post messages",
        {
            201: Reply(
                "Stored, all of them, in this order",
                schemas.Posted([f"{wire}/queues/demo/messages/{MESSAGE_ID}"]),
                location=f"{wire}/queues/demo/messages?ids={MESSAGE_ID}",
            )
        },
        description=f"The queue needs no creation. `body` is any JSON value and comes back as the bytes that it "
        f"was. {description} All messages are stored, or none. `Location` names the first 20 at most.",
        headers=(IDEMPOTENCY_KEY, HOPS),
        body=body,
        refuses=(KEY_REUSED,),
    )


def browsing(wire: str, handler: Handler, *added: Parameter) -> Operation:
    """The operation that lists messages, with the parameters of one version."""
    return Operation(
        handler,
        "messages:get_all",
        "Browse messages, or read several by id",
        {
            200: Reply(
                "A page, oldest first", schemas.MessagePage([message_example(wire)], links(wire))
            )
        },
        description="With `ids`, those messages and no `links`; 404 when there is none.",
        query=(
            MARKER,
            Parameter("limit", "Messages in the page, 1 to 20.", schemas.Limit, 10),
            ECHO,
            INCLUDE_CLAIMED,
            *added,
            *parameters(wire),
            WAIT,
            IDS,
        ),
        refuses=(MessageDoesNotExist("demo", MESSAGE_ID),),
    )


def deleting_several(wire: str, handler: Handler, *added: Parameter) -> Operation:
    """The operation that deletes or pops messages, with the parameters of one version."""
    return Operation(
        handler,
        "messages:delete_all",
        "Delete several messages, or pop some",
        {
            204: Reply("Deleted, as far as they existed"),
            200: Reply("Popped: removed and returned", schemas.PoppedMessages([POPPED])),
        },
        description="Exactly one of `ids` and `pop`. By `ids`, claimed messages go too.",
        query=(IDS, POP, *parameters(wire), *added),
        takes_messages=True,
    )


POPPED = schemas.PoppedMessage(
    id=MESSAGE_ID, ttl=300, age=5, body={"event": "hello"}, claim_id=None, claim_count=0
)
