"""A proxy between the service and Keystone that counts requests, and fails as a test asks."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeAlias
from urllib.parse import urlsplit

Fault: TypeAlias = Callable[[asyncio.StreamWriter], Awaitable[None]]


class Between:
    """It passes everything on; with a `fault` it answers requests by that, and passes nothing on."""

    def __init__(self, target: str, *, scheme: str = "http") -> None:
        self._scheme = scheme
        parts = urlsplit(target)
        self._target = (parts.hostname, parts.port)
        self._path = parts.path
        self._fault: Fault | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.heads: list[str] = []
        """The first lines of requests."""

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}{self._path}"

    @property
    def validations(self) -> int:
        return sum(head.startswith("GET ") for head in self.heads)

    @property
    def logins(self) -> int:
        return sum(head.startswith("POST ") for head in self.heads)

    def fail(self, fault: Fault | None) -> None:
        """Answer from now on by the fault; None: pass on. Open connections are closed."""
        self._fault = fault
        for writer in self._writers:
            writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await (self._answer(reader, writer) if self._fault else self._pass(reader, writer))
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._fault is not None
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head.split(b"\r\n")[0].decode())
        await self._fault(writer)
        await writer.drain()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_target, to_target = await asyncio.open_connection(*self._target)
        self._writers.add(to_target)
        back = asyncio.create_task(_pump(from_target, writer))
        try:
            while data := await reader.read(65536):
                lines = (line.decode() for line in data.split(b"\r\n"))
                self.heads += [line for line in lines if line.endswith(" HTTP/1.1")]
                to_target.write(data)
                await to_target.drain()
        finally:
            self._writers.discard(to_target)
            to_target.close()
            back.cancel()
            await asyncio.gather(back, return_exceptions=True)


@asynccontextmanager
async def between(target: str, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Between]:
    proxy = Between(target, scheme="https" if tls else "http")
    tasks: set[asyncio.Task[None]] = set()

    def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(proxy.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(converse, "127.0.0.1", 0, ssl=tls)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


def says(status: str, body: str, kind: str = "application/json") -> Fault:
    async def fault(writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(f"{head}{body}".encode())

    return fault


async def half(writer: asyncio.StreamWriter) -> None:
    writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"token": {')


async def hangs_up(writer: asyncio.StreamWriter) -> None:
    return


async def silence(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(600)
