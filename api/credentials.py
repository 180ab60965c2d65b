"""The token that a request carries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from api.refusals import HeaderInvalid, Unauthorized

MAX_TOKEN_BYTES = 8192
"""Keystone's longest tokens have some thousand bytes."""


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
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            raise Unauthorized("Authorization must be of the scheme Bearer", challenges)
        token = token.strip()
    if not token:
        raise Unauthorized(
            "The request has no token: send it as Authorization: Bearer … or as X-Auth-Token: …",
            challenges,
        )
    if len(token) > MAX_TOKEN_BYTES:
        raise Unauthorized(f"A token has at most {MAX_TOKEN_BYTES} bytes", challenges)
    if not token.isascii() or not token.decode("ascii").isprintable() or b" " in token:
        raise Unauthorized("A token is one word of ASCII characters", challenges)
    return token.decode("ascii")
