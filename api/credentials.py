"""The token that a request carries."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from api.refusals import HeaderInvalid, Unauthorized
from api.requests import Call
from zaqar_notify.delivery.trusts import Asker

MAX_TOKEN_BYTES = 8192
"""Keystone's longest tokens have some thousand bytes."""

_TOKEN = re.compile(rb"[!-~]{1,%d}" % MAX_TOKEN_BYTES)
_BEARER = re.compile(rb"bearer(?: +(.*))?", re.IGNORECASE | re.DOTALL)


def token_of(headers: Mapping[bytes, bytes], challenges: Sequence[bytes]) -> str:
    """The token in `Authorization: Bearer …` or `X-Auth-Token: …`.

    Raises:
        HeaderInvalid: The request carries two tokens.
        Unauthorized: It carries none, or one that can't be read.
    """
    token = headers.get(b"x-auth-token")
    authorization = headers.get(b"authorization")
    if authorization is not None:
        if token is not None:
            raise HeaderInvalid(
                "Invalid header value",
                "The request has two tokens: send Authorization or X-Auth-Token, not both",
            )
        bearer = _BEARER.fullmatch(authorization)
        if bearer is None:
            raise Unauthorized("Authorization must be of the scheme Bearer", challenges)
        token = bearer[1]
    if not token:
        raise Unauthorized(
            "The request has no token: send it as Authorization: Bearer … or as X-Auth-Token: …",
            challenges,
        )
    if not _TOKEN.fullmatch(token):
        raise Unauthorized(
            f"A token is one word of at most {MAX_TOKEN_BYTES} ASCII characters", challenges
        )
    return token.decode("ascii")


def asker_of(call: Call) -> Asker | None:
    """The user of a request that Keystone's token authenticated; None: another kind of caller sent it."""
    caller = call.caller
    if caller.how != "keystone" or caller.user is None:
        return None
    return Asker(caller.user, call.project, caller.roles, token_of(call.headers, ()))
