"""The delivery log: attempts, deliveries, and the statistics of a subscription."""

from __future__ import annotations

from datetime import datetime
from functools import partial

import msgspec

from api.answers import Answer
from api.refusals import ParameterInvalid
from api.requests import Call
from api.resources import Operation, Parameter, Reply, Resource
from api.v2.logged import (
    AttemptPage,
    Breaker,
    DeliveryPage,
    LastError,
    Latency,
    ShownAttempt,
    ShownDelivery,
    ShownStatistics,
    attempt,
    delivery,
    statistics,
)
from api.zaqar import schemas
from api.zaqar.examples import MESSAGE_ID, SUBSCRIPTION_ID
from api.zaqar.links import next_links
from api.zaqar.query import Query
from zaqar_notify import subscriptions
from zaqar_notify.auth.confinement import may_see
from zaqar_notify.delivery.attempts import State
from zaqar_notify.errors import DeliveryNotLogged, SubscriptionDoesNotExist
from zaqar_notify.models import MessageType, Verdict
from zaqar_notify.rules.names import queue_ref, topic_ref
from zaqar_notify.service import Service
from zaqar_notify.subscriptions import OUTCOMES, Wanted, Where


async def list_all(service: Service, call: Call) -> Answer:
    query = Query(call.query_string)
    return await _attempts(service, call, query, _where(call, query))


async def list_of_subscription(service: Service, call: Call) -> Answer:
    found = await subscriptions.get(service, call.ref, call.names["subscription_id"])
    where = Where(call.project, call.ref.name, found.id)
    return await _attempts(service, call, Query(call.query_string), where)


async def list_of_message(service: Service, call: Call) -> Answer:
    query = Query(call.query_string)
    page = await subscriptions.deliveries_of_message(
        service,
        call.ref,
        call.names["message_id"],
        marker=query.text("marker"),
        limit=query.integer("limit"),
    )
    links = msgspec.Raw(next_links(call.href, query.sent, page.marker))
    return _json({"deliveries": [delivery(each) for each in page.deliveries], "links": links})


async def show(service: Service, call: Call) -> Answer:
    query = Query(call.query_string)
    found = await subscriptions.delivery(service, _where(call, query), call.names["delivery_id"])
    return _json(delivery(found))


async def show_statistics(service: Service, call: Call) -> Answer:
    subscription_id = call.names["subscription_id"]
    found = await subscriptions.statistics(service, call.ref, subscription_id)
    return _json(statistics(subscription_id, found, service.clock))


def _where(call: Call, query: Query) -> Where:
    """Raises NotifyError: No queue or topic can have the name."""
    queue, topic = query.text("queue"), query.text("topic")
    ref = None
    if queue is not None:
        ref = queue_ref(call.project, queue)
    elif topic is not None:
        ref = topic_ref(call.project, topic)
    return Where(
        call.project,
        None if ref is None else ref.name,
        query.text("subscription"),
        partial(may_see, call.caller),
    )


async def _attempts(service: Service, call: Call, query: Query, where: Where) -> Answer:
    wanted = Wanted(
        message_id=query.text("message"),
        verdicts=_verdicts(query),
        since=_instant(query, "since"),
        until=_instant(query, "until"),
    )
    page = await subscriptions.attempts(
        service, where, wanted, marker=query.text("marker"), limit=query.integer("limit")
    )
    return _json(
        {
            "attempts": [attempt(each) for each in page.attempts],
            "left_out": page.left_out,
            "links": msgspec.Raw(next_links(call.href, query.sent, page.marker)),
        }
    )


def _json(value: object) -> Answer:
    return Answer(200, msgspec.json.encode(value))


def _verdicts(query: Query) -> tuple[Verdict, ...] | None:
    words = query.words("outcome")
    if unknown := [word for word in words if word not in OUTCOMES]:
        raise ParameterInvalid(
            f"outcome must be one of {', '.join(OUTCOMES)}, not {unknown[0][:80]!r}"
        )
    return tuple(verdict for word in words for verdict in OUTCOMES[word]) or None


def _instant(query: Query, name: str) -> datetime | None:
    """Raises ParameterInvalid: The value is no instant with a zone."""
    text = query.text(name)
    if text is None:
        return None
    try:
        # A `+` of a zone that a client did not encode came as a blank.
        at = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise ParameterInvalid(
            f"{name} must be an ISO 8601 instant with its zone, such as 2026-11-30T12:00:00Z, not {text[:80]!r}"
        )
    return at


GROUP = "06617a90b1c2d3e4f5061728"
DELIVERY = "msg_2b0a6f0f4b8d4b3a9c1d5e7f90a1b2c3"
SUBSCRIPTION = f"/v2/queues/demo/subscriptions/{SUBSCRIPTION_ID}"
_EXAMPLE = ShownAttempt(
    id=f"{GROUP}.00",
    delivery_id=DELIVERY,
    message_id=MESSAGE_ID,
    queue="demo",
    subscription_id=SUBSCRIPTION_ID,
    attempt=1,
    at="2026-11-30T12:00:00.123Z",
    verdict=Verdict.TRY_LATER,
    status=503,
    detail="HTTP 503",
    answer="Back soon",
    latency_ms=12,
    bytes=118,
    worker="3f9a1c02",
    state=State.RETRYING,
    next_attempt_at="2026-11-30T12:00:05.140Z",
    type=MessageType.NOTIFICATION,
    request_id="req-9a0fdd28-ab2c-4c3a-8c2b-0123456789ab",
)
_DELIVERY = ShownDelivery(
    id=DELIVERY,
    queue="demo",
    subscription_id=SUBSCRIPTION_ID,
    message_id=MESSAGE_ID,
    state=State.RETRYING,
    next_attempt_at=_EXAMPLE.next_attempt_at,
    attempts=[_EXAMPLE],
)
_STATISTICS = ShownStatistics(
    subscription_id=SUBSCRIPTION_ID,
    since="2026-11-30T11:00:00.000Z",
    delivered=1205,
    failed_attempts=1,
    postponed_attempts=0,
    left_out=0,
    failing=1,
    parked=0,
    held=0,
    dead=0,
    oldest_pending_age=3.2,
    latency_ms=Latency(9.5, 45.3),
    last_success_at="2026-11-30T11:59:59.871Z",
    last_error=LastError(_EXAMPLE.at, Verdict.TRY_LATER, 503, "HTTP 503", "Back soon"),
    breaker=Breaker("closed", None, None, 1, _EXAMPLE.at),
    disabled_at=None,
)

