"""The cost of one project for the others, and of its bad receivers for its good ones.

`zaqar-notify up` with its default settings. Beside the measured operations, another project, or the same one,
makes a bad load:

  hanging    3,000 webhooks of another project at a server that accepts and never answers, one post
  backlog    10,000 posts of another project to one such webhook
  names      webhooks of another project with names that no name server answers for, one post
  unread     requests of another project for pages of 5 MB, of which it reads nothing
  rounds     three rounds of posts to 100 webhooks of one project, of which 10 are dead and 10 hang
  mesh       20 queues that all subscribe to each other, one post of 10 bytes
  black hole many deliveries owed to a webhook that never answers: their cost while nothing else is done
  comeback   many deliveries owed to a webhook that answers 503: their cost, and their pace when it answers again
  pops       consumers that pop 20 at a time

The lines of one project with bad receivers are measured on a cluster of one API process and two workers, too.

A second table has the posts of a project beside another that posts as fast as it can (`flood.py`), without quotas and with them.
"""

import argparse
import asyncio
import contextlib
import os
import re
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import flood
import load
import report
import servers
import uvloop
from orjson import dumps, loads

PACED_SECONDS = 8
POSTS_PER_SECOND = 20
WEBHOOKS = 10
"""Of the project that does nothing wrong: 200 deliveries a second."""
GOOD, BAD = 80, 10
ROUND_POSTS = 60
WORKERS = 2
ON_CLUSTER = ", two workers"
MESH = 20
SETTLE_SECONDS = 35
"""Until five tries in a row have run into their time limit of 15 seconds, four at a time."""
IDLE_SECONDS = 20
ILL_SECONDS = 0.002
"""The time that a receiver takes which fails and comes back."""
COMEBACK_SECONDS = 600
QUIET_SECONDS = 5
PAGE_MESSAGES, PAGE_BODY_BYTES = 20, 250_000
UNREAD_AT_ONCE = 150

FLOODS = {
    f"{flood.CONNECTIONS} connections of another project, no quotas": {},
    f"the same, {flood.BOUNDED['ZAQAR_QUOTA_REQUESTS_PER_SECOND']} requests/s": flood.BOUNDED,
}


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--hanging", type=int, default=3000, help="webhooks of another project that hang")
    add("--backlog", type=int, default=10_000, help="posts of another project that hang")
    add("--unread", type=int, default=1500, help="pages of another project that it does not read")
    add("--owed", type=int, default=30_000, help="deliveries owed to a black hole")
    add("--lines", type=_titles, default=[], help="of the first table, by name, with ; between")
    add("--popped", type=int, default=40_000, help="messages that are popped")
    add("--poppers", type=load.ints, default=[4, 32, 64], help="consumers that pop at a time")


def _titles(text: str) -> list[str]:
    return [name.strip() for name in text.split(";")]


def compare(a: argparse.Namespace, directory: Path, deadline: float) -> tuple[str, dict]:
    """The table as Markdown, and all its figures. Each line is measured once, on data of its own."""
    floods = {} if a.lines else uvloop.run(_floods(a, directory))
    results = uvloop.run(_measure(a, directory, deadline))
    facts = report.facts(report.machine(), report.up(), report.cluster(), report.mongod())
    tables = [_table(results), *([flood.table(floods)] if floods else [])]
    return "\n\n".join([facts, *tables]), results | floods


async def _floods(a: argparse.Namespace, directory: Path) -> dict[str, dict]:
    results = {}
    for number, (title, settings) in enumerate(FLOODS.items()):
        async with _Bench.open(a, directory / f"flood-{number}", settings=settings) as bench:
            results[title] = await flood.measure(bench.server.url, bench.ctx.headers)
        print(flood.table({title: results[title]}), file=sys.stderr, flush=True)
    return results


