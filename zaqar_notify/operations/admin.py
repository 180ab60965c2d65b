"""Commands of the operator that work on a store.

In a cluster they open the store. `up` has its store to itself, so it runs them: it listens on the
socket `admin.sock` in the data directory, which only the directory's user can open. A request is a
line of JSON, `{"command": NAME, "given": {…}}`. The answer is lines `{"told": TEXT}` while the command
runs, and then one line, `{"result": …}` or `{"refused": SENTENCE}`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from zaqar_notify.errors import NotifyError, StartRefused
from zaqar_notify.operations.audit import note_command

if TYPE_CHECKING:
    from zaqar_notify.clock import Clock
    from zaqar_notify.settings import Settings
    from zaqar_notify.storage.planes import Storage

SOCKET = "admin.sock"
MOST_REQUEST_BYTES = 1 << 20
MOST_PATH_BYTES = 100
"""The kernel takes 107 bytes for the name of a socket."""

Given = TypeVar("Given")
Result = TypeVar("Result")
Tell: TypeAlias = Callable[[str], None]
"""Tells the operator how far a long command is."""

logger = logging.getLogger(__name__)


class Site(NamedTuple):
    """The open store that a command works on."""

    storage: Storage
    settings: Settings
    clock: Clock


@dataclass(frozen=True)
class Command(Generic[Given, Result]):
    """A command: its name, the types of its argument and its result, and its function.

    The function raises `StartRefused` or an error of the domain with the sentence for the operator.
    `audited` gives the facts for the audit of a command that changes something. A command without it
    only looks.
    """

    name: str
    given: type[Given]
    result: type[Result]
    run: Callable[[Site, Given, Tell], Awaitable[Result]]
    audited: Callable[[Given], Mapping[str, object]] | None = None

    async def perform(self, site: Site, given: Given, tell: Tell) -> Result:
        """Run it, and record it where that is wanted."""
        if self.audited is None or not site.settings.audit:
            return await self.run(site, given, tell)
        facts = self.audited(given)
        status = "failed"
        try:
            result = await self.run(site, given, tell)
            status = "done"
            return result
        except (StartRefused, NotifyError):
            status = "refused"
            raise
        finally:
            note_command(status=status, **facts)


class _Request(msgspec.Struct):
    command: str
    given: msgspec.Raw


class _Line(msgspec.Struct, omit_defaults=True):
    told: str | UnsetType = UNSET
    result: msgspec.Raw | UnsetType = UNSET
    refused: str | UnsetType = UNSET


async def run_on_store(
    settings: Settings, command: Command[Given, Result], given: Given, tell: Tell
) -> Result:
    """Open the store of the settings and run the command on it.

    Raises:
        StartRefused: The store can't be used, or the command refuses.
        NotifyError: The store is away, or the command refuses.
    """
    # Imported late, because drivers take a while to import.
    from zaqar_notify.storage.clock import store_clock
    from zaqar_notify.storage.registry import open_storage_of

    storage = await open_storage_of(settings)
    try:
        async with store_clock(storage) as clock:
            return await command.perform(Site(storage, settings, clock), given, tell)
    finally:
        await storage.close()


def ask(data: Path, command: Command[Given, Result], given: Given, tell: Tell) -> Result | None:
    """The command's result from the `up` that serves this directory; None when none serves it.

    Raises:
        StartRefused: The process refuses, or ended before it answered.
    """
    connection = _connect(data / SOCKET)
    if connection is None:
        return None
    request = _Request(command.name, msgspec.Raw(msgspec.json.encode(given)))
    with connection, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(msgspec.json.encode(request) + b"\n")
        for text in connection.makefile("rb"):
            line = msgspec.json.decode(text, type=_Line)
            if line.told:
                tell(line.told)
            if line.refused:
                raise StartRefused(line.refused)
            if line.result:
                return msgspec.json.decode(line.result, type=command.result)
    raise StartRefused(f"The process that serves {data} ended before it answered; run this again")


@contextlib.asynccontextmanager
async def serving_commands(
    site: Site, commands: Iterable[Command[Any, Any]], data: Path
) -> AsyncIterator[None]:
    """Run commands for the operator meanwhile. The caller has the store of the directory to itself.

    Where no socket can be made, that is logged and stops nothing.
    """
    path = data / SOCKET
    try:
        listener = _listen(path)
    except OSError as error:
        logger.warning(
            "Commands of the operator are not served: stop this process to run them",
            extra={"action": "admin_not_served", "path": str(path), "error": str(error)},
        )
        yield
        return
    desk = _Desk(site, {command.name: command for command in commands})
    server = await asyncio.start_unix_server(desk.attend, sock=listener, limit=MOST_REQUEST_BYTES)
    try:
        async with server:
            yield
    finally:
        await desk.close()
        path.unlink(missing_ok=True)


class _Desk:
    """Attends to the connections of the socket."""

    def __init__(self, site: Site, commands: Mapping[str, Command[Any, Any]]) -> None:
        self._site = site
        self._commands = commands
        self._attending: set[asyncio.Task[None]] = set()

    def attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        attending = asyncio.create_task(self._attend(reader, writer))
        self._attending.add(attending)
        attending.add_done_callback(self._attending.discard)

    async def close(self) -> None:
        """End the commands that still run."""
        for attending in self._attending:
            attending.cancel()
        await asyncio.gather(*self._attending, return_exceptions=True)

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            # A line that is too long is a ValueError; no operator sends it.
            with contextlib.suppress(ConnectionError, ValueError):
                await self._answer_until_hung_up(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer_until_hung_up(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Answer the one request of a connection. A command ends when its operator hangs up."""

        def send(line: _Line) -> None:
            writer.write(msgspec.json.encode(line) + b"\n")

        answering = asyncio.create_task(self._answer(await reader.readline(), send))
        hanging_up = asyncio.create_task(reader.read())
        both = (answering, hanging_up)
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
        await writer.drain()

    async def _answer(self, request: bytes, send: Callable[[_Line], None]) -> None:
        name = ""
        try:
            asked = msgspec.json.decode(request, type=_Request)
            name = asked.command
            command = self._commands.get(name)
            if command is None:
                raise StartRefused(f"The process that runs has no command {name!r}; restart it")
            given = msgspec.json.decode(asked.given, type=command.given)
            result = await command.perform(self._site, given, lambda text: send(_Line(told=text)))
            send(_Line(result=msgspec.Raw(msgspec.json.encode(result))))
        except (StartRefused, NotifyError) as error:
            send(_Line(refused=str(error)))
        except msgspec.DecodeError as error:
            send(_Line(refused=f"The process that runs does not understand the command: {error}"))
        except Exception as error:  # Outermost place: a defect is logged here, once.
            facts = {"action": "command_failed", "command": name}
            logger.error("A command failed", extra=facts, exc_info=error)
            send(_Line(refused="The command failed; the log of the process that runs says why"))


def _connect(path: Path) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX)
    try:
        with _address(path) as address:
            connection.connect(address)
    except OSError as error:
        connection.close()
        if isinstance(error, FileNotFoundError | ConnectionRefusedError):
            return None
        raise StartRefused(
            f"{path} can't be used: {error.strerror}; run this as the user of `up`"
        ) from error
    return connection


def _listen(path: Path) -> socket.socket:
    # A socket there is of a process that was killed: the lock of the store is ours.
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    former = os.umask(0o177)
    try:
        with _address(path) as address:
            listener.bind(address)
        listener.listen()
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(former)
    return listener


@contextlib.contextmanager
def _address(path: Path) -> Iterator[str]:
    """A name of the socket that is short enough for the kernel."""
    if len(os.fsencode(path)) <= MOST_PATH_BYTES:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
