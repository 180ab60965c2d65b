"""An HTTP receiver on a real socket that behaves as badly as a test asks."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

Behaviour: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""The reaction to a request that has been read: an answer, or something else."""


@dataclass(frozen=True)
class Request:
    """A request as it arrived. Header names are lower case; `line` is the request line."""

    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """`behaviour` may be changed at any time; it applies from the next request on."""

    port: int = 0
    scheme: str = "http"
    behaviour: Behaviour = field(default_factory=lambda: answer(204))
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    disconnected: asyncio.Event = field(default_factory=asyncio.Event)
    reads_bodies: bool = True

    def url(self, path: str = "/hook", *, host: str = "127.0.0.1", user: str = "") -> str:
        return f"{self.scheme}://{user}{host}:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while request := await self._read(reader):
                self.requests.append(request)
                await self.behaviour(reader, writer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.disconnected.set()
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> Request | None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
        except asyncio.IncompleteReadError:
            return None
        line, *fields = head.strip().split("\r\n")
        pairs = (header.partition(":") for header in fields)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        length = int(headers.get("content-length", "0")) if self.reads_bodies else 0
        return Request(line, headers, await reader.readexactly(length))


@asynccontextmanager
async def receiving(
    *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Receiver]:
    receiver = Receiver(scheme="https" if tls else "http")
    conversations: set[asyncio.Task[None]] = set()

    def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(receiver.serve(reader, writer))
        conversations.add(task)
        task.add_done_callback(conversations.discard)

    server = await asyncio.start_server(converse, host, 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for task in list(conversations):
            task.cancel()
        await asyncio.gather(*conversations, return_exceptions=True)
        await server.wait_closed()


def answer(status: int, body: bytes = b"", **headers: str) -> Behaviour:
    """Answer with `status`; `Retry_After="5"` becomes the header Retry-After."""

    async def behaviour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        if status != 204:
            fields["Content-Length"] = str(len(body))
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        writer.write(f"HTTP/1.1 {status} Reason\r\n{lines}\r\n".encode() + body)

    return behaviour


def say(text: bytes) -> Behaviour:
    """Send `text`, HTTP or not, and close."""

    async def behaviour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(text)
        writer.close()

    return behaviour


async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def stay_silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


def trickle(start: bytes, drop: bytes = b"x") -> Behaviour:
    """Send `start`, then a drop now and then, until the other side goes away."""

    async def behaviour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while not writer.is_closing():
            writer.write(drop)
            await writer.drain()
            await asyncio.sleep(0.01)

    return behaviour


def endless(status: int) -> Behaviour:
    """Answer with a body that never ends, as fast as the other side takes it."""

    async def behaviour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {status} Reason\r\nContent-Length: 99999999999\r\n\r\n".encode())
        while not writer.is_closing():
            writer.write(b"x" * 65536)
            await writer.drain()

    return behaviour
