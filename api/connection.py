"""One connection of a client: its end, and bounds on its time and on the bytes kept for it.

While a client still sends, its connection is closed in two steps. First our side is closed. The
rest is closed when the client has sent everything, or too much. In one step, the client's system
would drop our answer.

Uvicorn bounds neither the time that a request takes to arrive, nor the time that an answer waits to
be read. Without bounds, one client could fill the memory with unread pages and unfinished posts, or
hold every connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from api.connection_limits import ARRIVAL_SECONDS, UNREAD_SECONDS, ConnectionLimits
from api.reading import Reading
from api.turns import READ

LINGER_BYTES = 8 << 20
LINGER_SECONDS = 15.0
"""Bounds on the bytes and the time for which a connection that we end is still read."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
"""Goes out before the answer. A client that sent `Expect` holds its body back until it comes."""


class Exit:
    """The transport as uvicorn sees it. `close` is `Connection.leave`; later writes are dropped."""

    def __init__(self, connection: Connection, transport: asyncio.Transport) -> None:
        self.write: Callable[[bytes], None] = connection.send
        self.abort = transport.abort
        self.get_write_buffer_size = transport.get_write_buffer_size
        self.is_closing = connection.is_leaving
        self.close = connection.leave

    def detach(self) -> None:
        """Refer to the connection no more, so that it needs no garbage collection."""
        self.write = _drop
        self.is_closing = _yes
        self.close = _do_nothing


def _drop(_data: bytes) -> None:
    """Replaces `Exit.write` once our side is closed."""


def _yes() -> bool:
    return True


def _do_nothing() -> None:
    pass


