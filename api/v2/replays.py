"""Replays of a subscription's deliveries, and redrives of dead-letter queues."""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from api.answers import NO_CONTENT, Answer, at
from api.answers import document as answer
from api.documents import read_document
from api.requests import Call
from api.resources import Body, Operation, Reply, Resource
from api.v2 import schemas
from api.zaqar.examples import MESSAGE_ID, SUBSCRIPTION_ID
from api.zaqar.messages import idempotency_key
from api.zaqar.shapes import instant
from zaqar_notify import subscriptions
from zaqar_notify.auth.confinement import check_queue
from zaqar_notify.clock import Clock
from zaqar_notify.delivery.bulk import Bulk, Outcome, Selection
from zaqar_notify.errors import ReplayDoesNotExist, SubscriptionDoesNotExist, TooManyReplays
from zaqar_notify.models import JsonObject
from zaqar_notify.rules.tokens import covers
from zaqar_notify.service import Service

MAX_BODY = 262_144
"""Bytes: 2,000 ids at their longest, with room for white space."""

_replay = msgspec.json.Decoder(schemas.NewReplay)
_redrive = msgspec.json.Decoder(schemas.NewRedrive)


async def replay(service: Service, call: Call) -> Answer:
    body = await call.body(MAX_BODY)
    asked = read_document(body, _replay) if body else schemas.NewReplay()
    ordered = await subscriptions.replay(
        service,
        call.ref,
        call.names["subscription_id"],
        Selection(
            outcome=Outcome(asked.outcome),
            delivery_ids=frozenset(asked.delivery_ids),
            message_ids=frozenset(asked.message_ids),
            since=asked.since,
            until=asked.until,
        ),
        per_second=asked.per_second,
        key=_key(service, call, body),
    )
    return _accepted(service, call, ordered)


async def redrive(service: Service, call: Call) -> Answer:
    body = await call.body(MAX_BODY)
    asked = read_document(body, _redrive) if body else schemas.NewRedrive()
    check_queue(call.caller, asked.target)
    ordered = await subscriptions.redrive(
        service,
        call.ref,
        target=asked.target,
        per_second=asked.per_second,
        key=_key(service, call, body),
        queues=call.caller.queues,
    )
    return _accepted(service, call, ordered)


async def list_replays(service: Service, call: Call) -> Answer:
    within = call.caller.queues
    found = [
        _shown(one, service.clock, call)
        for one in await subscriptions.replays(service, call.project)
        if within is None or covers(within, one.queue)
    ]
    return answer({"replays": found})


async def show(service: Service, call: Call) -> Answer:
    return answer(_shown(await _named(service, call), service.clock, call))


async def cancel(service: Service, call: Call) -> Answer:
    await subscriptions.cancel_replay(service, await _named(service, call))
    return NO_CONTENT


async def _named(service: Service, call: Call) -> Bulk:
    found = await subscriptions.replay_of_id(service, call.project, call.names["replay_id"])
    check_queue(call.caller, found.queue)
    return found


def _key(service: Service, call: Call, body: bytes) -> str | None:
    key = idempotency_key(call, body, service.settings)
    return None if key is None else key.key


def _accepted(service: Service, call: Call, ordered: Bulk) -> Answer:
    shown = _shown(ordered, service.clock, call)
    return at(HTTPStatus.ACCEPTED, shown["href"], msgspec.json.encode(shown))


def _shown(bulk: Bulk, clock: Clock, call: Call) -> JsonObject:
    shown: JsonObject = {
        "id": bulk.id,
        "kind": bulk.kind.value,
        "queue": bulk.ref.public_name,
        "state": bulk.state.value,
        "total": bulk.total,
        "seen": bulk.seen,
        "moved": bulk.moved,
        "left": bulk.left,
        "per_second": bulk.per_second,
        "reason": bulk.reason,
        "asked_at": instant(clock.on_host(bulk.asked_at)),
        "ended_at": None if bulk.ended_at is None else instant(clock.on_host(bulk.ended_at)),
        "href": f"{call.prefix}/v2/replays/{bulk.id}",
    }
    others = {"subscription_id": bulk.subscription_id, "target": bulk.target}
    return shown | {name: value for name, value in others.items() if value}


REPLAY_ID = "6e8f5c2b4a3d4f0e9b7a1c2d3e4f5a6b"
REPLAY = schemas.Replay(
    *(REPLAY_ID, "replay", "demo", "running"),
    total=1200,
    seen=300,
    moved=300,
    left=0,
    per_second=100,
    reason="",
    asked_at="2026-11-20T19:20:00Z",
    ended_at=None,
    href=f"/v2/replays/{REPLAY_ID}",
    subscription_id=SUBSCRIPTION_ID,
)
REDRIVE = msgspec.structs.replace(
    REPLAY, kind="redrive", subscription_id=msgspec.UNSET, target="orders"
)
_LOCATION = f"/v2/replays/{REPLAY_ID}"
_UNKNOWN = (ReplayDoesNotExist(REPLAY_ID),)
_FULL = TooManyReplays(20)

OF_SUBSCRIPTIONS = (
    Resource(
        "/v2/queues/{queue_name}/subscriptions/{subscription_id}/replay",
        {
            "POST": Operation(
                replay,
                "subscription:replay",
                "Replay deliveries",
                {202: Reply("The replay, which goes on by itself", REPLAY, location=_LOCATION)},
                description="Deliveries that were given up are owed again, and their records removed; or all messages "
                "that are still on the queue are delivered anew. With an `Idempotency-Key`, a repeated request is the "
                "replay that there is.",
                body=Body(
                    schemas.NewReplay("undelivered", message_ids=[MESSAGE_ID], per_second=50),
                    required=False,
                ),
                refuses=(SubscriptionDoesNotExist("demo", SUBSCRIPTION_ID), _FULL),
            )
        },
        is_signable=False,
    ),
)
"""Those that topics have, too."""

RESOURCES = (
    *OF_SUBSCRIPTIONS,
    Resource(
        "/v2/queues/{queue_name}/redrive",
        {
            "POST": Operation(
                redrive,
                "queues:redrive",
                "Redrive a dead-letter queue",
                {202: Reply("The redrive, which goes on by itself", REDRIVE, location=_LOCATION)},
                description="The messages that are on the queue now go back to where they came from: those that claims "
                "moved to their queue, deliveries that were given up to their subscription. With a `target`, all go to that queue.",
                body=Body(schemas.NewRedrive("orders", 50), required=False),
                refuses=(_FULL,),
            )
        },
        is_signable=False,
    ),
    Resource(
        "/v2/replays",
        {
            "GET": Operation(
                list_replays,
                "replays:get_all",
                "List replays and redrives",
                {
                    200: Reply(
                        "Those under way, and those that ended in the last week",
                        schemas.ReplayPage([REPLAY]),
                    )
                },
            )
        },
        is_signable=False,
    ),
    Resource(
        "/v2/replays/{replay_id}",
        {
            "GET": Operation(
                show,
                "replays:get",
                "Show a replay or redrive",
                {200: Reply("How far it is", REPLAY)},
                refuses=_UNKNOWN,
            ),
            "DELETE": Operation(
                cancel,
                "replays:delete",
                "Cancel a replay or redrive",
                {204: Reply("It ends within seconds; deliveries that it made due stay due")},
                refuses=_UNKNOWN,
            ),
        },
        is_signable=False,
    ),
)
