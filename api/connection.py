"""One connection of a client: one answer for each message, whatever is sent, and bounds on all of it.

Uvicorn's protocol is the base. Four things differ here.

- An offer to upgrade to another protocol is declined: the request is read as if it had not been made.
  Uvicorn's parser takes the end of such a request's head for the end of the request, so that its body
  would be read as the next request.
- What can't be read as a request is answered after the requests before it, and never beside an answer.
- A connection that is closed while its client still sends is closed in two steps: first our side, then,
  when the client has sent all or too much, the rest. Otherwise the client's system forgets our answer.
- Head, arrival and reading have bounds, in bytes and seconds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, cast

import httptools
import orjson
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from api.connection_limits import ConnectionLimits

MAX_HEAD_BYTES = 65536
"""Request line and headers. Clients' heads have a few hundred bytes, a page's by 20 ids under 1,000."""

MAX_OVERHEAD_BYTES = 65536
"""What a chunked body may send without a byte of the body itself: chunk extensions and trailers."""

ARRIVAL_SECONDS = 60.0
"""Time for one request to arrive whole, and for a new connection's first one to begin to."""

UNREAD_SECONDS = 30.0
"""Time in which a client reads something of an answer that waits for it."""

LINGER_BYTES = 8 << 20
LINGER_SECONDS = 15.0
"""How much of what a client still sends is taken off a connection that we end, and for how long."""

logger = logging.getLogger(__name__)

UNREADABLE = "This is not a valid HTTP/1.1 request"


class Exit:
    """The transport as the library sees it. Its `close` is another, and behind that it writes nothing."""

    def __init__(self, connection: Connection, transport: asyncio.Transport) -> None:
        self.write: Callable[[bytes], None] = transport.write
        self.abort = transport.abort
        self.get_write_buffer_size = transport.get_write_buffer_size
        self.is_closing = connection.is_leaving
        self.close = connection.leave

    def forget(self, _data: bytes) -> None:
        """Stands in for `write` once our side is closed."""


