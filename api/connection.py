"""One connection of a client, with bounds on what it may send, and on how long it may take.

Uvicorn bounds neither the size of a request's head nor the time that a request takes to arrive, nor
the time that an answer waits to be read: one client could fill the memory with headers that never end
or with pages that it does not read, or hold every connection that we may have.
"""

from __future__ import annotations

import asyncio

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

MAX_HEAD_BYTES = 65536
"""Request line and headers. Clients' heads have a few hundred bytes, a page's by 20 ids under 1,000."""

ARRIVAL_SECONDS = 60.0
"""Time for one request to arrive whole, and for a new connection's first one to begin to."""

UNREAD_SECONDS = 30.0
"""Time in which a client reads something of an answer that waits for it."""


MAX_CHUNKED_BYTES = 65536
"""What may follow the head of a request of no stated length. We read nothing of it, and end such a
connection with the answer; but the library below keeps what comes behind it as headers."""


class Connection(HttpToolsProtocol):
    _head_bytes = 0
    _chunked_bytes = 0
    _arrival: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._arrival = self.loop.call_later(ARRIVAL_SECONDS, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_arrival()
        self._stop_reading()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        # In pieces, so that a head is measured before much more of it is parsed.
        for start in range(0, len(data), MAX_HEAD_BYTES):
            self._receive(data[start : start + MAX_HEAD_BYTES])
            if self.transport.is_closing():
                return
        self._watch_arrival()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reading(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        self._stop_reading()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """End an idle connection; what its client has not read by now, it never will."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    def send_400_response(self, msg: str) -> None:
        """Refuse what can't be read as a request, in the contract's form."""
        body = orjson.dumps({"title": "Invalid API request", "description": msg})
        self.transport.write(
            b"%bcontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
            % (STATUS_LINE[400], len(body), body)
        )
        self.transport.close()

    def _receive(self, piece: bytes) -> None:
        was_in_head = self._is_in_head()
        super().data_received(piece)
        if not self._is_in_head():
            self._head_bytes = 0
            self._bound_chunked(len(piece))
        elif was_in_head:
            self._head_bytes += len(piece)
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response(
                    f"The request line and headers have more than {MAX_HEAD_BYTES} bytes"
                )

    def _bound_chunked(self, size: int) -> None:
        cycle = self.cycle
        if cycle is None or not cycle.more_body:
            self._chunked_bytes = 0
        elif any(name == b"transfer-encoding" for name, _ in cycle.scope["headers"]):
            self._chunked_bytes += size
            if self._chunked_bytes > MAX_CHUNKED_BYTES:
                self.transport.abort()

    def _is_in_head(self) -> bool:
        """Whether a request has begun and its headers are not complete."""
        return self.scope is not None and "method" not in self.scope

    def _watch_arrival(self) -> None:
        """Start, or stop, the clock of a request that has arrived in part."""
        # A body that is refused unread counts as under way until the next request: then the clock
        # ends an idle connection, a little before the keep-alive's own would.
        if not self._is_in_head() and (self.cycle is None or not self.cycle.more_body):
            self._stop_arrival()
        elif self._arrival is None:
            self._arrival = self.loop.call_later(ARRIVAL_SECONDS, self._give_up)

    def _stop_arrival(self) -> None:
        if self._arrival is not None:
            self._arrival.cancel()
            self._arrival = None

    def _give_up(self) -> None:
        self._arrival = None
        self.transport.abort()

    def _watch_reading(self, unread: int) -> None:
        self._stop_reading()
        self._reading = self.loop.call_later(UNREAD_SECONDS, self._check_reading, unread)

    def _check_reading(self, unread_before: int) -> None:
        unread = self.transport.get_write_buffer_size()
        if unread < unread_before:
            self._watch_reading(unread)
        else:
            self.transport.abort()

    def _stop_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
