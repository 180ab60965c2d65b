"""Topics: they are published to and subscribed to, and keep no messages.

A topic is a queue of a name space of its own, so its resources are those of queues, with a few differences. A message
is kept for the subscriptions that it is owed to, and for no reader: pages are empty.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec

from api.answers import Answer, document
from api.requests import Call
from api.resources import Body, Operation, Reply, Resource
from api.v2 import deliveries, messages, pausing, queues, replays, schemas, subscriptions, trying
from api.zaqar import messages as common_messages
from api.zaqar import queues as common
from api.zaqar.examples import IDS, MESSAGE_ID
from api.zaqar.query import Query
from api.zaqar.schemas import Link, MessagePage, Metadata
from zaqar_notify import queues as service_queues
from zaqar_notify.auth.confinement import check_all_queues
from zaqar_notify.errors import MessageDoesNotExist, NotifyError, ValidationFailed
from zaqar_notify.metadata import shown
from zaqar_notify.models import TOPIC_MARK
from zaqar_notify.service import Service

_LIST_PARAMETERS = queues.LIST_PARAMETERS - {"with_count"}


async def list_topics(service: Service, call: Call) -> Answer:
    check_all_queues(call.caller)
    query = Query(call.query_string)
    detailed = query.boolean("detailed")
    found = await service_queues.list_topics(
        service,
        call.project,
        marker=query.text("marker"),
        limit=query.integer("limit"),
        name_contains=query.text("name") or "",
        metadata_equals=queues.metadata_filters(query.sent, _LIST_PARAMETERS),
    )
    metadata_of = partial(shown, settings=service.settings, of_topic=True) if detailed else None
    return document(common.listed(call, query, "topics", found, metadata_of=metadata_of))


async def delete_messages(service: Service, call: Call) -> Answer:
    query = Query(call.query_string)
    if query.text("pop") is not None:
        raise ValidationFailed("A topic keeps no messages to pop; only ids can be named")
    return await common_messages.delete_several(service, call, query, claim_ids=None)


_METADATA = Metadata(
    max_messages_post_size=262144, default_message_ttl=3600, default_message_delay=0
)

_DIFFERENT: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("GET", ""): {
        "handler": list_topics,
        "replies": {
            200: Reply(
                "A page, by name",
                schemas.TopicPage(
                    [schemas.Queue("demo", "/v2/topics/demo", _METADATA)],
                    [Link("next", "/v2/topics?detailed=true&marker=demo")],
                ),
            )
        },
        "query": queues.LIST_QUERY,
    },
    ("PUT", "/{topic_name}"): {"summary": "Create a topic"},
    ("GET", "/{topic_name}"): {
        "replies": {200: Reply("The metadata, with defaults filled in", _METADATA)}
    },
    ("PATCH", "/{topic_name}"): {"replies": {200: Reply("The new metadata", _METADATA)}},
    ("DELETE", "/{topic_name}"): {"summary": "Delete a topic"},
    ("POST", "/{topic_name}/messages"): {
        "description": "The topic needs no creation. Each subscription gets the messages; nothing else is kept of them, "
        "so a message that was published can't be read or withdrawn. All messages are accepted, or none.",
    },
    ("GET", "/{topic_name}/messages"): {
        "description": "A topic keeps no messages, so a page is empty, and there is no stream of events.",
        "replies": {200: Reply("An empty page", MessagePage([], []))},
        "query": messages.LISTING.query,
        "headers": messages.LISTING.headers,
        "events": None,
        "refuses": (MessageDoesNotExist(TOPIC_MARK + "demo", MESSAGE_ID),),
    },
    ("DELETE", "/{topic_name}/messages"): {
        "handler": delete_messages,
        "summary": "Delete several messages",
        "replies": {204: Reply("There are none")},
        "description": "",
        "query": (IDS,),
    },
    ("GET", "/{topic_name}/messages/{message_id}"): {
        "description": "A topic keeps no messages, so there is none to show.",
    },
    ("DELETE", "/{topic_name}/messages/{message_id}"): {
        "replies": {204: Reply("There was none")},
        "query": (),
        "refuses": (),
    },
    ("GET", "/{topic_name}/stats"): {"description": "A topic keeps no messages: all counts are 0."},
}
"""The operations that are others than those of queues, and how."""


def _of_topics(resource: Resource) -> Resource:
    path = resource.path.replace("/queues", "/topics").replace("{queue_name}", "{topic_name}")
    operations = {
        method: replace(
            _of_topic(operation), **_DIFFERENT.get((method, path.removeprefix("/v2/topics")), {})
        )
        for method, operation in resource.operations.items()
    }
    return replace(resource, path=path, operations=operations)


def _of_topic(operation: Operation) -> Operation:
    rule = operation.rule
    return replace(
        operation,
        rule=None if rule is None else re.sub("^queues:", "topics:", rule),
        summary=_said(operation.summary),
        description=_said(operation.description),
        replies={status: _replied(reply) for status, reply in operation.replies.items()},
        body=operation.body and replace(operation.body, example=_shown(operation.body)),
        refuses=tuple(map(_refused, operation.refuses)),
    )


def _replied(reply: Reply) -> Reply:
    location = None if reply.location is None else _linked(reply.location)
    return replace(
        reply, description=_said(reply.description), example=_shown(reply), location=location
    )


def _shown(example: Reply | Body) -> Any:
    if not isinstance(example.example, msgspec.Struct | list):
        return example.example
    text = msgspec.json.encode(example.example).decode()
    return msgspec.json.decode(_linked(text), type=example.kind)


def _refused(error: NotifyError) -> NotifyError:
    other = type(error).__new__(type(error))
    vars(other).update(vars(error))
    other.args = (_said(str(error)),)
    return other


def _said(text: str) -> str:
    """A sentence about queues, about topics; `queue:` is a kind of subscriber."""
    return re.sub(r"\bqueue(?!:)", "topic", text).replace("Queue", "Topic")


def _linked(text: str) -> str:
    return text.replace("/queues/demo", "/topics/demo")


RESOURCES = tuple(
    _of_topics(each)
    for each in (
        *queues.RESOURCES,
        *messages.RESOURCES,
        *subscriptions.RESOURCES,
        *pausing.RESOURCES,
        *trying.RESOURCES,
        *deliveries.OF_QUEUES,
        *replays.OF_SUBSCRIPTIONS,
    )
)
