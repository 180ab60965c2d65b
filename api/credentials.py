"""The credentials that a request carries: a token in its headers, or names and a signature in its query.

A web page can set no headers where a browser opens an event stream or a WebSocket. Such a request may give them as parameters
of its query, and no other may: queries end up in links, in histories of browsers and in logs of proxies.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl, unquote_to_bytes

from api.refusals import HeaderInvalid, ParameterInvalid, Unauthorized
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


IN_QUERY = {
    "url_signature": b"url-signature",
    "url_expires": b"url-expires",
    "url_methods": b"url-methods",
    "url_paths": b"url-paths",
    "project_id": b"x-project-id",
    "client_id": b"client-id",
}
"""Parameters of a query, each with the header whose place it takes."""

_SAME_HEADER = {"project_id": b"x-tenant-id"}
_IN_A_HEADER = re.compile(rb"[ -~\x80-\xff]*")


def is_signed_query(query: bytes) -> bool:
    """Whether a proxy may take the query for one with a signature, however it reads queries.

    Such a proxy lets the request through unchecked, so nothing but the signature may name its caller.
    """
    return b"url_signature" in unquote_to_bytes(query).lower()


def credentials_in(query: bytes) -> dict[bytes, bytes]:
    """The credentials in a query, by the names of the headers that they stand for. Others are left out.

    Raises:
        ParameterInvalid: One is there twice, or can't be in a header; or the signature is not to be found.
    """
    found: dict[bytes, bytes] = {}
    # By Latin-1 any bytes can be read and written again.
    text = query.decode("latin-1")
    for name, value in parse_qsl(text, keep_blank_values=True, encoding="latin-1"):
        header = IN_QUERY.get(name)
        if header is None:
            continue
        if header in found:
            raise ParameterInvalid(f"The query has {name} more than once")
        found[header] = value.encode("latin-1")
        if not _IN_A_HEADER.fullmatch(found[header]):
            raise ParameterInvalid(f"{name} has characters that no header may have")
    if is_signed_query(query) and b"url-signature" not in found:
        raise ParameterInvalid("url_signature must be a parameter of its own, in lower case")
    return found


def take_query(call: Call, *, has_proxy: bool) -> None:
    """Take the credentials in the query for headers: the caller can set none.

    Args:
        has_proxy: A proxy names the project in a header, so a client names none without a signature.

    Raises:
        ParameterInvalid: A credential is in both, or can't be used.
    """
    call.headers = with_query(call.headers, call.query_string, has_proxy=has_proxy)
    call.has_taken_query = True


def with_query(
    headers: Mapping[bytes, bytes], query: bytes, *, has_proxy: bool
) -> dict[bytes, bytes]:
    """The headers of a request, with the credentials in its query; see `take_query`."""
    found = credentials_in(query)
    for parameter, header in IN_QUERY.items():
        if header in found and (header in headers or _SAME_HEADER.get(parameter) in headers):
            raise ParameterInvalid(
                f"{parameter} is in the query, and its header is in the request, too: send one of them"
            )
    together = {**headers, **found}
    if has_proxy and b"x-project-id" in found and b"url-signature" not in together:
        raise ParameterInvalid(
            "project_id in the query needs url_signature: the proxy in front names the project of other requests"
        )
    return together


def asker_of(call: Call) -> Asker | None:
    """The user of a request that Keystone's token authenticated; None: another kind of caller sent it."""
    caller = call.caller
    if caller.how != "keystone" or caller.user is None:
        return None
    return Asker(caller.user, call.project, caller.roles, token_of(call.headers, ()))
