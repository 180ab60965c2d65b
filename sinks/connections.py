"""Connections to receivers: one exchange at a time on each, and kept while they are idle."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import cast

import msgspec
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from sinks.answer import (
    START_BYTES,
    Response,
    as_fields,
    as_text,
    is_begun,
    is_final,
    may_end,
    read_malformed,
)
from sinks.identity import Identity
from sinks.retry_after import NAMES as PACING_NAMES

HEAD_BYTES = 32768
"""The most bytes until the status and the headers of an answer are complete, interim answers included."""
PIECE_BYTES = 8192
"""The size of a piece that is parsed at once: the parser joins the pieces of one header."""

BODY_SECONDS = 1.0
"""The wait for the end of a body: enough for a short body to end, so that its connection can be kept."""

KEEP_ALIVE_SECONDS = 15.0

_CLOSED = "the connection was closed without an answer"
_NOT_HTTP = "the answer is not HTTP"


class Origin(msgspec.Struct, frozen=True):
    """Where a connection leads. `host` is a name as DNS has it, or an address without brackets."""

    is_tls: bool
    host: str
    port: int
    identity: Identity | None = None
    """The certificates of the subscription, if it has its own: its connections are for no other."""


class NoAnswer(Exception):
    """A request got no answer; whether it arrived is unknown. The text gives the reason, for the detail of a
    delivery, and names at most the host."""


class IdleConnections:
    """Connections that wait for another request to their origin, at most `most`, and not for long."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._since: OrderedDict[Connection, float] = OrderedDict()
        """When each became idle, in that order."""
        self._by_origin: dict[Origin, list[Connection]] = {}
        self._sweep: asyncio.TimerHandle | None = None

    def take(self, origin: Origin) -> Connection | None:
        """The connection to `origin` that was used last, if one is open."""
        while connections := self._by_origin.get(origin):
            connection = connections.pop()
            if not connections:
                del self._by_origin[origin]
            del self._since[connection]
            if connection.is_open():
                return connection
        return None

    def give(self, connection: Connection) -> None:
        """Keep a connection that can be used again; the one that was idle longest makes room."""
        if not connection.is_reusable or not connection.is_open():
            connection.close()
            return
        loop = asyncio.get_running_loop()
        self._since[connection] = loop.time()
        self._by_origin.setdefault(connection.origin, []).append(connection)
        if len(self._since) > self._most:
            self._close(next(iter(self._since)))
        if self._since and self._sweep is None:
            self._sweep = loop.call_later(KEEP_ALIVE_SECONDS, self._close_old, loop)

    def forget(self, connection: Connection) -> None:
        if self._since.pop(connection, None) is None:
            return
        connections = self._by_origin[connection.origin]
        connections.remove(connection)
        if not connections:
            del self._by_origin[connection.origin]

    def close(self) -> None:
        self._most = 0  # Requests under way give their connections back later.
        if self._sweep:
            self._sweep.cancel()
            self._sweep = None
        for connection in list(self._since):
            self._close(connection)

    def _close(self, connection: Connection) -> None:
        self.forget(connection)
        connection.close()

    def _close_old(self, loop: asyncio.AbstractEventLoop) -> None:
        self._sweep = None
        while self._since:
            connection, since = next(iter(self._since.items()))
            if loop.time() < since + KEEP_ALIVE_SECONDS:
                at = since + KEEP_ALIVE_SECONDS
                self._sweep = loop.call_at(at, self._close_old, loop)
                return
            self._close(connection)


