"""The callers that a process believes, by its settings and by the addresses that it listens on."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import ip_address

from zaqar_notify.errors import StartRefused
from zaqar_notify.settings import AUTH_NONE, AUTH_TOKEN, Settings


def with_authentication(settings: Settings, listeners: Sequence[socket.socket]) -> Settings:
    """The settings with the kinds of callers that a process on these listeners believes.

    Raises:
        StartRefused: Everybody would be believed on an address that others can reach.
    """
    wide = [_host_of(listener) for listener in listeners if not is_loopback(listener)]
    auth = settings.auth or (AUTH_TOKEN if wide else AUTH_NONE)
    if settings.trust_proxy and auth != AUTH_NONE:
        raise StartRefused(
            f"ZAQAR_TRUST_PROXY is of no use with ZAQAR_AUTH={','.join(auth)}, where tokens name the project: "
            "set ZAQAR_AUTH=none, too, or leave ZAQAR_TRUST_PROXY out"
        )
    if wide and auth == AUTH_NONE and not settings.trust_proxy:
        raise StartRefused(
            f"ZAQAR_AUTH=none on {wide[0]} would let everybody who reaches the port be any project: set "
            "ZAQAR_AUTH=token, or listen on 127.0.0.1, or set ZAQAR_TRUST_PROXY=true if only a proxy that names the "
            "project can reach the port"
        )
    return settings.model_copy(update={"auth": auth})


def is_loopback(listener: socket.socket) -> bool:
    """Whether only programs of this computer reach the listener."""
    return ip_address(_host_of(listener)).is_loopback


def _host_of(listener: socket.socket) -> str:
    host: str = listener.getsockname()[0]
    return host.partition("%")[0]
