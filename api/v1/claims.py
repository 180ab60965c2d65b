"""Claims of version 1: both times have to be named, and messages come as a bare array."""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus

import msgspec

from api.answers import NO_CONTENT, Answer, at
from api.documents import read_document
from api.requests import Call
from api.resources import Body, Operation, Parameter, Reply, Resource
from api.v1 import schemas
from api.v1.schemas import QUEUE, MessageOfV1, NewClaimOfV1, RenewalOfV1
from api.v1.shapes import located, messages
from api.zaqar import claims as common
from api.zaqar.bodies import check_terms
from api.zaqar.examples import CLAIM_ID, MESSAGE_ID, WAIT
from api.zaqar.links import queue_href
from api.zaqar.query import Query, long_poll
from api.zaqar.schemas import Limit
from api.zaqar.shapes import age
from zaqar_notify import claims
from zaqar_notify.errors import ClaimDoesNotExist
from zaqar_notify.service import Service

_claim_body = msgspec.json.Decoder(NewClaimOfV1)
_renewal_body = msgspec.json.Decoder(RenewalOfV1)


async def create(service: Service, call: Call) -> Answer:
    query = Query(call.query_string)
    asked = read_document(await call.body(common.MAX_CLAIM_BODY), _claim_body)
    check_terms(asked.ttl, asked.grace, service.settings)
    claim = await claims.create(
        service,
        call.ref,
        ttl=asked.ttl,
        grace=asked.grace,
        limit=query.integer("limit"),
        wait=long_poll(call, query, service),
    )
    if claim is None:
        return NO_CONTENT
    found = messages(queue_href(call), claim.messages, service.clock.now(), claim.id)
    return at(HTTPStatus.CREATED, f"{queue_href(call)}/claims/{claim.id}", found)


async def show(service: Service, call: Call) -> Answer:
    claim = await claims.get(service, call.ref, call.names["claim_id"])
    now = service.clock.now()
    since = claim.expires_at - timedelta(seconds=claim.ttl)
    shown = b'{"age":%d,"ttl":%d,"messages":%b,"href":"%b"}' % (
        age(since, now),
        claim.ttl,
        messages(queue_href(call), claim.messages, now, claim.id),
        f"{queue_href(call)}/claims/{claim.id}".encode(),
    )
    return located(Answer(HTTPStatus.OK, shown), call)


async def renew(service: Service, call: Call) -> Answer:
    asked = read_document(await call.body(common.MAX_CLAIM_BODY), _renewal_body)
    check_terms(asked.ttl, asked.grace, service.settings, least_grace=0)
    claim_id = call.names["claim_id"]
    await claims.renew(service, call.ref, claim_id, ttl=asked.ttl, grace=asked.grace)
    return NO_CONTENT


CLAIM = f"{QUEUE}/claims/{CLAIM_ID}"
MESSAGE = MessageOfV1(
    href=f"{QUEUE}/messages/{MESSAGE_ID}?claim_id={CLAIM_ID}",
    ttl=300,
    age=5,
    body={"event": "hello"},
)

RESOURCES = (
    Resource(
        "/v1/queues/{queue_name}/claims",
        {
            "POST": Operation(
                create,
                "claims:create",
                "Claim messages",
                {
                    201: Reply("Claimed, oldest first", [MESSAGE], location=CLAIM),
                    204: Reply("Nothing to claim"),
                },
                description="No other claim gets these messages until `ttl` seconds have passed. "
                "They live at least `grace` seconds longer.",
                query=(Parameter("limit", "Messages at most, 1 to 20.", Limit, 10), WAIT),
                body=Body(NewClaimOfV1(ttl=300, grace=60)),
                takes_messages=True,
            )
        },
    ),
    Resource(
        "/v1/queues/{queue_name}/claims/{claim_id}",
        {
            "GET": Operation(
                show,
                "claims:get",
                "Show a claim",
                {
                    200: Reply(
                        "The claim, with the messages that it still holds",
                        schemas.ClaimOfV1(age=5, ttl=300, messages=[MESSAGE], href=CLAIM),
                    )
                },
                refuses=(ClaimDoesNotExist("demo", CLAIM_ID),),
            ),
            "PATCH": Operation(
                renew,
                "claims:update",
                "Renew a claim",
                {204: Reply("The lease begins anew")},
                body=Body(RenewalOfV1(ttl=300, grace=60)),
                refuses=(ClaimDoesNotExist("demo", CLAIM_ID),),
            ),
            "DELETE": common.RELEASE,
        },
    ),
)
