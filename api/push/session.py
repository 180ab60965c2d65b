"""One WebSocket, from its handshake to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from api.push.answering import EXPIRED, Answering, Parts
from api.push.frames import Data
from api.push.identity import Identity
from api.push.subscribing import Subscribing
from api.sockets import PROOF
from api.turns import LARGE_BYTES, READ
from zaqar_notify.auth import Caller

NOT_IN_TIME = (1008, "No authentication in time.")
IDLE = (1001, "Idle for too long.")
KNOWN_SECONDS = 30.0
"""So often it is seen whether the token of a silent socket was revoked."""


class Session:
    """Answers the frames of a socket one after the other, in the order in which they came."""

    def __init__(self, socket: WebSocket, headers: Mapping[bytes, bytes], parts: Parts) -> None:
        """`headers` are those of the handshake."""
        self._socket = socket
        self._service, self._turns, self._limits = parts.service, parts.turns, parts.limits
        self._settings = settings = parts.service.settings
        self._identity = Identity(headers, settings)
        self._subscribing = Subscribing(
            parts.service,
            parts.holdings,
            send=self._push,
            prove=socket.scope.get("extensions", {}).get(PROOF, _prove_nothing),
            close=self._close,
        )
        self._answering = Answering(parts, self._identity, self._subscribing, self._count_for)
        self._now = asyncio.get_running_loop().time
        self._began = self._last_frame = self._now()
        self._project: str | None = None
        """The project for which the socket is counted."""

    async def run(self) -> None:
        """Answer frames until the client or the server ends the socket."""
        await self._socket.accept()
        counts = self._service.metrics.sockets
        counts.open += 1
        try:
            ending = None
            if self._identity.has_token:
                ending = await self._answering.prove_handshake()
            if ending is None:
                ending = await self._answer_frames()
            if ending is not None:
                await self._close(*ending)
        except WebSocketDisconnect:
            pass  # The client went while its answer was sent.
        finally:
            await self._subscribing.end()
            counts.open -= 1
            if self._project is not None:
                self._limits.leave(self._project)

    async def _answer_frames(self) -> tuple[int, str] | None:
        """The code and the reason with which the socket is to be closed; None: it is closed."""
        while True:
            try:
                async with asyncio.timeout_at(self._look_at()):
                    event = await self._socket.receive()
            except TimeoutError:
                ending = await self._reason_to_end()
                if ending is not None:
                    return ending
                continue
            if event["type"] == "websocket.disconnect":
                return None
            self._last_frame = self._now()
            text: Data | None = event.get("text")
            ending = await self._answer(event["bytes"] if text is None else text)
            if ending is not None:
                return ending

    async def _answer(self, data: Data) -> tuple[int, str] | None:
        """Answer a frame. The answer is kept no longer: the next one may wait until this one is read."""
        reply = await self._answering.answer(data)
        if reply.frame is not None:
            await self._send(reply.frame)
        self._subscribing.answered()
        return reply.ending

    async def _send(self, data: Data) -> None:
        if isinstance(data, str):
            await self._socket.send_text(data)
        else:
            await self._socket.send_bytes(data)
        size, scope = len(data), self._socket.scope
        if size > LARGE_BYTES and READ in scope and self._project is not None:
            await self._turns.of(self._project).unread(size, scope[READ])

    async def _push(self, data: Data) -> None:
        if self._socket.application_state is not WebSocketState.CONNECTED:
            raise WebSocketDisconnect
        await self._send(data)

    async def _close(self, code: int, reason: str) -> None:
        if self._socket.application_state is WebSocketState.CONNECTED:
            await self._socket.close(code, reason)

    def _count_for(self, project: str) -> None:
        """Count the socket for the first project that it works for.

        Raises:
            TooManySockets: That project has as many as it may.
        """
        if self._project is None:
            self._limits.enter(project)
            self._project = project

    # How long it may stay.

    def _look_at(self) -> float:
        """The instant, by the event loop's clock, at which it is seen whether the socket may stay."""
        if not self._identity.is_proved:
            return self._began + self._settings.websocket_authentication_seconds
        until = self._now() + KNOWN_SECONDS
        ends = [
            self._now() + self._seconds_to(caller.expires_at, caller)
            for caller in self._answering.callers()
            if caller.expires_at is not None
        ]
        return min([until, *ends])

    def _seconds_to(self, end: datetime, caller: Caller) -> float:
        """Tenant tokens end by the store's clock, others by this host's."""
        now = self._service.clock.now() if caller.how == "token" else datetime.now(UTC)
        return (end - now).total_seconds()

    async def _reason_to_end(self) -> tuple[int, str] | None:
        if not self._identity.is_proved:
            return NOT_IN_TIME
        idle_seconds = self._settings.websocket_idle_seconds
        is_idle = not self._subscribing.is_any
        if is_idle and idle_seconds and self._now() - self._last_frame >= idle_seconds:
            return IDLE
        return None if await self._answering.is_known() else EXPIRED


async def _prove_nothing() -> None:
    """For servers that send no pings: a frame that was sent counts as arrived."""
