"""Subscriptions of a queue: confirmation, signing secrets, and deliveries that were given up."""

from __future__ import annotations

from http import HTTPStatus

import orjson

from api.answers import NO_CONTENT, Answer, at, document
from api.credentials import asker_of
from api.refusals import SubscriptionNotConfirmed
from api.requests import Call
from api.resources import Body, Operation, Parameter, Reply, Resource
from api.v2 import schemas
from api.v2.shapes import given_up, subscription
from api.zaqar.examples import MESSAGE_ID, SUBSCRIPTION_ID
from api.zaqar.links import next_links, queue_href, queue_path
from api.zaqar.query import Query
from api.zaqar.schemas import Limit, Link
from zaqar_notify import subscriptions
from zaqar_notify.auth.confinement import check_named_queues, check_queue
from zaqar_notify.delivery.subscribers import check_ttl, subscribed_queue, warn_of_options
from zaqar_notify.errors import (
    SubscriptionDoesNotExist,
    SubscriptionExists,
    SubscriptionNotChanged,
    ValidationFailed,
)
from zaqar_notify.models import JsonObject, Subscription
from zaqar_notify.rules.jsontext import read_json
from zaqar_notify.rules.limits import MIN_SECONDS
from zaqar_notify.rules.unread import Warn, warn_of_fields
from zaqar_notify.service import Service
from zaqar_notify.subscriptions import SigningSecret

MAX_SUBSCRIPTION_BODY = 131072
"""Bytes: options and subscriber at their largest, with room for white space."""

CHANGEABLE = ("subscriber", "ttl", "options")
FIXED = ("project", "queue")


async def create(service: Service, call: Call) -> Answer:
    body = await call.body(MAX_SUBSCRIPTION_BODY)
    asked = _read_object(body)
    if "subscriber" not in asked:
        raise ValidationFailed("Missing parameter subscriber in the body: the URI to notify")
    _check_subscriber(call, asked)
    _warn_of_unread(service, asked, call.warn)
    created = await subscriptions.create(
        service,
        call.ref,
        subscriber=asked["subscriber"],
        ttl=_read_ttl(service, asked),
        options=asked.get("options"),
        confirm_at=confirmation_path,
        asker=asker_of(call),
    )
    await _warn_of_suppression(service, call, created)
    return at(HTTPStatus.CREATED, call.href, orjson.dumps({"subscription_id": created.id}))


async def list_subscriptions(service: Service, call: Call) -> Answer:
    query = Query(call.query_string)
    found = await subscriptions.list_subscriptions(
        service, call.ref, marker=query.text("marker"), limit=query.integer("limit")
    )
    links = next_links(call.href, query.sent, found[-1].id if found else None)
    return document(
        {
            "subscriptions": [subscription(one, service) for one in found],
            "links": orjson.Fragment(links),
        }
    )


async def show(service: Service, call: Call) -> Answer:
    return await shown(
        service, await subscriptions.get(service, call.ref, call.names["subscription_id"])
    )


async def shown(service: Service, one: Subscription) -> Answer:
    """The subscription; while it is disabled, with the number of deliveries that wait."""
    waiting = None if one.disabled_at is None else await subscriptions.waiting(service, one)
    return document(subscription(one, service, waiting=waiting))


async def change(service: Service, call: Call) -> Answer:
    body = await call.body(MAX_SUBSCRIPTION_BODY)
    asked = _read_object(body)
    if not asked:
        raise ValidationFailed(f"The body must have one of the fields {', '.join(CHANGEABLE)}")
    _check_subscriber(call, asked)
    _warn_of_unread(service, asked, call.warn)
    if any(key in asked for key in FIXED):
        raise SubscriptionNotChanged
    await subscriptions.change(
        service,
        call.ref,
        call.names["subscription_id"],
        subscriber=asked.get("subscriber"),
        ttl=_read_ttl(service, asked),
        options=asked.get("options"),
        confirm_at=confirmation_path,
        asker=asker_of(call),
    )
    return at(HTTPStatus.NO_CONTENT, _href(call))


