"""Messages of version 1: bare arrays, 204 where there is nothing, and no ids beside the links."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus

from api.answers import NO_CONTENT, Answer
from api.documents import Reader
from api.refusals import ParameterMissing
from api.requests import Call
from api.resources import Body, Operation, Parameter, Reply, Resource
from api.v1 import schemas
from api.v1.admission import check_client_id
from api.v1.schemas import QUEUE, MessageOfV1
from api.v1.shapes import located, message, messages
from api.zaqar import messages as common
from api.zaqar.bodies import PlainMessage, check_messages, warn_of_unread_messages
from api.zaqar.examples import IDS, MARKER, MESSAGE_ID, WAIT
from api.zaqar.links import next_links, queue_href
from api.zaqar.query import Query
from api.zaqar.schemas import Limit, Link
from zaqar_notify import messages as service_messages
from zaqar_notify import queues
from zaqar_notify.delivery.posts import PostedMessage
from zaqar_notify.errors import MessageDoesNotExist, QueueDoesNotExist
from zaqar_notify.rules.unread import Warn
from zaqar_notify.service import Service
from zaqar_notify.settings import Settings


class LimitedMessage(PlainMessage, kw_only=True):
    """A message whose life its post has to name."""

    ttl: int


class StrictLimitedMessage(LimitedMessage, forbid_unknown_fields=True):
    """A message without unknown fields."""


_body: Reader[list[LimitedMessage]] = Reader(
    list[LimitedMessage],
    strict=list[StrictLimitedMessage],  # type: ignore[arg-type]
)


async def post(service: Service, call: Call) -> Answer:
    check_client_id(call)
    body = await call.body(service.settings.max_messages_post_size)
    posted = _read_messages(body, service.settings, call.warn)
    await queues.check_exists(service, call.ref)
    ids = await common.store(service, call, body, posted)
    return common.stored(call, ids, after=',"partial":false}')


def _read_messages(body: bytes, settings: Settings, warn: Warn) -> list[PostedMessage]:
    """The messages of `[{"body", "ttl"}]`, at least one."""
    on_unread = partial(warn_of_unread_messages, body, PlainMessage, warn)
    found = _body.read(body, on_unread=on_unread)
    check_messages(body, found, settings)
    return [one.posted(settings.default_message_ttl) for one in found]


async def browse(service: Service, call: Call) -> Answer:
    query = Query(call.query_string)
    ids = query.words("ids")
    if ids:
        found = await service_messages.find_many(service, call.ref, ids)
        shown = messages(queue_href(call), found, service.clock.now())
    else:
        check_client_id(call)
        page = await common.page_of(service, call, query, knows_delays=False)
        found = page.messages
        listed = messages(queue_href(call), found, service.clock.now())
        links = next_links(call.href, query.sent, page.marker)
        shown = b'{"messages":%b,"links":%b}' % (listed, links)
    return located(Answer(HTTPStatus.OK, shown), call) if found else NO_CONTENT


async def show(service: Service, call: Call) -> Answer:
    found = await service_messages.get(service, call.ref, call.names["message_id"])
    shown = message(queue_href(call), found, service.clock.now())
    return located(Answer(HTTPStatus.OK, shown), call)


async def delete_several(service: Service, call: Call) -> Answer:
    ids = Query(call.query_string).words("ids")
    if not ids:
        raise ParameterMissing("ids")
    claim_ids = () if service.settings.message_delete_with_claim_id else None
    await service_messages.delete_many(service, call.ref, ids, claim_ids=claim_ids)
    return NO_CONTENT


MESSAGE = MessageOfV1(
    href=f"{QUEUE}/messages/{MESSAGE_ID}", ttl=300, age=5, body={"event": "hello"}
)

RESOURCES = (
    Resource(
        "/v1/queues/{queue_name}/messages",
        {
            "POST": Operation(
                post,
                "messages:create",
                "Post messages",
                {
                    201: Reply(
                        "Stored, all of them, in this order",
                        schemas.PostedOfV1([f"{QUEUE}/messages/{MESSAGE_ID}"], partial=False),
                        location=f"{QUEUE}/messages?ids={MESSAGE_ID}",
                    )
                },
                description="The queue must exist. All messages are stored, or none. Needs a Client-ID.",
                headers=(common.IDEMPOTENCY_KEY, common.HOPS),
                body=Body([schemas.NewMessageOfV1({"event": "hello"}, ttl=300)]),
                refuses=(QueueDoesNotExist("demo"), common.KEY_REUSED),
            ),
            "GET": Operation(
                browse,
                "messages:get_all",
                "Browse messages, or read several by id",
                {
                    200: Reply(
                        "A page, oldest first",
                        schemas.MessagePageOfV1(
                            [MESSAGE],
                            [Link("next", f"{QUEUE}/messages?marker={MESSAGE_ID}")],
                        ),
                        other=[MESSAGE],
                    ),
                    204: Reply("There is none"),
                },
                description="With `ids`, a bare array of those messages. Without, it needs a Client-ID.",
                query=(
                    MARKER,
                    Parameter("limit", "Messages in the page, 1 to 20.", Limit, 10),
                    common.ECHO,
                    common.INCLUDE_CLAIMED,
                    WAIT,
                    IDS,
                ),
            ),
            "DELETE": Operation(
                delete_several,
                "messages:delete_all",
                "Delete several messages",
                {204: Reply("Deleted, as far as they existed")},
                description="Claimed messages go too.",
                query=(IDS,),
            ),
        },
    ),
    Resource(
        "/v1/queues/{queue_name}/messages/{message_id}",
        {
            "GET": Operation(
                show,
                "messages:get",
                "Show a message",
                {200: Reply("The message, claimed and delayed ones too", MESSAGE)},
                refuses=(MessageDoesNotExist("demo", MESSAGE_ID),),
            ),
            "DELETE": common.DELETE,
        },
    ),
)
