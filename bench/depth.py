"""What a deep queue costs: the same operations on a short queue and on one with a million messages.

The stores are filled through the storage contract before the service starts, with small messages.
Four services run side by side, each on a store of its own, and take turns:

  short                a queue that holds about as many messages as one trial consumes
  waiting              1,000,000 messages
  claimed              1,000,000 messages, the first 100,000 of them under live claims
  expired              the same behind 100,000 messages that have expired

The sweep, which would remove the expired ones within seconds, is off in all four.
"""

import argparse
import contextlib
import shutil
import sys
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import load
import report
import servers
import uvloop

from zaqar_notify.clock import new_id
from zaqar_notify.models import NewMessage, Queue, QueueRef
from zaqar_notify.single import DATABASE
from zaqar_notify.storage.base import Post, Storage
from zaqar_notify.storage.registry import open_storage

QUEUE = "depth"
BATCH = 1000
CLAIM = 100
CYCLES = 200
"""Claims of ten messages, each message then deleted, in one trial."""
SHORT = CYCLES * 10
BODY = load.dumps({"seq": 0, "pad": "x" * 80})
DAY_SECONDS = 86400
MINUTES = 5
SECONDS = 2
"""A trial of one request after another needs no more."""
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


def compare(a: argparse.Namespace, directory: Path) -> tuple[str, dict]:
    """The table as Markdown, and all its figures."""
    began = time.perf_counter()
    middles = uvloop.run(_fill_all(a, directory))
    print(f"depth: stores filled in {time.perf_counter() - began:.0f} s", file=sys.stderr)
    with contextlib.ExitStack() as stack:
        running = [
            stack.enter_context(
                servers.zaqar_notify(directory / label, label=label, settings=NEVER)
            )
            for label in middles
        ]
        results = uvloop.run(_measure(a, running, middles))
    return _table(a, results), results


class _Filling(Post):
    client_id = str(uuid.uuid4())

    def __init__(self, count: int, ttl: int) -> None:
        self._messages = [NewMessage(body=BODY, ttl=ttl)] * count

    def settle(self, queue: Queue | None) -> Sequence[NewMessage]:
        return self._messages

    def jobs(
        self, ids: Sequence[str], messages: Sequence[NewMessage]
    ) -> Sequence[tuple[QueueRef, NewMessage]]:
        return ()


async def _fill_all(a: argparse.Namespace, directory: Path) -> dict[str, str]:
    """Make the four stores.

    Returns:
        For each the id of a message in the middle of the queue.
    """
    ref, now = QueueRef(a.project, QUEUE), datetime.now(UTC)
    some = a.depth // 10
    middles = {}
    for label in ("short", "waiting", "expired"):
        (directory / label).mkdir()
    async with _store(directory / "short") as store:
        middles["short"] = await _post(store, ref, SHORT, now=now)
    async with _store(directory / "waiting") as store:
        middles["waiting"] = await _post(store, ref, a.depth, now=now)
    shutil.copytree(directory / "waiting", directory / "claimed")
    middles["claimed"] = middles["waiting"]
    async with _store(directory / "claimed") as store:
        await _claim(store, ref, some, now=now)
    async with _store(directory / "expired") as store:
        await _post(store, ref, some, now=now - timedelta(days=1), ttl=60)
        middles["expired"] = await _post(store, ref, a.depth, now=now)
        await _claim(store, ref, some, now=now)
    return middles


@contextlib.asynccontextmanager
async def _store(directory: Path):
    store = await open_storage(f"sqlite://{directory / DATABASE}")
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
    a: argparse.Namespace, running: list[servers.Server], middles: dict[str, str]
) -> dict:
    """Every operation at every depth: `{operation: {depth: result}}`."""
    contexts = {each.label: load.Ctx(a, each.url, each.pids) for each in running}
    deadline = time.perf_counter() + 60 * MINUTES
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
        latencies, errors = await load.timed_loop(ctx, client, 1, SECONDS, lambda: request)
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