async def _measure(a: argparse.Namespace, directory: Path, deadline: float) -> dict[str, dict]:
    lines = {
        "alone": lambda bench: _paced(bench),
        "hanging": lambda bench: _beside(bench, subscribers=a.hanging, posts=1),
        "backlog": lambda bench: _beside(bench, subscribers=1, posts=a.backlog),
        "names": lambda bench: _names(bench, a.hanging),
        "unread": lambda bench: _unread(bench, a.unread),
        "rounds, all well": lambda bench: _rounds(bench, bad=0),
        "rounds": lambda bench: _rounds(bench, bad=BAD),
        "mesh": _mesh,
        "black hole": lambda bench: _black_hole(bench, a.owed),
        "comeback": lambda bench: _comeback(bench, a.owed),
        f"rounds, all well{ON_CLUSTER}": lambda bench: _rounds(bench, bad=0),
        f"rounds{ON_CLUSTER}": lambda bench: _rounds(bench, bad=BAD),
        f"black hole{ON_CLUSTER}": lambda bench: _black_hole(bench, a.owed),
        f"comeback{ON_CLUSTER}": lambda bench: _comeback(bench, a.owed),
        **{
            f"pops {count}": lambda bench, count=count: _pops(bench, count, a.popped)
            for count in a.poppers
        },
    }
    results: dict[str, dict] = {}
    for name, measure in lines.items():
        if a.lines and name not in a.lines:
            continue
        if results and time.perf_counter() > deadline:
            break
        where = directory / name.replace(" ", "-").replace(",", "")
        try:
            workers = WORKERS if name.endswith(ON_CLUSTER) else 0
            async with _Bench.open(a, where, has_names=name != "names", workers=workers) as bench:
                results[name] = await measure(bench)
        except _CantBeHad as reason:
            print(f"LEFT OUT: {name}: {reason}", file=sys.stderr, flush=True)
            continue
        print(_row(name, results[name]), file=sys.stderr, flush=True)
    return results


class _Bench:
    """A service with fresh data, a receiver that counts, and one that accepts and never answers."""

    def __init__(self, a: argparse.Namespace, server: servers.Server, sink: load.Sink) -> None:
        self.server = server
        self.sink = sink
        self.ctx = load.Ctx(a, server.url, server.parts)
        self.pids = [pid for roots in server.parts.values() for pid in roots]
        self.black_hole = ""
        self._connections: set[asyncio.StreamWriter] = set()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, a, directory, *, has_names=True, settings=None, workers=0):
        """Of `zaqar-notify up`; of a cluster on MongoDB with so many workers, if any."""
        directory.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            before = [] if has_names else _without_names(stack, directory)
            if workers:
                store = stack.enter_context(servers.mongod(directory / "mongod"))
                started = servers.cluster(directory, store, workers=workers)
            else:
                started = servers.zaqar_notify(directory, before=before, settings=settings)
            server = stack.enter_context(started)
            sink = load.Sink()
            stack.callback(sink.close)
            bench = cls(a, server, sink)
            listener = await asyncio.start_server(bench._accept, "127.0.0.1", 0, backlog=4096)
            port = listener.sockets[0].getsockname()[1]
            bench.black_hole = f"http://127.0.0.1:{port}"
            try:
                yield bench
            finally:
                listener.close()
                for writer in bench._connections:
                    writer.transport.abort()

    async def _accept(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)

    def client(self, project: str) -> load.RawClient:
        headers = self.ctx.headers | {"X-Project-ID": project}
        return load.RawClient(self.server.url, headers)

    def resident_bytes(self) -> int:
        """Of our own processes, without those of the store and the broker."""
        ours = [pid for part in ("API", "worker") for pid in self.server.parts.get(part, [])]
        pages = (int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in ours)
        return sum(pages) * os.sysconf("SC_PAGE_SIZE")

    def written_bytes(self) -> int:
        total = 0
        for pid in self.pids:
            lines = Path(f"/proc/{pid}/io").read_text().splitlines()
            total += sum(int(each.split()[1]) for each in lines if each.startswith("write_bytes"))
        return total


async def _subscribe(bench: _Bench, client: load.RawClient, queue: str, subscribers) -> None:
    todo = iter(subscribers)

    async def some() -> None:
        for subscriber in todo:
            await load.subscribe(bench.ctx, client, queue, subscriber)

    await asyncio.gather(*(some() for _ in range(16)))


async def _post(client: load.RawClient, queue: str, number: int) -> None:
    body = {"messages": [{"ttl": 3600, "body": {"seq": number, "ts": time.time()}}]}
    path = f"/v2/queues/{queue}/messages"
    status, answer = await client.request("POST", path, dumps(body), str(uuid.uuid4()))
    if status != 201:
        raise SystemExit(f"tenants: POST answered {status} {answer[:300]!r}")


