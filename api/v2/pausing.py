"""Pausing and resuming a subscription."""

from __future__ import annotations

import msgspec

from api.answers import Answer
from api.documents import read_document
from api.requests import Call
from api.resources import Body, Operation, Reply, Resource
from api.v2 import schemas
from api.v2.subscriptions import SUBSCRIPTION, shown
from api.zaqar.examples import SUBSCRIPTION_ID
from zaqar_notify import subscriptions
from zaqar_notify.errors import SubscriptionDoesNotExist
from zaqar_notify.service import Service

MAX_BODY = 4096

_pause = msgspec.json.Decoder(schemas.Pause)


async def pause(service: Service, call: Call) -> Answer:
    body = await call.body(MAX_BODY)
    asked = read_document(body, _pause) if body else schemas.Pause()
    paused = await subscriptions.pause(
        service, call.ref, call.names["subscription_id"], why=asked.why
    )
    return await shown(service, paused)


async def resume(service: Service, call: Call) -> Answer:
    return await shown(
        service, await subscriptions.resume(service, call.ref, call.names["subscription_id"])
    )


PAUSED = msgspec.structs.replace(
    SUBSCRIPTION,
    disabled=schemas.Disabled("paused", "2026-11-20T19:20:00Z", "the receiver is rebuilt", 12),
)
_ABSENT = (SubscriptionDoesNotExist("demo", SUBSCRIPTION_ID),)

RESOURCES = (
    Resource(
        "/v2/queues/{queue_name}/subscriptions/{subscription_id}/pause",
        {
            "POST": Operation(
                pause,
                "subscription:pause",
                "Pause a subscription",
                {200: Reply("The subscription, with its state", PAUSED)},
                description="Deliveries are held, in order, until it is resumed; within two seconds no worker "
                "begins an attempt any more. A change of the subscription does not end the pause.",
                body=Body(schemas.Pause("the receiver is rebuilt"), required=False),
                refuses=_ABSENT,
            )
        },
        is_signable=False,
    ),
    Resource(
        "/v2/queues/{queue_name}/subscriptions/{subscription_id}/resume",
        {
            "POST": Operation(
                resume,
                "subscription:resume",
                "Resume a subscription",
                {200: Reply("The subscription", SUBSCRIPTION)},
                description="Ends a pause, and the state of a subscription that was disabled because its receiver was "
                "gone or only failed. Deliveries that were held are made in order; new messages come after them.",
                refuses=_ABSENT,
            )
        },
        is_signable=False,
    ),
)
