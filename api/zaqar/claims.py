"""Claims: leases over messages by one of several competing consumers."""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus

from api.answers import NO_CONTENT, Answer, at
from api.requests import Call
from api.resources import Body, Operation, Parameter, Reply, Resource
from api.zaqar import schemas
from api.zaqar.attributes import asked_of, parameters
from api.zaqar.bodies import ClaimBody, RenewBody, read_claim, read_renewal
from api.zaqar.examples import CLAIM_ID, WAIT, claimed_message
from api.zaqar.links import queue_href
from api.zaqar.query import Query, long_poll
from api.zaqar.shapes import age, messages
from zaqar_notify import claims
from zaqar_notify.errors import ClaimDoesNotExist
from zaqar_notify.service import Service

MAX_CLAIM_BODY = 65536
"""Bytes; a few numbers fit many times over."""


async def create(service: Service, call: Call) -> Answer:
    query = Query(call.query_string)
    asked = read_claim(await call.body(MAX_CLAIM_BODY), service.settings, call.warn)
    limit = query.integer("limit")
    claim = await claims.create(
        service,
        call.ref,
        ttl=asked.ttl,
        grace=asked.grace,
        limit=asked.limit if limit is None else limit,
        wait=long_poll(call, query, service),
    )
    if claim is None:
        return NO_CONTENT
    found = messages(
        queue_href(call), claim.messages, service.clock.now(), more=asked_of(service, call)
    )
    return at(HTTPStatus.CREATED, f"{queue_href(call)}/claims/{claim.id}", found)


async def show(service: Service, call: Call) -> Answer:
    claim = await claims.get(service, call.ref, call.names["claim_id"])
    now = service.clock.now()
    since = claim.expires_at - timedelta(seconds=claim.ttl)
    before = b'{"age":%d,"ttl":%d,' % (age(since, now), claim.ttl)
    after = f',"href":"{queue_href(call)}/claims/{claim.id}"}}'.encode()
    found = messages(
        queue_href(call),
        claim.messages,
        now,
        before=before,
        after=after,
        more=asked_of(service, call),
    )
    return Answer(HTTPStatus.OK, found)


async def renew(service: Service, call: Call) -> Answer:
    asked = read_renewal(await call.body(MAX_CLAIM_BODY), service.settings, call.warn)
    claim_id = call.names["claim_id"]
    await claims.renew(service, call.ref, claim_id, ttl=asked.ttl, grace=asked.grace)
    return NO_CONTENT


async def release(service: Service, call: Call) -> Answer:
    await claims.release(service, call.ref, call.names["claim_id"])
    return NO_CONTENT


RELEASE = Operation(
    release,
    "claims:delete",
    "Release a claim",
    {204: Reply("Released, or there was none")},
)


def resources(wire: str) -> tuple[Resource, ...]:
    """The resources of a version with this prefix."""
    message = claimed_message(wire)
    return (
        Resource(
            f"{wire}/queues/{{queue_name}}/claims",
            {
                "POST": Operation(
                    create,
                    "claims:create",
                    "Claim messages",
                    {
                        201: Reply(
                            "Claimed, oldest first",
                            schemas.ClaimedMessages([message]),
                            location=f"{wire}/queues/demo/claims/{CLAIM_ID}",
                        ),
                        204: Reply("Nothing to claim"),
                    },
                    description="No other claim gets these messages until `ttl` seconds have passed. "
                    "They live at least `grace` seconds longer. A client that hangs up while it waits "
                    "gets no claim.",
                    query=(
                        Parameter("limit", "Messages at most, 1 to 20.", schemas.Limit, 10),
                        *parameters(wire),
                        WAIT,
                    ),
                    body=Body(ClaimBody(ttl=300, grace=60), required=False),
                    takes_messages=True,
                )
            },
        ),
        Resource(
            f"{wire}/queues/{{queue_name}}/claims/{{claim_id}}",
            {
                "GET": Operation(
                    show,
                    "claims:get",
                    "Show a claim",
                    {
                        200: Reply(
                            "The claim, with the messages that it still holds",
                            schemas.Claim(
                                age=5,
                                ttl=300,
                                messages=[message],
                                href=f"{wire}/queues/demo/claims/{CLAIM_ID}",
                            ),
                        )
                    },
                    query=parameters(wire),
                    refuses=(ClaimDoesNotExist("demo", CLAIM_ID),),
                ),
                "PATCH": Operation(
                    renew,
                    "claims:update",
                    "Renew a claim",
                    {204: Reply("The lease begins anew")},
                    body=Body(RenewBody(ttl=300, grace=60)),
                    refuses=(ClaimDoesNotExist("demo", CLAIM_ID),),
                ),
                "DELETE": RELEASE,
            },
        ),
    )
