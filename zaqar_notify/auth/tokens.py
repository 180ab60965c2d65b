"""Service functions for tenant tokens: create, list, revoke."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from zaqar_notify.auth.callers import Caller
from zaqar_notify.clock import new_ordered_id
from zaqar_notify.errors import NotPermitted, ValidationFailed
from zaqar_notify.models import SCOPES, Scope, Token, undisclosed
from zaqar_notify.rules.limits import MIN_SECONDS, check_range
from zaqar_notify.rules.names import check_new_project
from zaqar_notify.rules.tokens import check_pattern, covers, digest_of, new_secret
from zaqar_notify.storage.planes import Storage

OPERATOR: Scope = "operator"
OF_PROJECT = SCOPES[: SCOPES.index(OPERATOR)]
"""The scopes that a caller of a project may have and give."""
MOST_TOKENS = 1000
"""Of one project."""
MOST_NAME_CHARACTERS = 200
MOST_SECONDS = 100 * 365 * 86400


class AskedToken(msgspec.Struct, frozen=True):
    """A token to be made. `project` None is only for the scope `operator`, which reaches every project.

    `queue` is a pattern of queue names; None: every queue. `ttl` is seconds; None: the token does not expire.
    """

    project: str | None
    scope: Scope = "member"
    queue: str | None = None
    ttl: int | None = None
    name: str = ""


class NewToken(msgspec.Struct, frozen=True):
    """A token and its secret, which is shown this once."""

    token: Token
    secret: str

    __repr__ = undisclosed


async def create(
    storage: Storage, asked: AskedToken, *, now: datetime, maker: Caller | None = None
) -> NewToken:
    """Make a token. Tokens that have expired are removed meanwhile.

    Args:
        maker: The caller who asks for it; None: the operator, at the store itself. A caller makes tokens within
            the life of its own one; if it is no operator, within its own project, scope and queues, too.

    Raises:
        ValidationFailed: A value is out of range.
        NotPermitted: The token would be more than the maker's own, or the project has too many.
    """
    _check_values(asked)
    expires_at = None if asked.ttl is None else now + timedelta(seconds=asked.ttl)
    if maker is not None:
        await _check_life(storage, expires_at, maker)
        if not is_operator(maker):
            _check_scope(asked, maker)
    tokens = storage.control.tokens
    await tokens.remove_expired(now=now)
    if asked.project is not None and await tokens.count(asked.project) >= MOST_TOKENS:
        raise NotPermitted(
            f"Project {asked.project!r} has {MOST_TOKENS} tokens, the most that are allowed: revoke some"
        )
    secret = new_secret()
    token = Token(
        id=new_ordered_id(now),
        digest=digest_of(secret),
        project=asked.project,
        scope=asked.scope,
        queues=asked.queue,
        name=asked.name,
        created_at=now,
        expires_at=expires_at,
    )
    await tokens.create(token)
    return NewToken(token, secret)


async def list_tokens(
    storage: Storage, *, project: str | None, marker: str | None = None, limit: int, reader: Caller
) -> list[Token]:
    """Tokens in the order of their creation, after the id `marker`.

    Args:
        project: None: of all projects, for an operator.
        reader: A caller that is no operator sees the tokens that it may revoke.
    """
    shown: list[Token] = []
    while len(shown) < limit:
        found = await storage.control.tokens.list(project, marker=marker, limit=limit)
        shown += [token for token in found if _is_within(token, reader)]
        if len(found) < limit:
            break
        marker = found[-1].id
    return shown[:limit]


async def revoke(storage: Storage, token_id: str, *, revoker: Caller) -> None:
    """Remove the token; no error when there is none, or none that the caller may revoke.

    Every process refuses the token within 5 seconds.
    """
    token = await storage.control.tokens.get(token_id)
    if token is not None and _is_within(token, revoker):
        await storage.control.tokens.remove(token_id)


def is_operator(caller: Caller) -> bool:
    return caller.how in ("none", "token") and OPERATOR in caller.roles


def _is_within(token: Token, caller: Caller) -> bool:
    """Whether the caller may see and revoke the token."""
    if is_operator(caller):
        return True
    is_own = token.project == caller.project and token.scope != OPERATOR
    return is_own and _is_narrower(token.queues, caller.queues)


def _is_narrower(pattern: str | None, own: str | None) -> bool:
    """Whether a pattern is within another one; None is that of all queues and topics."""
    return own is None or (pattern is not None and covers(own, pattern))


def _check_values(asked: AskedToken) -> None:
    if asked.project is None and asked.scope != OPERATOR:
        raise ValidationFailed(f"A token of the scope {asked.scope} needs a project")
    if asked.project is not None:
        check_new_project(asked.project)
    if asked.queue is not None:
        check_pattern(asked.queue)
        if asked.scope == OPERATOR:
            raise ValidationFailed("An operator's token can't be confined to queues")
    if asked.ttl is not None:
        check_range("ttl", asked.ttl, least=MIN_SECONDS, most=MOST_SECONDS, unit="seconds")
    if len(asked.name) > MOST_NAME_CHARACTERS or not asked.name.isprintable():
        raise ValidationFailed(
            f"The name of a token has at most {MOST_NAME_CHARACTERS} characters, all of them printable"
        )


def _check_scope(asked: AskedToken, maker: Caller) -> None:
    if asked.project != maker.project:
        raise NotPermitted(
            f"Only an operator makes tokens of another project than {maker.project!r}"
        )
    roles = {role.lower() for role in maker.roles}
    own = max((SCOPES.index(scope) for scope in OF_PROJECT if scope in roles), default=-1)
    if SCOPES.index(asked.scope) > own:
        raise NotPermitted(
            f"You have no scope {asked.scope} yourself, so you can't give it to a token"
        )
    if not _is_narrower(asked.queue, maker.queues):
        raise NotPermitted(
            f"Your token is confined to the queues {maker.queues!r}; name a pattern within it as queue"
        )


async def _check_life(storage: Storage, expires_at: datetime | None, maker: Caller) -> None:
    if maker.token_id is None:
        return
    own = await storage.control.tokens.get(maker.token_id)
    if own is None:  # This process may believe it for some seconds more.
        raise NotPermitted("Your token was revoked")
    if own.expires_at is not None and (expires_at is None or expires_at > own.expires_at):
        raise NotPermitted(
            f"Your token expires at {own.expires_at:%Y-%m-%dT%H:%M:%SZ}; a token that it makes can't live longer: "
            "name a shorter ttl"
        )
