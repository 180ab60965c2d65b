"""Actions on claims."""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus

import orjson

from api.answers import Answer, document
from api.push.actions import action
from api.push.calls import FrameCall
from api.push.messages import listed
from api.push.queues import QueueFields
from api.zaqar.bodies import check_terms
from api.zaqar.shapes import More, age
from zaqar_notify import claims
from zaqar_notify.service import Service


class CreateFields(QueueFields):
    ttl: int | None = None
    grace: int | None = None
    limit: int | None = None
    attributes: bool | None = None


class ClaimFields(QueueFields):
    claim_id: str


class ShownFields(ClaimFields):
    attributes: bool | None = None


class RenewFields(ClaimFields):
    ttl: int | None = None
    grace: int | None = None


async def create(service: Service, call: FrameCall, fields: CreateFields) -> Answer:
    check_terms(fields.ttl, fields.grace, service.settings)
    claim = await claims.create(
        service, call.ref, ttl=fields.ttl, grace=fields.grace, limit=fields.limit
    )
    if claim is None:
        return document({"claim_id": None}, HTTPStatus.NO_CONTENT)
    before = b'{"claim_id":%b,' % orjson.dumps(claim.id)
    found = listed(
        claim.messages,
        service.clock.now(),
        before=before,
        more=More(bool(fields.attributes)),
    )
    return Answer(HTTPStatus.CREATED, found)


async def show(service: Service, call: FrameCall, fields: ShownFields) -> Answer:
    claim = await claims.get(service, call.ref, fields.claim_id)
    now = service.clock.now()
    since = claim.expires_at - timedelta(seconds=claim.ttl)
    before = b'{"age":%d,"ttl":%d,' % (age(since, now), claim.ttl)
    shown = listed(claim.messages, now, before=before, more=More(bool(fields.attributes)))
    return Answer(HTTPStatus.OK, shown)


async def renew(service: Service, call: FrameCall, fields: RenewFields) -> Answer:
    check_terms(fields.ttl, fields.grace, service.settings)
    await claims.renew(service, call.ref, fields.claim_id, ttl=fields.ttl, grace=fields.grace)
    return document(f"Claim {fields.claim_id} updated.", HTTPStatus.NO_CONTENT)


async def release(service: Service, call: FrameCall, fields: ClaimFields) -> Answer:
    await claims.release(service, call.ref, fields.claim_id)
    return document(f"Claim {fields.claim_id} deleted.", HTTPStatus.NO_CONTENT)


_MANY = "/{queue_name}/claims"
_ONE = "/{queue_name}/claims/{claim_id}"

ACTIONS = (
    action("claim_create", "POST", _MANY, CreateFields, create),
    action("claim_get", "GET", _ONE, ShownFields, show),
    action("claim_update", "PATCH", _ONE, RenewFields, renew),
    action("claim_delete", "DELETE", _ONE, ClaimFields, release),
)
