"""The cost of many clients at once: of connections that do nothing, of long polls, of event streams, of WebSockets, and of
posting clients.

`zaqar-notify up` with its default settings, a new one for each line. 5,000 connections are opened, each for
one request, and then they are idle, or each has a long poll that is asked again when it is answered. The
memory is that of the process (resident) when all are there; its CPU is read while nothing else is done.
Then 100 clients post, each its next message when the last one is answered. With WebSockets, each subscribed to a queue,
messages are posted before that, one at a time, and the time is noted from each post to its arrival at each of the queue's sockets.
"""

import argparse
import asyncio
import resource
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import load
import report
import servers
import uvloop
from orjson import dumps, loads
from websockets.client import ClientProtocol
from websockets.frames import Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

WAIT_SECONDS = 20
SPREAD = 50
"""Long polls or event streams at each queue."""
OPENED_AT_ONCE = 50
NOTIFIED = 40
"""Messages, each to a queue with so many sockets as SPREAD says."""
NOTIFY_EVERY_SECONDS = 0.25
SETTLE_SECONDS = 2
PAGE = resource.getpagesize()


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--connections", type=int, default=5000, help="connections that are idle, or long polls")
    add("--posters", type=int, default=100, help="clients that post at the same time")
    add("--clients-seconds", type=float, default=8, help="of idling, and of posting, per line")


@dataclass(frozen=True)
class Line:
    title: str
    waits: bool = False
    """Its connections have long polls, and are not idle."""
    connected: bool = True
    tls: bool = False
    follows: bool = False
    """Its connections are event streams."""
    sockets: bool = False
    """Its connections are WebSockets, each subscribed to a queue."""


LINES = (
    Line("no connection", connected=False),
    Line("idle"),
    Line("idle, HTTPS", tls=True),
    Line("long polls", waits=True),
    Line("event streams", follows=True),
    Line("WebSockets", sockets=True),
)


def compare(a: argparse.Namespace, directory: Path, deadline: float) -> tuple[str, dict]:
    """The table as Markdown, and all its figures. Each line is measured once."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    results = {}
    for line in LINES:
        settings = _certificate(directory) if line.tls else {}
        settings["ZAQAR_WEBSOCKET_MAX_PER_PROJECT"] = str(a.connections)
        where = directory / line.title.replace(" ", "-")
        with servers.zaqar_notify(where, settings=settings) as server:
            results[line.title] = uvloop.run(_measure(a, line, server))
        print(_row(line.title, results[line.title]), file=sys.stderr, flush=True)
    text = [report.facts(report.machine(), report.up()), _table(results), _notified(results)]
    return "\n\n".join(text), results


class _Client(asyncio.Protocol):
    """A connection with a first request, and another one after each answer, or none."""

    def __init__(self, first: bytes, following: bytes = b"") -> None:
        self._first = first
        self._following = following
        self.is_answered = asyncio.Event()
        self.is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self.is_open = transport, True
        transport.write(self._first)

    def data_received(self, data: bytes) -> None:
        self.is_answered.set()
        if self._following:
            self._transport.write(self._following)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self.is_answered.set()


async def _measure(a: argparse.Namespace, line: Line, server: servers.Server) -> dict:
    ctx = load.Ctx(a, server.url, server.parts)
    (pid,) = server.parts["API"]
    count = a.connections if line.connected else 0
    before = _memory(pid)
    clients = [_client(line, number) for number in range(count)]
    await _open(server.url, clients, line)
    await asyncio.sleep(SETTLE_SECONDS)
    there = _memory(pid)
    clocks = load.Clocks(ctx)
    await asyncio.sleep(a.clients_seconds)
    _, cpu = clocks.stop(0)
    figures = {
        "connections": count,
        "memory_bytes": there,
        "each_bytes": (there - before) / count if count else None,
        "idle_cpu": cpu[load.PART_SHARE + "API"],
    }
    if line.sockets:
        figures["notified_ms"] = await _notify(server.url, clients)
    if not line.tls:
        figures |= await _post(a, ctx)
        figures["memory_after_bytes"] = _memory(pid)
    figures["lost"] = sum(not each.is_open for each in clients)
    return figures


def _client(line: Line, number: int) -> _Client:
    return _Socket(number) if line.sockets else _Client(*_requests(line, number))


class _Socket(_Client):
    """A WebSocket that subscribes to a queue, answers pings, and notes when notifications come."""

    def __init__(self, number: int) -> None:
        super().__init__(b"")
        self._protocol = ClientProtocol(parse_uri("ws://bench/"))
        self._subscription = {
            "action": "subscription_create",
            "headers": {"Client-ID": str(uuid.uuid4()), "X-Project-ID": "waiting"},
            "body": {"queue_name": f"wait-{number // SPREAD}"},
        }
        self.arrivals: list[float] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self.is_open = transport, True
        self._protocol.send_request(self._protocol.connect())
        self._write()

    def data_received(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Response):
                self._protocol.send_text(dumps(self._subscription))
            elif event.opcode is Opcode.TEXT and b"Message_Type" in event.data:
                self.arrivals.append(time.perf_counter())
            elif event.opcode is Opcode.TEXT:
                self.is_open = loads(event.data)["headers"]["status"] == 201
                self.is_answered.set()
        self._write()

    def _write(self) -> None:
        self._transport.writelines(self._protocol.data_to_send())


async def _notify(url: str, clients: list[_Socket]) -> list[float]:
    """Post one message after the other, each to another queue; the times to each arrival, ms."""
    took = []
    groups = [clients[begin : begin + SPREAD] for begin in range(0, len(clients), SPREAD)]
    body = load.message_body([1], 1000)
    headers = {
        "Client-ID": str(uuid.uuid4()),
        "X-Project-ID": "waiting",
        "Content-Type": "application/json",
    }
    async with load.RawClient(url, headers) as http:
        for number, group in enumerate(groups[:NOTIFIED]):
            began = time.perf_counter()
            path = f"/v2/queues/wait-{number}/messages"
            await http.request("POST", path, body)
            await asyncio.sleep(NOTIFY_EVERY_SECONDS)
            took += [1000 * (each.arrivals[0] - began) for each in group if each.arrivals]
    return sorted(took)


def _requests(line: Line, number: int) -> list[bytes]:
    """The first request of a connection, and the following ones; first polls differ in length."""
    head = f"Host: bench\r\nClient-ID: {uuid.uuid4()}\r\nX-Project-ID: waiting\r\n"
    if line.follows:
        path = f"/v2/queues/wait-{number // SPREAD}/messages"
        return [f"GET {path} HTTP/1.1\r\n{head}Accept: text/event-stream\r\n\r\n".encode()]
    if not line.waits:
        return [f"GET /v2/ping HTTP/1.1\r\n{head}\r\n".encode()]
    path = f"/v2/queues/wait-{number // SPREAD}/claims?wait="
    return [
        f"POST {path}{wait} HTTP/1.1\r\n{head}Content-Length: 2\r\n\r\n{{}}".encode()
        for wait in (1 + number % WAIT_SECONDS, WAIT_SECONDS)
    ]


async def _open(url: str, clients: list[_Client], line: Line) -> None:
    """Open the connections, a few at a time; those without a long poll are answered at the end."""
    loop = asyncio.get_running_loop()
    parts = load.urlsplit(url)
    context = servers.untrusting() if line.tls else None
    for begin in range(0, len(clients), OPENED_AT_ONCE):
        group = clients[begin : begin + OPENED_AT_ONCE]
        await asyncio.gather(
            *(
                loop.create_connection(
                    lambda each=each: each, parts.hostname, parts.port, ssl=context
                )
                for each in group
            )
        )
        if not line.waits:
            await asyncio.gather(*(each.is_answered.wait() for each in group))


async def _post(a: argparse.Namespace, ctx: load.Ctx) -> dict:
    async with ctx.client() as client:
        name = await load.new_queue(ctx, client)
        path, body = f"{ctx.q(name)}/messages", load.message_body([1], a.size)

        def make():
            return "POST", path, body, (201,)

        await load.timed_loop(ctx, client, a.posters, 1, make)  # warm up
        clocks = load.Clocks(ctx)
        latencies, errors = await load.timed_loop(ctx, client, a.posters, a.clients_seconds, make)
        wall, cpu = clocks.stop(len(latencies))
    return load.row(latencies, errors, wall, cpu)


def _memory(pid: int) -> int:
    """Resident bytes of the process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


