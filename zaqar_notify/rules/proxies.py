"""The address of an HTTP proxy, as an operator writes it."""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import unquote, urlsplit

import msgspec

from zaqar_notify.models import undisclosed


class Proxy(msgspec.Struct, frozen=True):
    """An HTTP proxy. `authorization` is the value of `Proxy-Authorization`; empty: it asks for none."""

    host: str
    port: int
    authorization: str = ""

    __repr__ = undisclosed


def read_proxy(uri: str) -> Proxy:
    """Read `http://USER:PASSWORD@HOST:PORT`, with user and password if the proxy asks for them.

    Raises:
        ValueError: It is something else. The sentence does not quote it.
    """
    parts = urlsplit(uri)
    if parts.scheme != "http" or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ValueError("write it as http://HOST:PORT, or http://USER:PASSWORD@HOST:PORT")
    if parts.port is None:
        raise ValueError("name the port, as in http://HOST:3128")
    authorization = ""
    if parts.username is not None:
        user, password = unquote(parts.username), unquote(parts.password or "")
        if ":" in user:
            raise ValueError("the user's name has a colon, which HTTP can't send")
        authorization = f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"
    return Proxy(parts.hostname, parts.port, authorization)