async def _post_many(client: load.RawClient, queue: str, count: int) -> None:
    todo = iter(range(count))

    async def some() -> None:
        for number in todo:
            await _post(client, queue, number)

    await asyncio.gather(*(some() for _ in range(32)))


async def _paced(bench: _Bench) -> dict:
    """Deliveries of a project that posts at an even pace."""
    run = uuid.uuid4().hex
    async with bench.client("well") as client, load.RawClient(bench.sink.url, {}) as sink:
        hooks = [f"{bench.sink.url}/hook/{run}/{number}" for number in range(WEBHOOKS)]
        await _subscribe(bench, client, "well", hooks)
        count = PACED_SECONDS * POSTS_PER_SECOND
        for number in range(count):
            await _post(client, "well", number)
            await asyncio.sleep(1 / POSTS_PER_SECOND)
        state = await load.fan_wait(
            sink, run, count * WEBHOOKS, QUIET_SECONDS, time.perf_counter() + 30
        )
        state = await load.sink_state(sink, run, latencies=True)
    return _delivered(state, count * WEBHOOKS, PACED_SECONDS)


def _delivered(state: dict, expected: int, seconds: float) -> dict:
    latencies = [1000 * each for each in state["latencies"]]
    return {
        "per_s": state["distinct"] / seconds,
        "p50_ms": load.pct(latencies, 50),
        "p99_ms": load.pct(latencies, 99),
        "came": state["distinct"],
        "expected": expected,
    }


async def _beside(bench: _Bench, *, subscribers: int, posts: int) -> dict:
    async with bench.client("bad") as client:
        hooks = [f"{bench.black_hole}/{number}" for number in range(subscribers)]
        await _subscribe(bench, client, "bad", hooks)
        await _post_many(client, "bad", posts)
    return await _paced(bench)


async def _names(bench: _Bench, subscribers: int) -> dict:
    async with bench.client("bad") as client:
        hooks = [f"http://hook-{number}.example.org/" for number in range(subscribers)]
        await _subscribe(bench, client, "bad", hooks)
        await _post(client, "bad", 1)
    return await _paced(bench)


async def _unread(bench: _Bench, requests: int) -> dict:
    """Deliveries of a project while another asks for pages, on a connection each."""
    async with bench.client("bad") as client:
        for _ in range(PAGE_MESSAGES):
            body = dumps({"messages": [{"body": "x" * PAGE_BODY_BYTES}]})
            await client.request("POST", "/v2/queues/bad/messages", body, str(uuid.uuid4()))
        request = (
            f"GET /v2/queues/bad/messages?echo=true&limit={PAGE_MESSAGES} HTTP/1.1\r\n"
            f"Client-ID: {uuid.uuid4()}\r\n".encode()
            + client.common
            + b"\r\n"
        )
        todo = iter(range(requests))
        with contextlib.ExitStack() as stack:

            async def ask() -> None:
                for _ in todo:
                    await _ask_and_read_nothing(stack, client, request)

            asking = [asyncio.create_task(ask()) for _ in range(UNREAD_AT_ONCE)]
            result = await _paced(bench)
            await asyncio.gather(*asking)
    return result


async def _ask_and_read_nothing(
    stack: contextlib.ExitStack, client: load.RawClient, request: bytes
) -> None:
    loop = asyncio.get_running_loop()
    unread = stack.enter_context(socket.socket())
    unread.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    unread.setblocking(False)
    await loop.sock_connect(unread, (client.host, client.port))
    await loop.sock_sendall(unread, request)


class _CantBeHad(Exception):
    """This machine lacks something that a line needs."""


