"""The cost of a deep queue: the same operations on a short queue and on one with a million messages.

The stores are filled through the storage contract before the service starts, with small messages.
Four services run side by side, each on a store of its own, and take turns:

  short                a queue that holds about as many messages as one trial consumes
  waiting              1,000,000 messages
  claimed              1,000,000 messages, the first 100,000 of them under live claims
  expired              the same behind 100,000 messages that have expired

On SQLite that is four times `zaqar-notify up`, on MongoDB four API processes with four databases of
one server. The sweep, which would remove the expired ones within seconds, is off in all of them.
"""

import argparse
import contextlib
import sys
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import load
import report
import servers
import uvloop

from zaqar_notify.clock import new_id
from zaqar_notify.models import NewMessage, Queue, QueueRef
from zaqar_notify.operations.single import DATABASE
from zaqar_notify.storage.base import Post
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import open_storage

QUEUE = "depth"
BATCH = 1000
CLAIM = 100
CYCLES = 200
"""Claims of ten messages, each message then deleted, in one trial."""
SHORT = CYCLES * 10
BODY = load.dumps({"seq": 0, "pad": "x" * 80})
DAY_SECONDS = 86400
SECONDS = 2
"""At most: a trial of one request after another needs no more."""
NEVER = {"ZAQAR_SWEEP_SECONDS": str(DAY_SECONDS)}

OPERATIONS = {
    "head": "page of 10 from the head",
    "middle": "page of 10 from the middle",
    "claim": "claim 10, delete each",
    # Last: it alone makes the short queue longer.
    "post": "post 1 message",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--depth", type=int, default=1_000_000, help="messages waiting in a deep queue"
    )


def compare(a: argparse.Namespace, directory: Path, deadline: float) -> tuple[str, dict]:
    """The tables as Markdown, and all their figures."""
    stores = {"SQLite": _sqlite, "MongoDB": _mongodb}
    texts, results = [], {}
    for done, (name, running_on) in enumerate(stores.items()):
        until = load.share(deadline, left=len(stores) - done)
        results[name] = _compare(a, running_on(directory / name), until)
        texts += [f"On {name}:", _table(a, results[name])]
    facts = report.facts(report.machine(), report.up(), report.cluster(), report.mongod())
    return "\n\n".join((facts, *texts)), results


class Stores(ABC):
    """Where the four queues are."""

    @abstractmethod
    def uri(self, label: str) -> str:
        """Of the store of that service."""

    @abstractmethod
    def serve(self, label: str) -> AbstractContextManager[servers.Server]:
        """A service on it that does not sweep."""


class SQLite(Stores):
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def uri(self, label: str) -> str:
        directory = self._directory / label
        directory.mkdir(parents=True, exist_ok=True)
        return f"sqlite://{directory / DATABASE}"

    def serve(self, label: str) -> AbstractContextManager[servers.Server]:
        return servers.zaqar_notify(self._directory / label, label=label, settings=NEVER)


class MongoDB(Stores):
    def __init__(self, directory: Path, store: servers.Mongod) -> None:
        self._directory = directory
        self._store = store

    def uri(self, label: str) -> str:
        return self._store.uri(label)

    def serve(self, label: str) -> AbstractContextManager[servers.Server]:
        # Only a worker sweeps.
        return servers.cluster(
            self._directory / label, self._store, label=label, database=label, workers=0
        )


@contextlib.contextmanager
def _sqlite(directory: Path) -> Iterator[Stores]:
    yield SQLite(directory)


@contextlib.contextmanager
def _mongodb(directory: Path) -> Iterator[Stores]:
    with servers.mongod(directory / "mongod") as store:
        yield MongoDB(directory, store)


def _compare(
    a: argparse.Namespace, opening: AbstractContextManager[Stores], deadline: float
) -> dict:
    with contextlib.ExitStack() as stack:
        stores = stack.enter_context(opening)
        began = time.perf_counter()
        middles = uvloop.run(_fill_all(a, stores))
        print(f"depth: stores filled in {time.perf_counter() - began:.0f} s", file=sys.stderr)
        running = [stack.enter_context(stores.serve(label)) for label in middles]
        return uvloop.run(_measure(a, running, middles, deadline))


class _Filling(Post):
    client_id = str(uuid.uuid4())

    def __init__(self, count: int, ttl: int) -> None:
        self._messages = [NewMessage(body=BODY, ttl=ttl)] * count

    def settle(self, queue: Queue | None) -> Sequence[NewMessage]:
        return self._messages

    def jobs(
        self, queue: Queue | None, ids: Sequence[str], messages: Sequence[NewMessage]
    ) -> Sequence[tuple[QueueRef, NewMessage]]:
        return ()


