"""A WebSocket, byte by byte: what a client's library would not send."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.api.conftest import Api

HANDSHAKE = (
    b"Host: localhost\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Raw:
    """A WebSocket, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(
        self, opcode: int, payload: bytes, *, is_last: bool = True, size: int | None = None
    ) -> None:
        """Send a frame; `size` is the length that it claims."""
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
        length = struct.pack("!BQ", 0x80 | 127, len(payload) if size is None else size)
        self.writer.write(bytes([0x80 * is_last | opcode]) + length + mask + masked)

    async def receive(self) -> tuple[int, bytes]:
        """The opcode and the payload of the next frame."""
        async with asyncio.timeout(10):
            opcode, length = await self.reader.readexactly(2)
            if length == 126:
                [length] = struct.unpack("!H", await self.reader.readexactly(2))
            elif length == 127:
                [length] = struct.unpack("!Q", await self.reader.readexactly(8))
            return opcode & 15, await self.reader.readexactly(length)

    def stop_reading(self) -> None:
        """Take nothing more from a small buffer."""
        connection = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.reader._transport.pause_reading()  # type: ignore[attr-defined]

    async def end(self) -> int:
        """The code with which the server closes."""
        while True:
            opcode, payload = await self.receive()
            if opcode == CLOSE:
                return int.from_bytes(payload[:2], "big")

    async def status(self) -> int:
        """The status of the next answer."""
        opcode, payload = await self.receive()
        assert opcode == TEXT
        status: int = json.loads(payload)["headers"]["status"]
        return status


@asynccontextmanager
async def raw(api: Api) -> AsyncIterator[Raw]:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    try:
        writer.write(b"GET / HTTP/1.1\r\n" + HANDSHAKE + b"\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        yield Raw(reader, writer)
    finally:
        writer.close()
