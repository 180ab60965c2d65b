"""TLS in front of a connection, with the bounds of a plain connection.

The event loop's own TLS does the cryptography. Two things are missing there. A connection is not
seen before its handshake is complete. And an answer of any size counts as sent once it is
encrypted, although the system has not taken it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from ssl import SSLContext, SSLError
from typing import Any, TypeAlias, cast

from uvicorn.server import ServerState

from api.connection import Connection
from api.connection_limits import UNREAD_SECONDS, ConnectionLimits

HANDSHAKE_SECONDS = 10.0
"""Time for a whole handshake."""

SLICE_BYTES = 65536
"""Bytes that are encrypted at once. A transport's buffer is full with as many, so that it tries to
send each slice at once."""

logger = logging.getLogger(__name__)

Bytes: TypeAlias = bytes | bytearray | memoryview


class Handshake(asyncio.Protocol):
    """A connection of a client whose handshake is under way. It counts as an idle connection."""

    def __init__(
        self,
        *arguments: Any,
        limits: ConnectionLimits,
        context: Callable[[], SSLContext],
        server_state: ServerState,
        **named: Any,
    ) -> None:
        self._make = partial(
            Connection, *arguments, limits=limits, server_state=server_state, **named
        )
        self._limits = limits
        self._context = context
        self._open = cast(set[Any], server_state.connections)
        self._early = bytearray()
        """Bytes that came before the event loop's TLS was in place, or before the connection was."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._tcp = cast(asyncio.Transport, transport)
        if not self._limits.admit(self):
            self._tcp.abort()
            return
        self._open.add(self)
        self._task = asyncio.get_running_loop().create_task(self._shake_hands())

    def data_received(self, data: bytes) -> None:
        self._early += data

    async def _shake_hands(self) -> None:
        try:
            tls = await self._start_tls()
        finally:
            self._open.discard(self)
            self._limits.forget(self)
        if tls is None or tls.is_closing():
            return
        connection = self._make()
        encrypted = Encrypted(tls, self._tcp, connection)
        tls.set_protocol(encrypted)
        connection.connection_made(encrypted)
        if self._early:
            connection.data_received(bytes(self._early))

    async def _start_tls(self) -> asyncio.Transport | None:
        loop = asyncio.get_running_loop()
        if self._tcp.is_closing():
            return None
        loop.call_soon(self._pass_early)
        try:
            return await loop.start_tls(
                self._tcp,
                self,
                self._context(),
                server_side=True,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=UNREAD_SECONDS,
            )
        except SSLError as error:
            logger.info(
                "A client and this service do not agree on TLS",
                extra={"action": "handshake_failed", "reason": error.reason or str(error)},
            )
        except OSError:
            pass  # The client is gone, or took too long.
        return None

    def _pass_early(self) -> None:
        """Give the early bytes to the event loop's TLS, which does not read yet."""
        size = len(self._early)
        if size and not self._tcp.is_closing():
            tls = cast(asyncio.BufferedProtocol, self._tcp.get_protocol())
            memoryview(tls.get_buffer(size))[:size] = self._early
            tls.buffer_updated(size)
            self._early.clear()

    # Called by the limits and by the server.

    def end(self) -> None:
        self._tcp.abort()

    shutdown = end

    def buffered_bytes(self) -> int:
        return 0


class Encrypted(asyncio.Transport, asyncio.Protocol):
    """The transport of a connection, and the protocol of the event loop's TLS below it.

    It gives TLS one slice of an answer after the other, and waits while the system takes no more.
    """

    def __init__(
        self, tls: asyncio.Transport, tcp: asyncio.Transport, connection: Connection
    ) -> None:
        super().__init__()
        self._tls = tls
        self._tcp = tcp
        self._connection: asyncio.Protocol = connection
        self._unsent: deque[memoryview] = deque()
        self._unsent_bytes = 0
        self._is_full = False
        """Whether TLS keeps bytes that the system has not taken."""
        self._is_ending = False
        self._may_linger = False
        # Full with the first byte that is left, free again with the last.
        tls.set_write_buffer_limits(high=1, low=0)

    # Called by the connection.

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._connection = cast(asyncio.Protocol, protocol)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._tls.get_extra_info(name, default)

    def pause_reading(self) -> None:
        self._tls.pause_reading()

    def resume_reading(self) -> None:
        self._tls.resume_reading()

    def write(self, data: Bytes) -> None:
        self.writelines((data,))

    def writelines(self, parts: Iterable[Bytes]) -> None:
        if self.is_closing():
            return
        data = b"".join(parts)
        self._unsent.append(memoryview(data))
        self._unsent_bytes += len(data)
        was_full = self._is_full
        self._send()
        if self._is_full and not was_full:
            self._connection.pause_writing()

    def get_write_buffer_size(self) -> int:
        below = self._tls.get_write_buffer_size() + self._tcp.get_write_buffer_size()
        return self._unsent_bytes + below

    def write_eof(self) -> None:
        """Close our side when everything is sent. TLS drops the bytes that still arrive."""
        self._may_linger = True
        self.close()

    def is_closing(self) -> bool:
        return self._is_ending or self._tls.is_closing()

    def close(self) -> None:
        """End the connection when everything is sent."""
        if not self.is_closing():
            self._is_ending = True
            if not self._is_full:
                self._end()

    def abort(self) -> None:
        self._tls.abort()

    # Called by the event loop's TLS.

    def data_received(self, data: bytes) -> None:
        self._connection.data_received(data)

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self._send()
        if self._is_full:
            return
        self._connection.resume_writing()
        if self._is_ending:
            self._end()

    def eof_received(self) -> None:
        """The client sends nothing more, and TLS is about to close. It gets what is left to send."""
        while self._unsent:
            self._tls.write(self._unsent.popleft())
        self._unsent_bytes = 0
        self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)
        self._unsent.clear()
        del self._connection  # It refers to this object.

    def _send(self) -> None:
        while self._unsent and not self._is_full:
            part = self._unsent.popleft()
            if len(part) > SLICE_BYTES:
                self._unsent.appendleft(part[SLICE_BYTES:])
            size = min(len(part), SLICE_BYTES)
            self._unsent_bytes -= size
            self._tls.write(part[:size])

    def _end(self) -> None:
        """Tell the client that this is the end. Its reply is awaited only if we may linger."""
        self._tls.close()
        is_told = not self._tls.get_write_buffer_size()  # Otherwise TLS closes when it is.
        if is_told and not self._may_linger:
            self._tcp.close()
