"""Actions on subscriptions."""

from __future__ import annotations

from http import HTTPStatus

from api.answers import Answer, document
from api.credentials import asker_of
from api.headers import canonical_uuid
from api.push.actions import SUBSCRIBE, action
from api.push.calls import FrameCall
from api.push.queues import QueueFields
from api.refusals import HeaderInvalid
from api.v2.shapes import subscription
from api.v2.subscriptions import MAX_SUBSCRIPTION_BODY, confirmation_path
from zaqar_notify import subscriptions
from zaqar_notify.auth.confinement import check_named_queues, check_queue
from zaqar_notify.delivery.subscribers import check_ttl, subscribed_queue
from zaqar_notify.errors import SubscriptionExists, ValidationFailed
from zaqar_notify.models import JsonObject, Subscription
from zaqar_notify.rules.limits import MIN_SECONDS
from zaqar_notify.service import Service

MAX_CLIENT_ID_BYTES = 255


class CreateFields(QueueFields):
    subscriber: str | None = None
    ttl: int | None = None
    options: JsonObject | None = None


class PageFields(QueueFields):
    marker: str | None = None
    limit: int | None = None


class SubscriptionFields(QueueFields):
    subscription_id: str


async def create(service: Service, call: FrameCall, fields: CreateFields) -> Answer:
    await call.body(MAX_SUBSCRIPTION_BODY)
    name = call.ref.name
    try:
        created = await _create(service, call, fields)
    except SubscriptionExists:
        return document(f"Subscription {name} not created.", HTTPStatus.CONFLICT)
    told = {"subscription_id": created.id, "message": f"Subscription {name} created."}
    return document(told, HTTPStatus.CREATED)


async def _create(service: Service, call: FrameCall, fields: CreateFields) -> Subscription:
    """Subscribe the subscriber, or the socket itself."""
    subscriber = fields.subscriber
    check_named_queues(call.caller, fields.options)
    if not subscriber and call.subscribing is not None:
        return await call.subscribing.subscribe(
            call.ref,
            _client_id(call),
            ttl=fields.ttl,
            options=fields.options,
            is_binary=call.is_binary,
        )
    subscriber = subscriber or ""
    check_queue(call.caller, subscribed_queue(subscriber))
    return await subscriptions.create(
        service,
        call.ref,
        subscriber=subscriber,
        ttl=_ttl(service, fields),
        options=fields.options,
        confirm_at=confirmation_path,
        asker=asker_of(call),
        renews=False,
    )


def _client_id(call: FrameCall) -> str:
    """The client's id in one form, by which it is known again on its next connection."""
    client_id = call.headers[b"client-id"]
    if not 0 < len(client_id) <= MAX_CLIENT_ID_BYTES:
        raise ValidationFailed(
            f"A subscription without a subscriber needs a Client-ID of 1 to {MAX_CLIENT_ID_BYTES} bytes"
        )
    try:
        return canonical_uuid(client_id)
    except HeaderInvalid:
        return call.client_id


def _ttl(service: Service, fields: CreateFields) -> int | None:
    if fields.ttl is None:
        return None
    return check_ttl(fields.ttl, service.clock.now(), least=MIN_SECONDS)


async def list_subscriptions(service: Service, call: FrameCall, fields: PageFields) -> Answer:
    found = await subscriptions.list_subscriptions(
        service, call.ref, marker=fields.marker, limit=fields.limit
    )
    return document({"subscriptions": [subscription(one, service) for one in found]})


async def show(service: Service, call: FrameCall, fields: SubscriptionFields) -> Answer:
    found = await subscriptions.get(service, call.ref, fields.subscription_id)
    return document(subscription(found, service))


async def delete(service: Service, call: FrameCall, fields: SubscriptionFields) -> Answer:
    await subscriptions.delete(service, call.ref, fields.subscription_id)
    if call.subscribing is not None:
        call.subscribing.forget(fields.subscription_id)
    return document(f"Subscription {fields.subscription_id} removed.", HTTPStatus.NO_CONTENT)


_MANY = "/{queue_name}/subscriptions"
_ONE = "/{queue_name}/subscriptions/{subscription_id}"

ACTIONS = (
    action(SUBSCRIBE, "POST", _MANY, CreateFields, create, is_signable=True),
    action("subscription_list", "GET", _MANY, PageFields, list_subscriptions),
    action("subscription_get", "GET", _ONE, SubscriptionFields, show),
    action("subscription_delete", "DELETE", _ONE, SubscriptionFields, delete),
)