class Connection(Reading):
    def __init__(self, *arguments: Any, limits: ConnectionLimits, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._limits = limits
        self._postponed: tuple[RequestResponseCycle, ASGI3Application] | None = None
        """The next request. It waits while the answer to the last one is unread."""
        self._left_bytes: int | None = None
        """Bytes that may still arrive before a connection that we end is cut; None: it goes on."""
        self._may_linger = True
        self._arrived_bytes = 0
        """Bytes of a request that has arrived in part."""
        self._unsent_bytes = 0
        """Bytes of unsent answers. The transport keeps an answer whole until all of it is sent."""
        self._head: bytes | None = None
        """Head of the current answer; empty once it is sent; None between two answers."""
        self._arrival: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    # Called by the event loop.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wire = transport
        self._exit = Exit(self, transport)
        self.transport = cast(asyncio.Transport, self._exit)
        if self._limits.admit(self):
            self._arrival = self.loop.call_later(ARRIVAL_SECONDS, self.give_up)
        else:
            title = "Service temporarily unavailable"
            description = "There are too many connections. Please retry in a moment."
            transport.write(self.error(503, title, description, b"retry-after: 1\r\n"))
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_arrival()
        self._stop_watching()
        self._head = b""
        self._limits.forget(self)
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._exit.detach()

    def data_received(self, data: bytes) -> None:
        if self._left_bytes is not None:
            self._left_bytes -= len(data)
            if self._left_bytes < 0:
                self.give_up()
            return
        super().data_received(data)
        if self.successor is not None or self.is_leaving():
            return
        if self.is_arriving():
            self._watch_arrival(len(data))
        else:
            self._stop_arrival()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reading()

    def resume_writing(self) -> None:
        self._stop_watching()
        self._limits.note_buffered(self, self._arrived_bytes)
        super().resume_writing()
        if self._postponed is not None:
            cycle, app = self._postponed
            self._postponed = None
            self._start_asgi_task(cycle, app)

    # Called by uvicorn.

    def send(self, data: bytes) -> None:
        """Write to the client; a head goes out together with the first bytes of its body.

        It stands as `Exit.write` until our side is closed.
        """
        if self._head is None and data != CONTINUE:
            self._head = data
            # The body may come much later: the head waits for one turn of the event loop.
            self.loop.call_soon(self._send_head)
        elif self._head:
            self._send_head(data)
        else:
            self._write((data,), len(data))

    def _send_head(self, following: bytes = b"") -> None:
        if self._head:
            parts = (self._head, following)
            self._write(parts, len(self._head) + len(following))
            self._head = b""

    def _write(self, parts: tuple[bytes, ...], size: int) -> None:
        waiting = self._wire.get_write_buffer_size()
        self._unsent_bytes = size + (self._unsent_bytes if waiting else 0)
        self._wire.writelines(parts)

    def on_response_complete(self) -> None:
        self._send_head()
        self._head = None
        super().on_response_complete()
        if self.is_idle():
            self._limits.rest(self)

    def timeout_keep_alive_handler(self) -> None:
        """End an idle connection. Answers that its client has not read by now are dropped."""
        self.end()

    def shutdown(self) -> None:
        if self.is_leaving():
            self._wire.abort()
        elif self.is_idle():
            self._wire.close()
        else:
            self.cycle.keep_alive = False
            self._may_linger = False

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Start a request, once its client has read enough of the answer before it."""
        if self.flow.write_paused:
            self._postponed = (cycle, app)
            self.flow.pause_reading()
        else:
            self._limits.begin(self)
            cast(dict[str, Any], cycle.scope)[READ] = self.flow.drain
            super()._start_asgi_task(cycle, app)

    def takes_offer(self) -> bool:
        """Whether the request that was read offers a WebSocket, and the offer can be taken now."""
        scope = cast(dict[str, Any], self.scope)
        offer = dict(scope["headers"])
        return (
            self.ws_protocol_class is not None
            and scope["method"] == "GET"
            and scope["http_version"] == "1.1"
            and offer.get(b"upgrade", b"").lower() == b"websocket"
            and not offer.keys() & {b"content-length", b"transfer-encoding"}
            and self.url.isascii()
            and self.is_idle()
            and not self.flow.write_paused
        )

    def hand_over(self) -> asyncio.Protocol:
        """Let a WebSocket take the connection, beginning with the head of the present request."""
        self._stop_arrival()
        self._stop_watching()
        self._limits.forget(self)
        self.connections.discard(self)
        socket: Any = self.ws_protocol_class(  # type: ignore[misc, call-arg]
            config=self.config, server_state=self.server_state, app_state=self.app_state
        )
        socket.connection_made(self._wire)
        self._wire.set_protocol(socket)
        head = [b"GET %b HTTP/1.1\r\n" % self.url]
        head += [b"%b: %b\r\n" % header for header in self.scope["headers"]]
        socket.data_received(b"".join(head) + b"\r\n")
        self._exit.detach()
        return cast(asyncio.Protocol, socket)

    # The end of the connection.

    def is_leaving(self) -> bool:
        return self._left_bytes is not None or self._wire.is_closing()

    def leave(self) -> None:
        """End the connection. A request that is still arriving is first read, within bounds."""
        if self.is_leaving():
            return
        self._send_head()
        self._exit.write = _drop
        if not self._may_linger or not self.is_arriving():
            self._wire.close()
            return
        self._left_bytes = LINGER_BYTES
        self._unset_keepalive_if_required()
        self._stop_arrival()
        self._arrival = self.loop.call_later(LINGER_SECONDS, self.give_up)
        self._wire.write_eof()
        self.flow.resume_reading()

    def give_up(self) -> None:
        self._wire.abort()

    def end(self) -> None:
        """End the connection, because it is idle or because others need its room."""
        if self.buffered_bytes() or self.is_leaving():
            # Later, because a write of this connection may be the caller.
            self.loop.call_soon(self._wire.abort)
        else:
            self._wire.close()

    # Slow clients.

    def buffered_bytes(self) -> int:
        waiting = self._wire.get_write_buffer_size()
        return self._arrived_bytes + (self._unsent_bytes if waiting else 0)

    def _watch_arrival(self, size: int) -> None:
        if not self.is_idle():  # The body of an answered request is dropped.
            self._arrived_bytes += size
            self._limits.note_buffered(self, self.buffered_bytes())
        if self._arrival is None:
            self._arrival = self.loop.call_later(ARRIVAL_SECONDS, self.give_up)

    def _watch_reading(self) -> None:
        unread = self._wire.get_write_buffer_size()
        self._stop_watching()
        self._unread = self.loop.call_later(UNREAD_SECONDS, self._check_reading, unread)
        self._limits.note_buffered(self, self.buffered_bytes())

    def _check_reading(self, unread_before: int) -> None:
        if self._wire.get_write_buffer_size() < unread_before:
            self._watch_reading()
        else:
            self._wire.abort()

    # Clocks.

    def _stop_arrival(self) -> None:
        if self._arrival is not None:
            self._arrival.cancel()
            self._arrival = None
        if self._arrived_bytes:
            self._arrived_bytes = 0
            self._limits.note_buffered(self, self.buffered_bytes())

    def _stop_watching(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