def _certificate(directory: Path) -> dict[str, str]:
    directory.mkdir(parents=True, exist_ok=True)
    cert, key = directory / "cert.pem", directory / "key.pem"
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    files = ("-keyout", str(key), "-out", str(cert), "-subj", "/CN=bench")
    made = ["openssl", "req", "-x509", *curve, "-nodes", *files]
    subprocess.run(made, check=True, capture_output=True)
    return {"ZAQAR_TLS_CERT_FILE": str(cert), "ZAQAR_TLS_KEY_FILE": str(key)}


def _table(results: dict[str, dict]) -> str:
    head = ("connections", "memory, MB", "each, KB", "CPU when idle, % of a core")
    posts = ("posts/s beside", "p50 ms", "p99 ms", "MB then")
    rows = [report.row(*head, *posts), report.row(*["---"] * 8)]
    return "\n".join([*rows, *(_row(title, line) for title, line in results.items())])


def _notified(results: dict[str, dict]) -> str:
    took = results["WebSockets"]["notified_ms"]
    middle, late = (took[int(len(took) * part)] for part in (0.5, 0.99)) if took else (0, 0)
    return (
        f"From a post to its arrival at each of the {SPREAD} WebSockets of its queue, {len(took):,} arrivals: "
        f"{report.number(middle)} ms (p50), {report.number(late)} ms (p99)."
    )


def _row(title: str, line: dict) -> str:
    name = f"{line['connections']:,} {title}" if line["connections"] else title
    if line["lost"] or line.get("errors"):
        name += f" ({line['lost']} lost, errors {line.get('errors')})"
    each = f"{line['each_bytes'] / 1000:.1f}" if line["each_bytes"] else "–"
    cells = [f"{line['memory_bytes'] / 1e6:.0f}", each, f"{100 * line['idle_cpu']:.1f}"]
    if "p50_ms" in line:
        cells += [f"{line['requests_per_s']:,.0f}"]
        cells += [report.number(line["p50_ms"]), report.number(line["p99_ms"])]
        cells += [f"{line['memory_after_bytes'] / 1e6:.0f}"]
    else:
        cells += ["–"] * 4
    return report.row(name, *cells)