async def _fill_all(a: argparse.Namespace, stores: Stores) -> dict[str, str]:
    """Fill the four stores.

    Returns:
        For each the id of a message in the middle of the queue.
    """
    ref, now = QueueRef(a.project, QUEUE), datetime.now(UTC)
    some = a.depth // 10
    middles = {}
    async with _store(stores.uri("short")) as store:
        middles["short"] = await _post(store, ref, SHORT, now=now)
    async with _store(stores.uri("waiting")) as store:
        middles["waiting"] = await _post(store, ref, a.depth, now=now)
    async with _store(stores.uri("claimed")) as store:
        middles["claimed"] = await _post(store, ref, a.depth, now=now)
        await _claim(store, ref, some, now=now)
    async with _store(stores.uri("expired")) as store:
        await _post(store, ref, some, now=now - timedelta(days=1), ttl=60)
        middles["expired"] = await _post(store, ref, a.depth, now=now)
        await _claim(store, ref, some, now=now)
    return middles


@contextlib.asynccontextmanager
async def _store(uri: str):
    store = await open_storage(uri)
    try:
        yield store
    finally:
        await store.close()


async def _post(
    store: Storage, ref: QueueRef, count: int, *, now: datetime, ttl: int = DAY_SECONDS
) -> str:
    """Post so many; returns the id of the one in the middle."""
    middle = ""
    for start in range(0, count, BATCH):
        posted = await store.messages.post(ref, _Filling(BATCH, ttl), now=now)
        if start <= count // 2:
            middle = posted.ids[0]
    return middle


async def _claim(store: Storage, ref: QueueRef, count: int, *, now: datetime) -> None:
    for _ in range(0, count, CLAIM):
        claim = await store.claims.create(
            ref, claim_id=new_id(), ttl=DAY_SECONDS // 2, grace=60, limit=CLAIM, now=now
        )
        if claim is None or len(claim.messages) != CLAIM:
            raise SystemExit("depth: a claim did not get its messages")


async def _measure(
    a: argparse.Namespace,
    running: list[servers.Server],
    middles: dict[str, str],
    deadline: float,
) -> dict:
    """Every operation at every depth: `{operation: {depth: result}}`."""
    contexts = {each.label: load.Ctx(a, each.url, each.parts) for each in running}
    results = {}
    for done, operation in enumerate(OPERATIONS):
        runs = {
            label: partial(_trial, operation, context, middles[label])
            for label, context in contexts.items()
        }
        until = load.share(deadline, left=len(OPERATIONS) - done)
        results[operation] = await load.repeat(a, f"depth {operation}", runs, deadline=until)
    return results


async def _trial(operation: str, ctx: load.Ctx, middle: str) -> dict:
    async with ctx.client() as client:
        if operation == "claim":
            return await _claims(ctx, client)
        path = f"{ctx.q(QUEUE)}/messages"
        request = {
            "post": ("POST", path, b'{"messages":[{"body":' + BODY + b"}]}", (201,)),
            "head": ("GET", f"{path}?limit=10&echo=true", None, (200,)),
            "middle": ("GET", f"{path}?limit=10&echo=true&marker={middle}", None, (200,)),
        }[operation]
        await load.timed_loop(ctx, client, 1, 0.3, lambda: request)
        clocks = load.Clocks(ctx)
        latencies, errors = await load.timed_loop(
            ctx, client, 1, min(ctx.a.seconds, SECONDS), lambda: request
        )
        wall, cpu = clocks.stop(len(latencies))
        return load.row(latencies, errors, wall, cpu)


async def _claims(ctx: load.Ctx, client: load.RawClient) -> dict:
    await load.fill(ctx, client, QUEUE, SHORT, 100)
    latencies: list[float] = []
    errors = load.Errors()
    clocks = load.Clocks(ctx)
    await load.consumer(ctx, client, QUEUE, {}, latencies, errors, lambda: len(latencies) >= CYCLES)
    wall, cpu = clocks.stop(len(latencies))
    return load.row(latencies, errors, wall, cpu)


def _table(a: argparse.Namespace, results: dict) -> str:
    some = f"{a.depth // 10:,}"
    head = (
        f"about {SHORT:,} waiting",
        f"{a.depth:,} waiting",
        f"of which {some} claimed",
        f"and {some} expired before them",
    )
    rows = [report.row("", *head), report.row(*["---"] * (len(head) + 1))]
    for operation, line in results.items():
        for key, what in (("server_cpu_ms_per_op", "CPU ms"), ("p50_ms", "p50 ms")):
            medians = [each["summary"][key]["median"] for each in line.values()]
            cells = [f"{report.number(value)} (× {value / medians[0]:.2f})" for value in medians]
            rows.append(report.row(f"{OPERATIONS[operation]}, {what}", *cells))
    return "\n".join(rows)
