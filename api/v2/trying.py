"""A test message for one subscription."""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from api.answers import Answer, document
from api.documents import read_document
from api.requests import Call
from api.resources import Body, Operation, Reply, Resource
from api.v2 import schemas
from api.zaqar.examples import MESSAGE_ID, SUBSCRIPTION_ID
from zaqar_notify import subscriptions
from zaqar_notify.errors import SubscriptionDoesNotExist
from zaqar_notify.service import Service

MAX_BODY = 65536
DEFAULT_BODY = b'{"test": true}'


class _Test(msgspec.Struct):
    """`schemas.Test`, with the body as the text that it is."""

    body: msgspec.Raw = msgspec.Raw(DEFAULT_BODY)


_test = msgspec.json.Decoder(_Test)


async def send_test(service: Service, call: Call) -> Answer:
    body = await call.body(MAX_BODY)
    asked = read_document(body, _test) if body else _Test()
    text = bytes(asked.body)
    tried = await subscriptions.send_test(service, call.ref, call.names["subscription_id"], text)
    return document(tried._asdict(), status=HTTPStatus.ACCEPTED)


RESOURCES = (
    Resource(
        "/v2/queues/{queue_name}/subscriptions/{subscription_id}/test",
        {
            "POST": Operation(
                send_test,
                "subscription:test",
                "Send a test message to one subscription",
                {
                    202: Reply(
                        "The test is on its way",
                        schemas.Tested(MESSAGE_ID, "msg_2b0a6f0f4b8d4b3a9c1d5e7f90a1b2c3"),
                    )
                },
                description="The message is on no queue and reaches no other subscription. It is delivered with the "
                "options, the retries and the state of the subscription; its filter policy lets it pass.",
                body=Body(schemas.Test({"test": True}), required=False),
                refuses=(SubscriptionDoesNotExist("demo", SUBSCRIPTION_ID),),
            )
        },
        is_signable=False,
    ),
)
