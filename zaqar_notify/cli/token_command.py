"""`zaqar-notify token …`: make, list or revoke tenant tokens, at the store itself."""

from __future__ import annotations

import re
import sys
from datetime import datetime
from typing import Annotated

import msgspec
import typer

from zaqar_notify.cli.administration import Data, perform
from zaqar_notify.cli.commands import Json, add_group
from zaqar_notify.cli.output import instant, print_json, print_table
from zaqar_notify.errors import StartRefused
from zaqar_notify.models import Scope, Token, undisclosed
from zaqar_notify.operations.admin import Command, Site, Tell

HEADINGS = ("ID", "PROJECT", "SCOPE", "QUEUE", "NAME", "CREATED_AT", "EXPIRES_AT", "LAST_USED_AT")
UNIT_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
LISTED_AT_ONCE = 500


class ShownToken(msgspec.Struct):
    """A token as operators see it, with the names of the wire; `token` is its secret, right after it was made."""

    id: str
    project: str | None
    scope: Scope
    queue: str | None
    name: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    token: str | msgspec.UnsetType = msgspec.UNSET

    __repr__ = undisclosed


class Wanted(msgspec.Struct):
    """A token to be made, as `auth.tokens.AskedToken`."""

    project: str | None
    scope: Scope
    queue: str | None
    ttl: int | None
    name: str


class Which(msgspec.Struct):
    """All tokens, or those of a project."""

    project: str | None


class Revoked(msgspec.Struct):
    """The id of a token that is to be revoked."""

    id: str


async def make(site: Site, wanted: Wanted, tell: Tell) -> ShownToken:
    from zaqar_notify.auth import tokens

    asked = tokens.AskedToken(**msgspec.structs.asdict(wanted))
    made = await tokens.create(site.storage, asked, now=site.clock.now())
    return _shown(made.token, made.secret)


async def find(site: Site, which: Which, tell: Tell) -> list[ShownToken]:
    found: list[ShownToken] = []
    while True:
        marker = found[-1].id if found else None
        more = await site.storage.control.tokens.list(
            which.project, marker=marker, limit=LISTED_AT_ONCE
        )
        found += map(_shown, more)
        if len(more) < LISTED_AT_ONCE:
            return found


async def remove(site: Site, revoked: Revoked, tell: Tell) -> bool:
    if await site.storage.control.tokens.get(revoked.id) is None:
        raise StartRefused(f"There is no token {revoked.id!r}; `token list` shows the ids")
    await site.storage.control.tokens.remove(revoked.id)
    return True


def made(wanted: Wanted) -> dict[str, object]:
    """The facts for the audit."""
    asked = {"project": wanted.project, "scope": wanted.scope, "queue": wanted.queue}
    return {"rule": "tokens:create", **asked}


def revoked(token: Revoked) -> dict[str, object]:
    """The facts for the audit."""
    return {"rule": "tokens:delete", "revoked": token.id}


MAKE = Command("token create", Wanted, ShownToken, make, made)
FIND = Command("token list", Which, list[ShownToken], find)
REMOVE = Command("token revoke", Revoked, bool, remove, revoked)


def register(app: typer.Typer) -> None:
    add_group(app, "token", "Tokens of projects and operators.", (create, list_, revoke))


def create(
    project: Annotated[
        str | None,
        typer.Option(
            help="The token's project; an operator's token needs none.", show_default=False
        ),
    ] = None,
    scope: Annotated[
        Scope,
        typer.Option(
            help="reader reads, member also writes, admin also manages the project's tokens, operator may do all "
            "in every project."
        ),
    ] = "member",
    queue: Annotated[
        str | None,
        typer.Option(help="Only queues of this pattern, as in 'orders.*'.", show_default=False),
    ] = None,
    ttl: Annotated[
        str | None,
        typer.Option(help="Life, as in 90d, 12h or 600; without it, for ever.", show_default=False),
    ] = None,
    name: Annotated[str, typer.Option(help="A note for people.", show_default=False)] = "",
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Make a token and print it. It is shown only now: the store keeps only its SHA-256.

    Clients send it as `Authorization: Bearer TOKEN` or `X-Auth-Token: TOKEN`; the command line takes --token or
    ZAQAR_TOKEN.
    """
    wanted = Wanted(project, scope, queue, None if ttl is None else seconds_of(ttl), name)
    made = perform(MAKE, wanted, data)
    if as_json:
        print_json(made)
        return
    print(made.token, flush=True)
    print(f"Token {made.id}, {_rights(made)}. It is not shown again.", file=sys.stderr)


def list_(
    project: Annotated[
        str | None, typer.Option(help="Only tokens of this project.", show_default=False)
    ] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """List tokens, without secrets."""
    found = perform(FIND, Which(project), data)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            *(one.id, one.project or "-", one.scope, one.queue or "*", one.name or "-"),
            *("-" if at is None else instant(at) for at in _instants(one)),
        )
        for one in found
    ]
    print_table(HEADINGS, rows)


def revoke(
    token_id: Annotated[
        str,
        typer.Argument(metavar="ID", help="The id that `token list` shows.", show_default=False),
    ],
    data: Data = None,
) -> None:
    """Revoke a token: within 5 seconds every process refuses it."""
    perform(REMOVE, Revoked(token_id), data)


def seconds_of(text: str) -> int:
    """The seconds of a life such as `90d`.

    Raises:
        BadParameter: It is none.
    """
    found = re.fullmatch(r"([0-9]{1,10})([smhdw]?)", text)
    if found is None:
        raise typer.BadParameter(
            f"--ttl {text!r} is no life such as 90d, 12h, 30m or 600 (seconds)"
        )
    return int(found[1]) * UNIT_SECONDS[found[2]]


def _shown(token: Token, secret: str | msgspec.UnsetType = msgspec.UNSET) -> ShownToken:
    fields = msgspec.structs.asdict(token)
    del fields["digest"]
    return ShownToken(queue=fields.pop("queues"), **fields, token=secret)


def _rights(token: ShownToken) -> str:
    project = "every project" if token.scope == "operator" else f"project {token.project}"
    queues = "" if token.queue is None else f", queues {token.queue}"
    until = "for ever" if token.expires_at is None else f"until {instant(token.expires_at)}"
    return f"{token.scope} of {project}{queues}, {until}"


def _instants(token: ShownToken) -> tuple[datetime | None, ...]:
    return token.created_at, token.expires_at, token.last_used_at
