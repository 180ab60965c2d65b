"""Connections through the operator's HTTP proxy: a tunnel for each, by `CONNECT`.

The receiver's addresses are found and judged here, and the proxy is told an address, never a name: it can't reach
another host than the guard has permitted.

Source: RFC 9110, 9.3.6, "CONNECT".
"""

from __future__ import annotations

import asyncio
import re
import socket
from http import HTTPStatus

from zaqar_notify.findings import Finding, ok, problem
from zaqar_notify.rules.proxies import Proxy

HEAD_BYTES = 8192
"""The most bytes of the proxy's answer."""
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r]")

_DIAGNOSIS_SECONDS = 5
_REMEDY = "Mend the proxy, or ZAQAR_DELIVERY_PROXY: deliveries wait, and spend no attempt"


class ProxyUnavailable(OSError):
    """The proxy can't be used by anyone: it gives no answer, or wants other credentials."""


class TunnelRefused(OSError):
    """The proxy does not connect to this address."""


class _Greeting(asyncio.Protocol):
    """Reads the proxy's answer; then another protocol takes the connection over."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self.answer.done():
            return
        if b"\r\n\r\n" in self._received:
            self.answer.set_result(self._received)
        elif len(self._received) > HEAD_BYTES:
            self._fail("its answer is no answer of a proxy")

    def connection_lost(self, error: Exception | None) -> None:
        if not self.answer.done():
            self._fail("it closed the connection without an answer")

    def _fail(self, reason: str) -> None:
        self.answer.set_exception(ProxyUnavailable(reason))
        self.answer.exception()  # Perhaps nobody waits any more.


async def open_tunnel(proxy: Proxy, address: str, port: int) -> asyncio.Transport:
    """A connection through the proxy; its protocol is to be replaced. Cancelling it closes the connection.

    Raises:
        ProxyUnavailable: The proxy can't be used.
        TunnelRefused: It can, and does not reach this address.
    """
    try:
        transport, greeting = await asyncio.get_running_loop().create_connection(
            _Greeting, proxy.host, proxy.port
        )
    except OSError as error:
        raise ProxyUnavailable(error.strerror or type(error).__name__) from error
    try:
        _no_delay(transport)
        transport.write(_request(proxy, address, port))
        _judge(await greeting.answer)
    except BaseException:
        transport.abort()
        raise
    return transport


async def diagnose_proxy(proxy: Proxy) -> Finding:
    """Whether the proxy takes connections, for `zaqar-notify doctor`."""
    try:
        async with asyncio.timeout(_DIAGNOSIS_SECONDS):
            transport, _ = await asyncio.get_running_loop().create_connection(
                asyncio.Protocol, proxy.host, proxy.port
            )
    except OSError as error:  # TimeoutError is one.
        reason = error.strerror or "no answer"
        return problem("proxy", f"{proxy.host}:{proxy.port} can't be reached: {reason}", _REMEDY)
    transport.abort()
    return ok("proxy", f"Deliveries go through {proxy.host}:{proxy.port}")


def _request(proxy: Proxy, address: str, port: int) -> bytes:
    authority = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    credentials = f"Proxy-Authorization: {proxy.authorization}\r\n" if proxy.authorization else ""
    return f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{credentials}\r\n".encode()


def _judge(answer: bytes) -> None:
    found = _STATUS.match(answer)
    if found is None:
        raise ProxyUnavailable("its answer is no answer of a proxy")
    status = int(found[1])
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        raise ProxyUnavailable("it wants other credentials (HTTP 407)")
    if not 200 <= status < 300:
        raise TunnelRefused(f"the proxy does not connect: HTTP {status}")
    if not answer.endswith(b"\r\n\r\n"):
        raise TunnelRefused("the receiver spoke before it was asked")


def _no_delay(transport: asyncio.Transport) -> None:
    opened = transport.get_extra_info("socket")
    if opened is not None:
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