async def delete(service: Service, call: Call) -> Answer:
    await subscriptions.delete(service, call.ref, call.names["subscription_id"])
    return NO_CONTENT


async def confirm(service: Service, call: Call) -> Answer:
    body = await call.body(MAX_SUBSCRIPTION_BODY)
    await subscriptions.confirm(
        service,
        call.ref,
        call.names["subscription_id"],
        _read_confirmed(body),
        signed_for=call.caller.signed_paths,
        confirm_at=confirmation_path,
    )
    return at(HTTPStatus.NO_CONTENT, f"{_href(call)}/confirm")


async def show_secret(service: Service, call: Call) -> Answer:
    return _secret(await subscriptions.secret(service, call.ref, call.names["subscription_id"]))


async def rotate_secret(service: Service, call: Call) -> Answer:
    asked = _read_object(await call.body(MAX_SUBSCRIPTION_BODY))
    warn_of_fields(asked, ("secret", "overlap_seconds"), where="field", warn=call.warn)
    return _secret(
        await subscriptions.rotate_secret(
            service,
            call.ref,
            call.names["subscription_id"],
            overlap_seconds=asked.get("overlap_seconds"),
            given=asked.get("secret"),
        )
    )


async def show_public_key(service: Service, call: Call) -> Answer:
    found = await subscriptions.public_key(service, call.ref, call.names["subscription_id"])
    return document({"public_key": found.current, "former_public_keys": found.former})


async def list_undelivered(service: Service, call: Call) -> Answer:
    query = Query(call.query_string)
    found = await subscriptions.undelivered(
        service,
        call.ref,
        call.names["subscription_id"],
        marker=query.text("marker"),
        limit=query.integer("limit"),
    )
    links = next_links(call.href, query.sent, found[-1].id if found else None)
    return document(
        {
            "undelivered": [given_up(one, service.clock) for one in found],
            "links": orjson.Fragment(links),
        }
    )


def confirmation_path(subscription: Subscription) -> str:
    """The path that confirms a subscription, below the public URL."""
    return f"/v2{queue_path(subscription.queue)}/subscriptions/{subscription.id}/confirm"


def _check_subscriber(call: Call, asked: JsonObject) -> None:
    """Refuse a subscriber that is a queue out of the caller's reach, and options that name one."""
    subscriber = asked.get("subscriber")
    if isinstance(subscriber, str):
        queue = subscribed_queue(subscriber)
        check_queue(call.caller, queue)
        if queue == call.ref.name:
            call.warn(
                "subscriber: a queue that subscribes to itself gets nothing by it: no message returns to a queue that it crossed"
            )
    check_named_queues(call.caller, asked.get("options"))


def _read_object(body: bytes) -> JsonObject:
    asked = read_json(body) if body else {}
    if not isinstance(asked, dict):
        raise ValidationFailed("Subscriptions must be a dict. Send the fields as a JSON object")
    return asked


def _read_ttl(service: Service, asked: JsonObject) -> int | None:
    ttl = asked.get("ttl")
    return None if ttl is None else check_ttl(ttl, service.clock.now(), least=MIN_SECONDS)


def _read_confirmed(body: bytes) -> bool:
    """The value of `{"confirmed": true | false}`."""
    if not body:
        raise ValidationFailed('A JSON body is required: {"confirmed": true} or false')
    asked = read_json(body)
    if not isinstance(asked, dict):
        raise SubscriptionNotConfirmed
    confirmed = asked.get("confirmed")
    if not isinstance(confirmed, bool):
        raise ValidationFailed("The 'confirmed' should be boolean. Send true or false")
    return confirmed


def _warn_of_unread(service: Service, asked: JsonObject, warn: Warn) -> None:
    warn_of_fields(asked, CHANGEABLE, where="field", warn=warn)
    options = asked.get("options")
    if isinstance(options, dict):
        warn_of_options(options, service.kinds, warn)


