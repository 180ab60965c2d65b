"""HTTP/1.1 as deliveries need it: a `POST` of bytes, over connections that are kept and guarded.

A general client handles cookies, redirects, proxies and encodings for each request. A delivery needs none of
them, and they took two thirds of a worker's time (docs/decisions/0005). llhttp reads the answers
(`sinks.connections`), and aiohappyeyeballs finds the address that connects first.

Source: RFC 9112, "HTTP/1.1".
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property, partial
from ipaddress import ip_address

import aiohappyeyeballs
from aiohappyeyeballs import AddrInfoType

from sinks.addresses import Network
from sinks.answer import Response
from sinks.connections import Connection, IdleConnections, NoAnswer, Origin, reason
from sinks.guard import AddressForbidden, AddressGuard
from sinks.identity import context_of
from sinks.names import GuardedResolver
from sinks.proxy import ProxyUnavailable, TunnelRefused, open_tunnel
from sinks.shortage import Shortage, is_shortage
from zaqar_notify.rules.proxies import Proxy

_NEXT_ADDRESS_SECONDS = 0.25
"""The time that one address of a name has to connect until the next is tried beside it."""


class HttpClient:
    """Posts to origins, over one connection for each request under way. Belongs to one event loop.

    Args:
        guard: Judges every address before it is connected to.
        connect_seconds: For finding the name, connecting, and the TLS handshake, all together.
        total_seconds: For all of a request.
        most_requests: The most requests under way at once, and the most idle connections.
        tls: The certificates to trust; None: the system's.
        name_servers: The servers to ask, as ADDRESS:PORT; none: the host's.
        proxy: All connections go through it, but for those to the networks in `direct`.
    """

    def __init__(
        self,
        guard: AddressGuard,
        *,
        connect_seconds: float,
        total_seconds: float,
        most_requests: int,
        tls: ssl.SSLContext | None = None,
        name_servers: Sequence[str] = (),
        proxy: Proxy | None = None,
        direct: Sequence[Network] = (),
    ) -> None:
        self._guard = guard
        self._resolver = GuardedResolver(guard, name_servers=name_servers)
        self._connect_seconds = min(connect_seconds, total_seconds)
        self._total_seconds = total_seconds
        self._given_tls = tls
        self._idle = IdleConnections(most_requests)
        self._proxy = proxy
        self._direct = direct

    async def post(self, origin: Origin, request: Sequence[bytes], *, project: str) -> Response:
        """Send a request, head and body ready for the wire, and read its answer.

        Bounded in time and memory, for every answer. Interim answers (1xx) are skipped.
        Nothing is sent twice.

        Args:
            project: The project that the request is for: its look-ups of names are bounded.

        Raises:
            AddressForbidden: The guard refuses the address.
            ProxyUnavailable: The operator's proxy can't be used.
            NoAnswer: None came.
            Shortage: We have no file or memory left for it.
        """
        deadline = asyncio.get_running_loop().time() + self._total_seconds
        connection = self._idle.take(origin) or await self._connect(origin, project)
        try:
            return await connection.exchange(request, deadline=deadline)
        except TimeoutError:
            raise NoAnswer(f"no answer within {self._total_seconds:g} s") from None
        finally:
            self._idle.give(connection)

    def close(self) -> None:
        """Close idle connections, and start no look-ups any more. Idempotent."""
        self._idle.close()
        self._resolver.close()

    async def _connect(self, origin: Origin, project: str) -> Connection:
        try:
            async with asyncio.timeout(self._connect_seconds):
                return await self._open(origin, project)
        except (AddressForbidden, ProxyUnavailable):
            raise
        except TimeoutError as error:
            if is_shortage(error):
                raise Shortage(reason(error)) from error
            raise NoAnswer(f"no connection within {self._connect_seconds:g} s") from None
        except OSError as error:
            raise _failure(error, origin) from error
        except RuntimeError as error:
            # The loop's, about a socket that closed meanwhile.
            raise NoAnswer(f"no connection: {reason(error)}") from error

    async def _open(self, origin: Origin, project: str) -> Connection:
        addresses = await self._resolver.resolve(origin.host, origin.port, project=project)
        for info in addresses:
            self._guard.check_listener(info)
        if self._proxy is not None and not self._are_direct(addresses):
            return await self._open_through(self._proxy, addresses, origin)
        opened = await aiohappyeyeballs.start_connection(
            addresses,
            happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS,
            socket_factory=self._guard.socket,
        )
        try:
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
            _, connection = await asyncio.get_running_loop().create_connection(
                partial(Connection, origin, self._idle),
                sock=opened,
                ssl=self._tls_for(origin) if origin.is_tls else None,
                server_hostname=_server_name(origin) if origin.is_tls else None,
                ssl_handshake_timeout=self._connect_seconds if origin.is_tls else None,
            )
        except BaseException:
            # Not closed: the loop may still use its number, which another socket would have by then.
            with suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
            raise
        return connection

    def _are_direct(self, addresses: Sequence[AddrInfoType]) -> bool:
        found = [ip_address(str(destination[0])) for *_, destination in addresses]
        return all(any(each in network for network in self._direct) for each in found)

    async def _open_through(
        self, proxy: Proxy, addresses: Sequence[AddrInfoType], origin: Origin
    ) -> Connection:
        """A tunnel to the first address that the proxy reaches."""
        refusal = TunnelRefused("the proxy was asked for no address")
        for *_, destination in addresses:
            address, port = str(destination[0]), int(destination[1])
            self._guard.check(address)
            try:
                transport = await open_tunnel(proxy, address, port)
            except TunnelRefused as error:
                refusal = error
                continue
            return await self._taken_over(transport, origin)
        raise NoAnswer(str(refusal))

    async def _taken_over(self, transport: asyncio.Transport, origin: Origin) -> Connection:
        """The connection that speaks to the origin through a tunnel."""
        connection = Connection(origin, self._idle)
        transport.set_protocol(connection)
        if not origin.is_tls:
            connection.connection_made(transport)
            return connection
        try:
            encrypted = await asyncio.get_running_loop().start_tls(
                transport,
                connection,
                self._tls_for(origin),
                server_hostname=_server_name(origin),
                ssl_handshake_timeout=self._connect_seconds,
            )
        except BaseException:
            transport.abort()
            raise
        if encrypted is None:
            raise NoAnswer("the connection was closed in the TLS handshake")
        connection.connection_made(encrypted)
        return connection

    def _tls_for(self, origin: Origin) -> ssl.SSLContext:
        return self._tls if origin.identity is None else context_of(origin.identity)

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        if self._given_tls:
            return self._given_tls
        context = ssl.create_default_context()
        context.set_alpn_protocols(["http/1.1"])
        return context


def _server_name(origin: Origin) -> str:
    return origin.host.rstrip(".")


def _failure(error: OSError, origin: Origin) -> Exception:
    """A failed connect, told as the receiver's fault or as a shortage of ours."""
    if is_shortage(error):
        return Shortage(reason(error))
    if isinstance(error, socket.gaierror):
        return NoAnswer(f"the name {origin.host[:100]} was not found: {error.strerror}")
    if isinstance(error, ssl.SSLCertVerificationError):
        return NoAnswer(f"TLS: the certificate is not trusted: {error.verify_message}")
    return NoAnswer(f"no connection: {reason(error)}")