def _without_names(stack: contextlib.ExitStack, directory: Path) -> list[str]:
    """A command that executes another, with a name server that takes questions and never answers."""
    server = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    server.bind(("127.0.0.1", 0))
    configuration = directory / "resolv.conf"
    configuration.write_text(f"nameserver [127.0.0.1]:{server.getsockname()[1]}\n")
    mount = f"mount --bind {configuration} /etc/resolv.conf"
    unshare = ["unshare", "--mount"] + ([] if os.geteuid() == 0 else ["--map-root-user"])
    try:
        subprocess.run([*unshare, "sh", "-c", mount], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise _CantBeHad(f"no resolver configuration of its own for a process: {error}") from error
    return [*unshare, "sh", "-c", f'{mount} && exec "$@"', "sh"]


async def _rounds(bench: _Bench, *, bad: int) -> dict:
    """Posts as fast as they go, in three rounds, and the deliveries to the good receivers of the same project."""
    async with bench.client("mixed") as client, load.RawClient(bench.sink.url, {}) as sink:
        run = uuid.uuid4().hex
        good = [f"{bench.sink.url}/hook/{run}/{number}" for number in range(GOOD)]
        dead = [f"http://127.0.0.1:1/{number}" for number in range(bad)]
        hanging = [f"{bench.black_hole}/{number}" for number in range(bad)]
        await _subscribe(bench, client, "mixed", [*good, *dead, *hanging])
        took, latencies = 0.0, []
        for number in range(3):
            first, began = number * ROUND_POSTS, time.time()
            for each in range(first, first + ROUND_POSTS):
                await _post(client, "mixed", each)
            expected = (first + ROUND_POSTS) * GOOD
            end = time.perf_counter() + 30
            await load.fan_wait(sink, run, expected, QUIET_SECONDS, end, poll=0.02)
            state = await load.sink_state(sink, run, latencies=True)
            took += state["last"] - began
        latencies = [1000 * each for each in state["latencies"]]
    return {
        "per_s": state["distinct"] / took,
        "p50_ms": load.pct(latencies, 50),
        "p99_ms": load.pct(latencies, 99),
        "came": state["distinct"],
        "expected": 3 * ROUND_POSTS * GOOD,
    }


async def _mesh(bench: _Bench) -> dict:
    names = [f"mesh-{number}" for number in range(MESH)]
    async with bench.client("mesh") as client:
        for name in names:
            await _subscribe(bench, client, name, [f"queue:{each}" for each in names])
        clocks, written = load.Clocks(bench.ctx), bench.written_bytes()
        await _post(client, names[0], 1)
        await asyncio.sleep(IDLE_SECONDS)
        wall, cpu = clocks.stop(0)
        copies = 0
        for name in names:
            path = f"/v2/queues/{name}/stats"
            _, answer = await client.request("GET", path, None, str(uuid.uuid4()))
            copies += loads(answer)["messages"]["total"]
    return {
        "came": copies,
        "expected": MESH,
        "cpu_percent": 100 * cpu["cpu_server"],
        "bytes_per_s": (bench.written_bytes() - written) / wall,
    }


async def _black_hole(bench: _Bench, owed: int) -> dict:
    async with bench.client("bad") as client:
        await _subscribe(bench, client, "bad", [f"{bench.black_hole}/"])
        await _post_many(client, "bad", owed)
    await asyncio.sleep(SETTLE_SECONDS)
    clocks, written = load.Clocks(bench.ctx), bench.written_bytes()
    await asyncio.sleep(IDLE_SECONDS)
    wall, cpu = clocks.stop(0)
    return {
        "owed": owed,
        "cpu_percent": 100 * cpu["cpu_server"],
        "bytes_per_s": (bench.written_bytes() - written) / wall,
    }


class _Ill:
    """A webhook that answers 503 until it is well."""

    def __init__(self) -> None:
        self.is_well = False
        self.numbers: list[int] = []
        """Of the messages that it took, in the order in which they came."""
        self.at: list[float] = []
        self.under_way = self.most_under_way = 0

    @property
    def has_had_enough(self) -> bool:
        """Whether nothing has come for a while: those that were tried in vain come by their own schedule."""
        return bool(self.at) and time.perf_counter() > self.at[-1] + 2 * QUIET_SECONDS

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(re.search(rb"(?i)content-length: *([0-9]+)", head)[1])
                body = await reader.readexactly(length)
                self.under_way += 1
                self.most_under_way = max(self.most_under_way, self.under_way)
                await asyncio.sleep(ILL_SECONDS)
                self.under_way -= 1
                status = b"204 No Content" if self.is_well else b"503 Busy\r\nContent-Length: 0"
                if self.is_well:
                    self.numbers.append(loads(body)["body"]["seq"])
                    self.at.append(time.perf_counter())
                writer.write(b"HTTP/1.1 " + status + b"\r\n\r\n")


async def _comeback(bench: _Bench, owed: int) -> dict:
    ill = _Ill()
    server = await asyncio.start_server(ill.serve, "127.0.0.1", 0, backlog=4096)
    port = server.sockets[0].getsockname()[1]
    async with bench.client("bad") as client:
        await _subscribe(bench, client, "bad", [f"http://127.0.0.1:{port}/"])
        await _post_many(client, "bad", owed)
    await asyncio.sleep(QUIET_SECONDS)
    clocks, written = load.Clocks(bench.ctx), bench.written_bytes()
    await asyncio.sleep(IDLE_SECONDS)
    wall, cpu = clocks.stop(0)
    ill.is_well, ill.most_under_way = True, 0
    end = time.perf_counter() + COMEBACK_SECONDS
    while not ill.has_had_enough and time.perf_counter() < end:  # noqa: ASYNC110
        await asyncio.sleep(1)
    server.close()
    seconds = max(ill.at) - min(ill.at) if ill.at else 0
    return {
        "owed": owed,
        "cpu_percent": 100 * cpu["cpu_server"],
        "bytes_per_s": (bench.written_bytes() - written) / wall,
        "per_s": len(ill.numbers) / seconds if seconds else None,
        "came": len(set(ill.numbers)),
        "expected": owed,
        "most_under_way": ill.most_under_way,
        "furthest_ahead": _furthest_ahead(ill.numbers),
        "rss_mb": bench.resident_bytes() / 1e6,
    }


def _furthest_ahead(numbers: list[int]) -> int:
    """By how many places a message came too early, at most."""
    places = {number: place for place, number in enumerate(sorted(set(numbers)))}
    return max((places[number] - place for place, number in enumerate(numbers)), default=0)


async def _pops(bench: _Bench, consumers: int, count: int) -> dict:
    async with bench.client("pops") as client:
        await load.fill(bench.ctx, client, "pops", count, 200)
        popped, latencies = 0, []

        async def consume() -> None:
            nonlocal popped
            while True:
                began = time.perf_counter()
                path = "/v2/queues/pops/messages?pop=20"
                status, answer = await client.request("DELETE", path, None, str(uuid.uuid4()))
                messages = loads(answer)["messages"] if status == 200 else []
                if not messages:
                    return
                latencies.append(1000 * (time.perf_counter() - began))
                popped += len(messages)

        began = time.perf_counter()
        await asyncio.gather(*(consume() for _ in range(consumers)))
        took = time.perf_counter() - began
    return {
        "per_s": popped / took,
        "p50_ms": load.pct(latencies, 50),
        "p99_ms": load.pct(latencies, 99),
        "came": popped,
        "expected": count,
    }


TITLES = {
    "alone": f"{WEBHOOKS * POSTS_PER_SECOND} deliveries/s of a project, nothing beside",
    "hanging": "beside one post to 3,000 webhooks of another project that hang",
    "backlog": "beside 10,000 posts of another project to a webhook that hangs",
    "names": "beside one post to 3,000 webhooks of another project whose names are not answered for",
    "unread": "beside 1,500 requests of another project for pages of 5 MB that it does not read",
    "rounds, all well": f"three rounds to {GOOD} webhooks",
    "rounds": f"the same, with {BAD} dead and {BAD} hanging ones in the project",
    "mesh": f"{MESH} queues subscribed to each other, one post",
    "black hole": "deliveries owed to a webhook that never answers",
    "comeback": "deliveries owed to a webhook that answers 503, and then again",
}


def _table(results: dict[str, dict]) -> str:
    head = ("", "per s", "p50 ms", "p99 ms", "came of", "CPU, % of a core", "written, KB/s")
    rows = [report.row(*head), report.row(*["---"] * len(head))]
    return "\n".join([*rows, *(_row(name, line) for name, line in results.items())])


def _row(name: str, line: dict) -> str:
    title = TITLES.get(name.removesuffix(ON_CLUSTER))
    title = title or f"{name.split()[1]} consumers that pop 20 at a time"
    if "owed" in line:
        title = f"{line['owed']:,} {title}"
    if name.endswith(ON_CLUSTER):
        title += ON_CLUSTER
    speeds = [
        report.number(line[key]) if line.get(key) is not None else "–"
        for key in ("per_s", "p50_ms", "p99_ms")
    ]
    came = f"{line['came']:,} of {line['expected']:,}" if "came" in line else "–"
    cost = ["–", "–"]
    if "cpu_percent" in line:
        cost = [f"{line['cpu_percent']:.1f}", f"{line['bytes_per_s'] / 1000:,.0f}"]
    return report.row(title, *speeds, came, *cost)