class Connection(asyncio.Protocol):
    """An open connection: one exchange at a time, each on a clean slate or not at all."""

    def __init__(self, origin: Origin, idle: IdleConnections) -> None:
        self.origin = origin
        self.is_reusable = False
        """The last exchange ended as HTTP wants it, with nothing left over."""
        self._idle = idle
        self._transport: asyncio.Transport
        self._parser = HttpResponseParser(self)
        # As browsers and other clients read: the meaning of an answer stays clear, and a receiver can
        # mislead only itself.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True,
            lenient_optional_cr_before_lf=True,
            lenient_spaces_after_chunk_size=True,
        )
        self._answer: asyncio.Future[Response] | None = None
        self._end_of_wait: asyncio.TimerHandle | None = None
        self._received = 0
        self._head = bytearray()
        self._has_head = False
        self._is_malformed = False
        self._phrase = b""
        self._pacing: list[tuple[bytes, bytes]] = []
        self._start = b""

    def is_open(self) -> bool:
        return not self._transport.is_closing()

    def close(self) -> None:
        self._transport.abort()

    async def exchange(self, request: Sequence[bytes], *, deadline: float) -> Response:
        """Send a request and wait for its answer until the loop's clock says `deadline`.

        Raises:
            TimeoutError: There was none by then.
            NoAnswer: The connection was lost, or the answer is not HTTP.
        """
        if not self.is_open():
            raise NoAnswer(_CLOSED)
        loop = asyncio.get_running_loop()
        self._answer = loop.create_future()
        self.is_reusable = False
        self._received = 0
        self._head = bytearray()
        self._has_head = False
        self._transport.writelines(request)
        time_out = loop.call_at(deadline, self._settle, TimeoutError())
        try:
            return await self._answer
        finally:
            time_out.cancel()
            if self._end_of_wait:
                self._end_of_wait.cancel()
                self._end_of_wait = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._idle.forget(self)
        if error is None:
            self._settle(NoAnswer(_NOT_HTTP if self._is_malformed else _CLOSED))
        else:
            self._settle(NoAnswer(f"connection lost: {reason(error)}"))

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._answer.done():
            self.close()  # No request waits for it.
            return
        for place in range(0, len(data), PIECE_BYTES):
            if self._answer.done():
                # The rest came after the answer, or is a part of it that is not read.
                self.is_reusable = False
                return
            self._read(data[place : place + PIECE_BYTES])
        if self._answer.done() or self._end_of_wait:
            return
        if self._has_head or self._is_malformed:
            end = partial(self._settle, NoAnswer(_NOT_HTTP))
            self._end_of_wait = asyncio.get_running_loop().call_later(BODY_SECONDS, end)

    def _read(self, piece: bytes) -> None:
        self._received += len(piece)
        if not self._has_head:
            self._head += piece
        if not self._is_malformed:
            self._parse(piece)
        if self._is_malformed:
            self._read_malformed(len(piece))
        if self._received > HEAD_BYTES or len(self._start) == START_BYTES:
            self._settle(NoAnswer(f"the answer has more than {HEAD_BYTES} bytes of headers"))

    def _parse(self, piece: bytes) -> None:
        try:
            self._parser.feed_data(piece)
        except (HttpParserError, HttpParserUpgrade):
            self.is_reusable = False
            if self._has_head:
                self._settle()
            else:
                self._is_malformed = True

    def _read_malformed(self, new: int) -> None:
        """Once the parser has given up, the status line counts, and a Retry-After if one comes."""
        if not is_begun(self._head):
            self._settle(NoAnswer(_NOT_HTTP))
        elif may_end(self._head, new) and read_malformed(self._head)[1]:
            self._settle()

    def on_message_begin(self) -> None:
        self.is_reusable = False
        self._phrase = self._start = b""
        self._pacing = []

    def on_status(self, phrase: bytes) -> None:
        self._phrase += phrase

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._has_head and name.lower() in PACING_NAMES:
            self._pacing.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        self._has_head = is_final(status)

    def on_body(self, data: bytes) -> None:
        if len(self._start) < START_BYTES:
            self._start += data[: START_BYTES - len(self._start)]

    def on_message_complete(self) -> None:
        if not self._has_head or self._answer is None or self._answer.done():
            return
        self.is_reusable = (
            self._parser.should_keep_alive() and self._transport.get_write_buffer_size() == 0
        )
        self._settle()

    def _settle(self, failure: Exception | None = None) -> None:
        """End the exchange. A status line that came counts, even if the rest is broken."""
        if self._answer is None or self._answer.done():
            return
        if self._has_head:
            self._answer.set_result(
                Response(
                    self._parser.get_status_code(),
                    as_text(self._phrase),
                    as_fields(self._pacing),
                    self._start,
                )
            )
            return
        answer, _ = read_malformed(self._head)
        if answer:
            self._answer.set_result(answer)
        else:
            self._answer.set_exception(failure or NoAnswer(_NOT_HTTP))


def reason(error: Exception) -> str:
    """The reason of a failure, without the addresses and file positions that libraries add."""
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason}"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return type(error).__name__