_MARKER = f"demo:{SUBSCRIPTION_ID}:{GROUP}.00"
_FILTERS = (
    Parameter("message", "Only attempts of this message.", str, MESSAGE_ID),
    Parameter(
        "outcome",
        f"Only attempts that ended so: {', '.join(OUTCOMES)}. Several are separated by commas.",
        str,
        "failed",
    ),
    Parameter("since", "Only attempts at this instant or later.", str, "2026-11-30T12:00:00Z"),
    Parameter("until", "Only attempts before this instant.", str, "2026-11-30T13:00:00Z"),
    Parameter("marker", "Begin after this place.", str, _MARKER),
    Parameter("limit", "Attempts in the page, 1 to 20.", schemas.Limit, 10),
)
_QUEUE = Parameter("queue", "Only this queue's.", str, "demo")
_TOPIC = Parameter("topic", "Only this topic's.", str, "demo")
_SUBSCRIPTION = Parameter("subscription", "Only this subscription's.", str, SUBSCRIPTION_ID)


def _page(path: str) -> AttemptPage:
    return AttemptPage([_EXAMPLE], 0, [schemas.Link("next", f"{path}?marker={_MARKER}")])


RESOURCES = (
    Resource(
        "/v2/deliveries",
        {
            "GET": Operation(
                list_all,
                "subscription:get_deliveries",
                "List attempts of the project's deliveries",
                {
                    200: Reply(
                        "A page, by queue and subscription, and by time within one",
                        _page("/v2/deliveries"),
                    )
                },
                description="One request looks at a limited number of subscriptions: where there is a `next` link, "
                "there may be more, even after an empty page. A token that is confined to some queues sees theirs.",
                query=(
                    _QUEUE,
                    _TOPIC,
                    _SUBSCRIPTION,
                    *_FILTERS,
                ),
                refuses=(ParameterInvalid("outcome must be one of delivered, failed, not 'x'"),),
            )
        },
        is_signable=False,
    ),
    Resource(
        "/v2/deliveries/{delivery_id}",
        {
            "GET": Operation(
                show,
                "subscription:get_deliveries",
                "Show a delivery with its attempts",
                {200: Reply("The delivery", _DELIVERY)},
                description="The id is that of the `webhook-id` header, of an attempt, or of an undelivered message. "
                "With its queue or subscription it is found sooner; with its subscription, even before its first "
                "attempt.",
                query=(_QUEUE, _TOPIC, _SUBSCRIPTION),
                refuses=(DeliveryNotLogged(DELIVERY),),
            )
        },
        is_signable=False,
    ),
)

OF_QUEUES = (
    Resource(
        "/v2/queues/{queue_name}/subscriptions/{subscription_id}/deliveries",
        {
            "GET": Operation(
                list_of_subscription,
                "subscription:get_deliveries",
                "List attempts of a subscription's deliveries",
                {200: Reply("A page, oldest first", _page(f"{SUBSCRIPTION}/deliveries"))},
                query=_FILTERS,
                refuses=(
                    SubscriptionDoesNotExist("demo", SUBSCRIPTION_ID),
                    ParameterInvalid("outcome must be one of delivered, failed, not 'x'"),
                ),
            )
        },
        is_signable=False,
    ),
    Resource(
        "/v2/queues/{queue_name}/subscriptions/{subscription_id}/stats",
        {
            "GET": Operation(
                show_statistics,
                "subscription:get_stats",
                "Show the statistics of a subscription",
                {200: Reply("The numbers of all workers", _STATISTICS)},
                refuses=(SubscriptionDoesNotExist("demo", SUBSCRIPTION_ID),),
            )
        },
        is_signable=False,
    ),
    Resource(
        "/v2/queues/{queue_name}/messages/{message_id}/deliveries",
        {
            "GET": Operation(
                list_of_message,
                "subscription:get_deliveries",
                "List the deliveries of a message",
                {
                    200: Reply(
                        "A page, by subscription, with the deliveries of which the log has an attempt",
                        DeliveryPage(
                            [_DELIVERY],
                            [
                                schemas.Link(
                                    "next",
                                    f"/v2/queues/demo/messages/{MESSAGE_ID}/deliveries?marker={SUBSCRIPTION_ID}",
                                )
                            ],
                        ),
                    )
                },
                query=(
                    Parameter("marker", "Begin after this subscription.", str, SUBSCRIPTION_ID),
                    Parameter("limit", "Deliveries in the page, 1 to 20.", schemas.Limit, 10),
                ),
            )
        },
        is_signable=False,
    ),
)
"""Those of queues, which topics have, too."""