async def _warn_of_suppression(service: Service, call: Call, created: Subscription) -> None:
    addressee = subscriptions.addressee_of(service, created.subscriber)
    if addressee is None:
        return
    found = await subscriptions.suppression_of(service, call.project, addressee)
    if found is not None:
        call.warn(
            "The addressee has unsubscribed from this project, and gets nothing until it confirms by a link that it "
            f"has, or until DELETE /v2/suppressions/{found.id}"
        )


def _href(call: Call) -> str:
    """A link to the subscription. It exists, so its id needs no quoting."""
    return f"{queue_href(call)}/subscriptions/{call.names['subscription_id']}"


def _secret(secret: SigningSecret) -> Answer:
    return document({"secret": secret.current, "former_secrets": secret.former})


SUBSCRIPTIONS = "/v2/queues/demo/subscriptions"
SUBSCRIBER = "https://example.org/hook"
SECRET = schemas.SigningSecrets("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", ["whsec_…"])

PUBLIC_KEY = schemas.PublicKeys("whpk_OXuLPhUI2D2WrAVAVKUWDXENGcWBnX2xHHEMTKXJqCs=", ["whpk_…"])

SUBSCRIPTION = schemas.Subscription(
    id=SUBSCRIPTION_ID,
    source="demo",
    subscriber=SUBSCRIBER,
    ttl=3600,
    age=12,
    options={"post_headers": {"X-Key": "1"}},
    confirmed=False,
    expires_at="2026-11-20T20:17:57Z",
)

UNDELIVERED = schemas.Undelivered(
    id=MESSAGE_ID,
    delivery_id="msg_2b0a6f0f4b8d4b3a9c1d5e7f90a1b2c3",
    message_id=MESSAGE_ID,
    verdict="refused",
    status=404,
    detail="HTTP 404",
    attempts=1,
    given_up_at="2026-11-20T19:17:57Z",
    payload={
        "ttl": 300,
        "body": {"event": "hello"},
        "Message_Type": "Notification",
        "queue_name": "demo",
    },
)

