"""An installation's own deliveries and ports: recognized, so that no delivery reaches the installation.

A subscriber's URL that leads back to us would let a tenant speak with our voice, from our place in
the network. Ports that this host's processes listen on are never connected to. For all other ways
back, each delivery carries a mark, and the API refuses requests with it.
"""

from __future__ import annotations

import hmac
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from ipaddress import ip_address
from typing import Any

from zaqar_notify.settings import Settings

MARK_HEADER = "Zaqar-Installation"

_LABEL = b"zaqar-notify installation mark"
_MARK_DIGITS = 32
_MARK_KEY = MARK_HEADER.lower().encode()
_PROOFS = (b"x-auth-token", b"authorization", b"url-signature")
"""Headers that authenticate a request: once they are verified, the mark does not count."""


def installation_mark(settings: Settings) -> str:
    """Hex digits that are the same in all processes of an installation, over restarts, too.

    They tell nothing of the webhook secret that they are made of. Installations without one share
    a mark.
    """
    secret = settings.webhook_secret.get_secret_value().encode()
    return hmac.digest(secret, _LABEL, "sha256").hex()[:_MARK_DIGITS]


def is_own_delivery(headers: Mapping[bytes, bytes], mark: str) -> bool:
    """Whether a request is a delivery of this installation."""
    given = headers.get(_MARK_KEY)
    return given is not None and hmac.compare_digest(given, mark.encode())


def has_proof(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a request has a token or a signature, verified or not."""
    return any(proof in headers for proof in _PROOFS)


@contextmanager
def announced(port: int, mark: str) -> Iterator[None]:
    """Let this host's processes of the installation know meanwhile that one listens on `port`.

    The port is a name in Linux's abstract socket namespace. It is seen wherever our loopback
    addresses lead here, and is gone with the last process that holds it: no crash leaves it behind.
    """
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as name:
        # In use: a process beside this one says so already. Elsewhere than on Linux there are none.
        with suppress(OSError):
            name.bind(_name(port, mark))
        yield


def is_own_listener(destination: tuple[Any, ...], family: int, mark: str) -> bool:
    """Whether a connection to the socket address leads to a port of ours, by any address of this host."""
    return _is_announced(destination[1], mark) and _is_here(destination, family)


def _is_announced(port: int, mark: str) -> bool:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as probe:
        try:
            probe.connect(_name(port, mark))
        except OSError:
            return False
        return True


def _is_here(destination: tuple[Any, ...], family: int) -> bool:
    """Whether the address is this host's: the way there begins at the address itself, or at loopback.

    Connecting a datagram socket sends nothing; it asks the kernel for the way.
    """
    with closing(socket.socket(family, socket.SOCK_DGRAM)) as probe:
        try:
            probe.connect(destination)
        except OSError:
            return False
        source = ip_address(probe.getsockname()[0].partition("%")[0])
    source = getattr(source, "ipv4_mapped", None) or source
    target = ip_address(str(destination[0]).partition("%")[0])
    target = getattr(target, "ipv4_mapped", None) or target
    return source.is_loopback or source == target


def _name(port: int, mark: str) -> str:
    return f"\0zaqar-notify/{mark}/{port}"
