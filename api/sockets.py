"""One WebSocket on a connection, with the bounds of an HTTP connection.

Uvicorn's protocol is the base; `websockets` reads and writes the frames. Uvicorn bounds neither the
time that a message takes to arrive, nor the fragments of one, nor the time that an answer waits to be
read. It also cuts a connection off when the server stops, although an answer may be under way.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, cast

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame
from websockets.protocol import State
from websockets.server import ServerProtocol

from api.connection_limits import ARRIVAL_SECONDS, UNREAD_SECONDS, ConnectionLimits
from api.turns import READ

GOODBYE_SECONDS = 2.0
"""Time for a client to close, too, when the server stops."""

PROOF = "zaqar_notify.proof"
"""Key in the `extensions` of a scope: a function that waits for a `Proof` of life."""

Proof: TypeAlias = Callable[[], Awaitable[None]]
"""Waits until the client has answered a ping that was sent after all that was written before."""

# Its records name addresses with queries, and the content of frames; a level of its own keeps them out.
_quiet = logging.getLogger(f"{__name__}.quiet")
_quiet.setLevel(logging.CRITICAL + 1)


class Socket(WebSocketsSansIOProtocol):
    def __init__(self, *arguments: Any, limits: ConnectionLimits, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.logger = _quiet
        self.conn = ServerProtocol(max_size=self.config.ws_max_size, logger=_quiet)
        self._limits = limits
        self._is_stopping = False
        self._early = bytearray()
        """Bytes that came before the answer to the handshake. Uvicorn can't answer it after a bad frame."""
        self._fragments = bytearray()
        self._arrival: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._waiting_bytes = 0
        """Of frames that are sent when the client has read those before."""
        self._pings = 0
        self._proofs: dict[bytes, asyncio.Future[None]] = {}

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._limits.admit(self)
        self._limits.begin(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop(self._arrival)
        self._stop(self._unread)
        for proof in self._proofs.values():
            if not proof.done():
                proof.set_exception(ClientDisconnected())
        self._proofs.clear()
        self._limits.forget(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.handshake_initiated and not self.handshake_complete:
            self._early += data
            self.transport.pause_reading()
            return
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.transport.write(
                b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            )
            self.transport.close()
        self._watch_arrival()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reading()

    def resume_writing(self) -> None:
        self._stop(self._unread)
        self._note_buffered()
        super().resume_writing()

    # Called by uvicorn.

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        if self.response.status_code == 101:
            scope = cast(dict[str, Any], self.scope)
            scope["extensions"][PROOF] = self.prove
            scope[READ] = self.writable.wait

    def handle_text(self, event: Frame) -> None:
        self.curr_msg_data_type = "text"
        self.handle_cont(event)

    def handle_bytes(self, event: Frame) -> None:
        self.curr_msg_data_type = "bytes"
        self.handle_cont(event)

    def handle_cont(self, event: Frame) -> None:
        """Add a fragment to the message; in one piece, since a message can have a million fragments."""
        self._fragments += event.data
        if event.fin:
            message, self._fragments = bytes(self._fragments), bytearray()
            self._pass_on(message)

    def _pass_on(self, message: bytes) -> None:
        if self.close_sent:
            return
        if self.curr_msg_data_type == "bytes":
            self.queue.put_nowait({"type": "websocket.receive", "bytes": message})
        else:
            try:
                text = message.decode()
            except UnicodeDecodeError:
                self.conn.fail(CloseCode.INVALID_DATA, "The text is not UTF-8")
                self.handle_parser_exception()
                return
            self.queue.put_nowait({"type": "websocket.receive", "text": text})
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    def handle_pong(self, event: Frame) -> None:
        proof = self._proofs.pop(bytes(event.data), None)
        if proof is None:
            super().handle_pong(event)
        elif not proof.done():
            proof.set_result(None)

    async def send(self, message: Any) -> None:
        if not self.writable.is_set():
            await self._wait_with(len(message.get("text") or message.get("bytes") or b""))
        if self.close_sent and self.handshake_complete:
            raise ClientDisconnected
        await super().send(message)
        if self._early and self.handshake_complete:
            early, self._early = bytes(self._early), bytearray()
            self.transport.resume_reading()
            self.data_received(early)

    async def receive(self) -> Any:
        if not self._is_stopping:
            event = await super().receive()
            if not self._is_stopping:
                return event
        self._say_goodbye()
        return {"type": "websocket.disconnect", "code": CloseCode.GOING_AWAY}

    def shutdown(self) -> None:
        """Let the application finish the answer under way, and then close."""
        if not self.handshake_complete or self.close_sent:
            super().shutdown()
            return
        self._is_stopping = True
        self.queue.put_nowait({"type": "websocket.disconnect", "code": CloseCode.GOING_AWAY})

    def _say_goodbye(self) -> None:
        """Close, and give the client a moment to do the same: else its system could drop our last answer."""
        if self.close_sent or self.disconnected or self.conn.state is not State.OPEN:
            return
        self.conn.send_close(CloseCode.GOING_AWAY, "The server stops.")
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.read_paused = False
        self.transport.resume_reading()
        self.close_timer = self.loop.call_later(GOODBYE_SECONDS, self.transport.close)

    # Called by the application and by the limits.

    async def prove(self) -> None:
        """Wait until the client answers a ping.

        What was written before has then arrived at it, since a connection keeps the order.

        Raises:
            ClientDisconnected: The connection is lost, or about to be closed.
        """
        if self.disconnected or self.conn.state is not State.OPEN:
            raise ClientDisconnected
        self._pings += 1
        payload = b"proof" + struct.pack("!Q", self._pings)
        proof = self._proofs[payload] = self.loop.create_future()
        self.conn.send_ping(payload)
        self.transport.write(b"".join(self.conn.data_to_send()))
        await proof

    def end(self) -> None:
        self.loop.call_soon(self.transport.abort)

    def buffered_bytes(self) -> int:
        unsent = self.transport.get_write_buffer_size() + self._waiting_bytes
        return unsent + self._arrived_bytes()

    def _arrived_bytes(self) -> int:
        return len(self._fragments) + len(self.conn.reader.buffer)

    # Slow clients.

    async def _wait_with(self, size: int) -> None:
        """Wait until the client has read nearly all; the next frame, of `size`, counts meanwhile, too."""
        self._waiting_bytes += size
        self._note_buffered()
        try:
            await self.writable.wait()
        finally:
            self._waiting_bytes -= size

    def _watch_arrival(self) -> None:
        if not self._arrived_bytes():
            self._stop(self._arrival)
            self._arrival = None
        elif self._arrival is None:
            self._arrival = self.loop.call_later(ARRIVAL_SECONDS, self.transport.abort)
        self._note_buffered()

    def _watch_reading(self) -> None:
        unread = self.transport.get_write_buffer_size()
        self._stop(self._unread)
        self._unread = self.loop.call_later(UNREAD_SECONDS, self._check_reading, unread)
        self._note_buffered()

    def _check_reading(self, unread_before: int) -> None:
        if self.transport.get_write_buffer_size() < unread_before:
            self._watch_reading()
        else:
            self.transport.abort()

    def _note_buffered(self) -> None:
        self._limits.note_buffered(self, self.buffered_bytes())

    def _stop(self, timer: asyncio.TimerHandle | None) -> None:
        if timer is not None:
            timer.cancel()
