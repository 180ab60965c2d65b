"""Tenant tokens: list, create, revoke."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from api.answers import NO_CONTENT, Answer
from api.documents import read_document
from api.requests import Call
from api.resources import Body, Operation, Parameter, Reply, Resource
from api.zaqar import schemas
from api.zaqar.links import next_links
from api.zaqar.query import Query
from api.zaqar.shapes import instant
from zaqar_notify.auth import tokens
from zaqar_notify.auth.tokens import AskedToken
from zaqar_notify.clock import Clock
from zaqar_notify.errors import NotPermitted, ValidationFailed
from zaqar_notify.models import Scope, Token, undisclosed
from zaqar_notify.rules.limits import check_limit
from zaqar_notify.service import Service

MAX_TOKENS_PER_PAGE = 100
MAX_TOKEN_BODY = 4096
"""Bytes; a token's name fits many times over."""


class TokenBody(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A token to be made. A misspelt field is refused, because it could stand for a limit."""

    project: str | None = None
    scope: Scope = "member"
    queue: str | None = None
    ttl: Annotated[int, Meta(ge=1)] | None = None
    name: str = ""


class ShownToken(schemas.Exact):
    """A token; `token` is its secret, which only the answer to its creation shows."""

    id: str
    project: str | None
    scope: Scope
    queue: str | None
    name: str
    created_at: str
    expires_at: str | None
    last_used_at: str | None
    token: str | UnsetType = UNSET

    __repr__ = undisclosed


class TokenPage(schemas.Exact):
    """A page of tokens."""

    tokens: list[ShownToken]
    links: list[schemas.Link]


_body = msgspec.json.Decoder(TokenBody)


async def list_tokens(service: Service, call: Call) -> Answer:
    query = Query(call.query_string)
    found = await tokens.list_tokens(
        service.storage,
        project=call.caller.project,
        marker=query.text("marker"),
        limit=check_limit(query.integer("limit"), most=MAX_TOKENS_PER_PAGE, unit="tokens"),
        reader=call.caller,
    )
    links = next_links(call.href, query.sent, found[-1].id if found else None)
    shown = [_shown(token, service.clock) for token in found]
    page = {"tokens": shown, "links": msgspec.Raw(links)}
    return Answer(HTTPStatus.OK, msgspec.json.encode(page))


async def create(service: Service, call: Call) -> Answer:
    sent = read_document(await call.body(MAX_TOKEN_BODY), _body)
    asked = AskedToken(
        sent.project or call.caller.project, sent.scope, sent.queue, sent.ttl, sent.name
    )
    made = await tokens.create(service.storage, asked, now=service.clock.now(), maker=call.caller)
    shown = _shown(made.token, service.clock, made.secret)
    return Answer(HTTPStatus.CREATED, msgspec.json.encode(shown))


async def revoke(service: Service, call: Call) -> Answer:
    await tokens.revoke(service.storage, call.names["token_id"], revoker=call.caller)
    return NO_CONTENT


def _shown(token: Token, clock: Clock, secret: str | UnsetType = UNSET) -> ShownToken:
    expires_at, last_used_at = (
        None if at is None else instant(clock.on_host(at))
        for at in (token.expires_at, token.last_used_at)
    )
    return ShownToken(
        token.id,
        token.project,
        token.scope,
        token.queues,
        token.name,
        instant(clock.on_host(token.created_at)),
        expires_at,
        last_used_at,
        secret,
    )


_EXAMPLE = ShownToken(
    id="0661794c5e3a40b6c1f2a93d5e7b8c90",
    project="demo",
    scope="member",
    queue="orders.*",
    name="order service",
    created_at="2026-11-30T11:00:00Z",
    expires_at="2027-02-28T11:00:00Z",
    last_used_at=None,
)

_SHOWN_ONCE = "zqn_…"

RESOURCES = (
    Resource(
        "/v2/tokens",
        {
            "GET": Operation(
                list_tokens,
                "tokens:get_all",
                "List tokens",
                {
                    200: Reply(
                        "A page, by age, without secrets",
                        TokenPage(
                            [_EXAMPLE],
                            [schemas.Link("next", f"/v2/tokens?marker={_EXAMPLE.id}")],
                        ),
                    )
                },
                description="The project's tokens; those of every project for an operator that names none.",
                query=(
                    Parameter("marker", "Begin after this id.", str, _EXAMPLE.id),
                    Parameter(
                        "limit",
                        f"Tokens in the page, 1 to {MAX_TOKENS_PER_PAGE}.",
                        schemas.Limit,
                        10,
                    ),
                ),
            ),
            "POST": Operation(
                create,
                "tokens:create",
                "Create a token",
                {
                    201: Reply(
                        "The token, with its secret",
                        msgspec.structs.replace(_EXAMPLE, token=_SHOWN_ONCE),
                    )
                },
                description="The secret is shown only now. A caller that is no operator makes tokens within its own "
                "project, scope, queues and life.",
                body=Body(
                    TokenBody(scope="member", queue="orders.*", ttl=7776000, name="order service")
                ),
                refuses=(
                    ValidationFailed("ttl must be from 60 to 3153600000 seconds, not 5"),
                    NotPermitted("Only an operator makes tokens of another project than 'demo'"),
                ),
            ),
        },
        is_signable=False,
        needs_project=False,
    ),
    Resource(
        "/v2/tokens/{token_id}",
        {
            "DELETE": Operation(
                revoke,
                "tokens:delete",
                "Revoke a token",
                {204: Reply("Every process refuses it within 5 seconds; or there was none")},
            )
        },
        is_signable=False,
        needs_project=False,
    ),
)