class Connection(HttpToolsProtocol):
    def __init__(self, *arguments: Any, limits: ConnectionLimits, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._limits = limits
        self._postponed: tuple[RequestResponseCycle, ASGI3Application] | None = None
        """The next request, while the answer to the last one is unread."""
        self._head_bytes = 0
        self._overhead_bytes = 0
        self._is_whole = True
        """Whether the latest request's body has arrived; of its head `_is_in_head` speaks."""
        self._refusal: bytes | None = None
        """The answer to what came behind the requests that are still being answered."""
        self._left_bytes: int | None = None
        """How much more is read of a connection that we end; None: it goes on."""
        self._may_linger = True
        self._arrival: asyncio.TimerHandle | None = None
        self._reading: asyncio.TimerHandle | None = None

    # What the event loop calls.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wire = transport
        self._exit = Exit(self, transport)
        self.transport = cast(asyncio.Transport, self._exit)
        if self._limits.admit(self):
            self._arrival = self.loop.call_later(ARRIVAL_SECONDS, self._give_up)
        else:
            title = "Service temporarily unavailable"
            description = "There are too many connections. Please retry in a moment."
            transport.write(self._error(503, title, description, b"retry-after: 1\r\n"))
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._limits.forget(self)
        self._stop_arrival()
        self._stop_reading()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        # In pieces, so that a head is measured before much more of it is parsed.
        for start in range(0, len(data), MAX_HEAD_BYTES):
            if self.is_leaving():
                self._discard(len(data) - start)
                return
            if self._refusal is None:
                self._receive(data[start : start + MAX_HEAD_BYTES])
        if not self.is_leaving():
            self._watch_arrival()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reading(self.unread_bytes())

    def resume_writing(self) -> None:
        self._stop_reading()
        self._limits.note_unread(self, 0)
        super().resume_writing()
        if self._postponed is not None:
            cycle, app = self._postponed
            self._postponed = None
            self._start_asgi_task(cycle, app)

    # What the library calls.

    def on_headers_complete(self) -> None:
        self.url = _origin_form(self.url)
        self._is_whole = False
        super().on_headers_complete()
        # Fields behind a chunked body belong to no head: they would be believed like a proxy's.
        self.headers = []

    def on_body(self, body: bytes) -> None:
        self._overhead_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._is_whole = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._is_idle():
            self._limits.rest(self)
            if self._refusal is not None:
                self._answer_unreadable(self._refusal)

    def timeout_keep_alive_handler(self) -> None:
        """End an idle connection; what its client has not read by now, it never will."""
        self.end()

    def shutdown(self) -> None:
        if self.is_leaving():
            self._wire.abort()
        elif self._is_idle():
            self._wire.close()
        else:
            self.cycle.keep_alive = False
            self._may_linger = False

    def send_400_response(self, msg: str) -> None:
        """Refuse what can't be read as a request, in the contract's form.

        Requests before it are answered first. A request that was under way is answered by this alone.
        """
        logger.info(
            "A request can't be read", extra={"action": "request_unreadable", "reason": msg}
        )
        answer = self._error(400, "Invalid API request", msg)
        cycle = self.cycle
        if self._is_whole and not self._is_idle():
            self._refusal = answer
            self.flow.pause_reading()
        elif not self._is_whole and (self.pipeline or cycle.response_started):
            # Its place is taken, or is behind others': no answer may come from here.
            self.leave()
        else:
            self._answer_unreadable(answer)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Work on a request, once its client has read of the answer before it."""
        if self.flow.write_paused:
            self._postponed = (cycle, app)
            self.flow.pause_reading()
        else:
            self._limits.begin(self)
            super()._start_asgi_task(cycle, app)

    def _should_upgrade(self) -> bool:
        """Yes, for the library: so it begins nothing, and leaves the request to `_decline_upgrade`."""
        return True

    # Reading.

    def _receive(self, piece: bytes) -> None:
        self._unset_keepalive_if_required()
        was_in_head = self._is_in_head()
        self._overhead_bytes += len(piece)
        self._parse(memoryview(piece))
        if self._is_in_head():
            if was_in_head:
                self._head_bytes += len(piece)
            if self._head_bytes > MAX_HEAD_BYTES and not self.is_leaving():
                self.send_400_response(
                    f"The request line and headers have more than {MAX_HEAD_BYTES} bytes"
                )
            return
        self._head_bytes = 0
        if self._is_whole:
            self._overhead_bytes = 0
        elif self._overhead_bytes > MAX_OVERHEAD_BYTES + len(piece):
            self._wire.abort()

    def _parse(self, rest: memoryview) -> None:
        while True:
            try:
                self.parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as offer:
                rest = rest[offer.args[0] :]
                if not self._decline_upgrade():
                    self.send_400_response("CONNECT is not served here")
                    return
            except httptools.HttpParserError:
                self.send_400_response(UNREADABLE)
                return

    def _decline_upgrade(self) -> bool:
        """Read the head again without its offer, by a new parser: the last one is past its end.

        Nothing of the body was read. False when it can't be declined: CONNECT asks for nothing else.
        """
        scope = self.scope
        if scope["method"] == "CONNECT":
            return False
        head = [
            b"%b %b HTTP/%b\r\n"
            % (scope["method"].encode(), self.url, scope["http_version"].encode())
        ]
        for name, value in scope["headers"]:
            if name != b"upgrade":
                head.append(b"%b: %b\r\n" % (name, value))
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.parser.feed_data(b"".join(head) + b"\r\n")
        return True

    def _is_in_head(self) -> bool:
        """Whether a request has begun and its headers are not complete."""
        return self.scope is not None and "method" not in self.scope

    def _is_idle(self) -> bool:
        """Whether every request that was read is answered."""
        return self.cycle is None or (self.cycle.response_complete and not self.pipeline)

    # Limits over all connections.

    def unread_bytes(self) -> int:
        return self._wire.get_write_buffer_size()

    def end(self) -> None:
        """Make room for others."""
        if self.unread_bytes() or self.is_leaving():
            # Not at once: this may come from within a write.
            self.loop.call_soon(self._wire.abort)
        else:
            self._wire.close()

    # Leaving.

    def is_leaving(self) -> bool:
        return self._left_bytes is not None or self._wire.is_closing()

    def leave(self) -> None:
        """End the connection; what its client still sends is taken first, within bounds."""
        if self.is_leaving():
            return
        self._exit.write = self._exit.forget
        if not self._may_linger or (self._is_whole and not self._is_in_head()):
            self._wire.close()
            return
        self._left_bytes = LINGER_BYTES
        self._unset_keepalive_if_required()
        self._stop_arrival()
        self._arrival = self.loop.call_later(LINGER_SECONDS, self._give_up)
        self._wire.write_eof()
        self.flow.resume_reading()

    def _discard(self, size: int) -> None:
        if self._left_bytes is not None:
            self._left_bytes -= size
            if self._left_bytes < 0:
                self._wire.abort()

    def _answer_unreadable(self, answer: bytes) -> None:
        if self.cycle is not None:
            self.cycle.disconnected = True  # Whatever works on it has nobody to answer any more.
            self.cycle.message_event.set()
        self._is_whole = False  # More of what can't be read may be on its way.
        self._wire.write(answer)
        self.leave()

    def _error(self, status: int, title: str, description: str, headers: bytes = b"") -> bytes:
        """An answer that ends the connection, in the contract's form."""
        body = orjson.dumps({"title": title, "description": description})
        dates = b"".join(b"%b: %b\r\n" % header for header in self.server_state.default_headers)
        return (
            b"%b%b%bcontent-type: application/json\r\ncontent-length: %d\r\n"
            b"connection: close\r\n\r\n%b"
        ) % (STATUS_LINE[status], dates, headers, len(body), body)

    # Clocks.

    def _watch_arrival(self) -> None:
        """Start, or stop, the clock of a request that has arrived in part."""
        if not self._is_in_head() and self._is_whole:
            self._stop_arrival()
        elif self._arrival is None:
            self._arrival = self.loop.call_later(ARRIVAL_SECONDS, self._give_up)

    def _stop_arrival(self) -> None:
        if self._arrival is not None:
            self._arrival.cancel()
            self._arrival = None

    def _give_up(self) -> None:
        self._arrival = None
        self._wire.abort()

    def _watch_reading(self, unread: int) -> None:
        self._stop_reading()
        self._limits.note_unread(self, unread)
        self._reading = self.loop.call_later(UNREAD_SECONDS, self._check_reading, unread)

    def _check_reading(self, unread_before: int) -> None:
        unread = self.unread_bytes()
        if unread < unread_before:
            self._watch_reading(unread)
        else:
            self._wire.abort()

    def _stop_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None


def _origin_form(target: bytes) -> bytes:
    """The path and query of a request target, as this server's own routes have them.

    Endpoints that end in a slash, and paths that begin with one, make two of them.
    """
    if target == b"*":
        return b"/"
    if target[:1] != b"/":
        parts = httptools.parse_url(target)  # Raises for what has no authority: "host:80", "path".
        target = parts.path or b"/"
        if parts.query is not None:
            target += b"?" + parts.query
    return b"/" + target.lstrip(b"/") if target[:2] == b"//" else target