RESOURCES = (
    Resource(
        "/v2/queues/{queue_name}/subscriptions",
        {
            "POST": Operation(
                create,
                "subscription:create",
                "Subscribe to a queue",
                {
                    201: Reply(
                        "Subscribed; or one that was not confirmed yet, with the new ttl and options",
                        schemas.Subscribed(SUBSCRIPTION_ID),
                        location=SUBSCRIPTIONS,
                    )
                },
                description="`subscriber` is a URI such as `https://…`, `mailto:…` or `queue:…`. Every message "
                "posted from now on is sent to it, for `ttl` seconds. The component `SubscriptionOptions` has the options that "
                "the kinds of subscribers of this service read.",
                body=Body(
                    schemas.NewSubscription(SUBSCRIBER, 3600, {"post_headers": {"X-Key": "1"}})
                ),
                refuses=(SubscriptionExists("demo", SUBSCRIBER),),
            ),
            "GET": Operation(
                list_subscriptions,
                "subscription:get_all",
                "List a queue's subscriptions",
                {
                    200: Reply(
                        "A page, in order of creation",
                        schemas.SubscriptionPage(
                            [SUBSCRIPTION],
                            [Link("next", f"{SUBSCRIPTIONS}?marker={SUBSCRIPTION_ID}")],
                        ),
                    )
                },
                query=(
                    Parameter("marker", "Begin after this subscription.", str, SUBSCRIPTION_ID),
                    Parameter("limit", "Subscriptions in the page, 1 to 20.", Limit, 10),
                ),
            ),
        },
    ),
    Resource(
        "/v2/queues/{queue_name}/subscriptions/{subscription_id}",
        {
            "GET": Operation(
                show,
                "subscription:get",
                "Show a subscription",
                {200: Reply("The subscription", SUBSCRIPTION)},
                refuses=(SubscriptionDoesNotExist("demo", SUBSCRIPTION_ID),),
            ),
            "PATCH": Operation(
                change,
                "subscription:update",
                "Change a subscription",
                {204: Reply("Changed", location=f"{SUBSCRIPTIONS}/{SUBSCRIPTION_ID}")},
                description="A new `ttl` counts from now; `options` are replaced whole; a new "
                "`subscriber` has confirmed nothing yet. A subscription that was disabled is "
                "enabled, and its held messages are delivered; one that is paused stays so.",
                body=Body(schemas.SubscriptionChange(ttl=7200)),
                refuses=(
                    SubscriptionDoesNotExist("demo", SUBSCRIPTION_ID),
                    SubscriptionExists("demo", SUBSCRIBER),
                ),
            ),
            "DELETE": Operation(
                delete,
                "subscription:delete",
                "Unsubscribe",
                {204: Reply("Deleted, or there was none")},
            ),
        },
    ),
    Resource(
        "/v2/queues/{queue_name}/subscriptions/{subscription_id}/confirm",
        {
            "PUT": Operation(
                confirm,
                "subscription:confirm",
                "Confirm a subscription, or leave",
                {204: Reply("Set", location=f"{SUBSCRIPTIONS}/{SUBSCRIPTION_ID}/confirm")},
                description="Called by the subscriber, with the pre-signed headers that it was "
                "sent; where confirmation is required, no other client can set `true`.",
                body=Body(schemas.Confirmation(confirmed=True)),
                refuses=(SubscriptionDoesNotExist("demo", SUBSCRIPTION_ID),),
            )
        },
    ),
    Resource(
        "/v2/queues/{queue_name}/subscriptions/{subscription_id}/secret",
        {
            "GET": Operation(
                show_secret,
                "subscription:get_secret",
                "Show the secret that signs a subscription's webhooks",
                {200: Reply("Standard Webhooks secrets; the former ones still sign, too", SECRET)},
                refuses=(SubscriptionDoesNotExist("demo", SUBSCRIPTION_ID),),
            ),
            "POST": Operation(
                rotate_secret,
                "subscription:rotate_secret",
                "Make a new signing secret",
                {200: Reply("The new secret; the former one signs beside it for a while", SECRET)},
                description="The subscription has a new ed25519 key, too. `overlap_seconds`: so long the present secret "
                "and key sign beside the new ones; without it a day (ZAQAR_WEBHOOK_SECRET_OVERLAP_SECONDS). `secret`: the new "
                "secret, for a receiver that has one already; without it the service makes one.",
                body=Body(schemas.Rotation(overlap_seconds=3600), required=False),
                refuses=(SubscriptionDoesNotExist("demo", SUBSCRIPTION_ID),),
            ),
        },
        is_signable=False,
    ),
    Resource(
        "/v2/queues/{queue_name}/subscriptions/{subscription_id}/public_key",
        {
            "GET": Operation(
                show_public_key,
                "subscription:get_public_key",
                "Show the public key of a subscription's ed25519 signatures",
                {200: Reply("Standard Webhooks public keys", PUBLIC_KEY)},
                description="Webhooks are signed with its private key if the option `_signature` is `ed25519`.",
                refuses=(SubscriptionDoesNotExist("demo", SUBSCRIPTION_ID),),
            )
        },
        is_signable=False,
    ),
    Resource(
        "/v2/queues/{queue_name}/subscriptions/{subscription_id}/undelivered",
        {
            "GET": Operation(
                list_undelivered,
                "subscription:get_undelivered",
                "List the deliveries that were given up",
                {
                    200: Reply(
                        "A page, oldest first",
                        schemas.UndeliveredPage(
                            [UNDELIVERED],
                            [
                                Link(
                                    "next",
                                    f"{SUBSCRIPTIONS}/{SUBSCRIPTION_ID}/undelivered?marker={MESSAGE_ID}",
                                )
                            ],
                        ),
                    )
                },
                query=(
                    Parameter("marker", "Begin after this record.", str, MESSAGE_ID),
                    Parameter("limit", "Records in the page, 1 to 20.", Limit, 10),
                ),
                refuses=(SubscriptionDoesNotExist("demo", SUBSCRIPTION_ID),),
            )
        },
        is_signable=False,
    ),
)
