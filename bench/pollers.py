"""The cost of a thousand waiting long polls, and how soon they are answered.

Two API processes of one cluster: all polls wait in the one, all messages are posted through the
other, so no poll is woken by its own process. The polls are spread over one queue, over 64, or
over as many queues as there are polls. Each waits 20 seconds and then asks again; the first ones wait
less, so that the renewals are spread as well.

First the processes are left alone, and their CPU is read: it is the cost of waiting. Then messages are
posted, each to the next queue in turn, and the time from a post's sending to each answer is noted: a
claim answers one poll, a listing all that wait at the queue.
"""

import argparse
import asyncio
import contextlib
import itertools
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import load
import report
import servers
import uvloop
from orjson import dumps, loads

WAIT_SECONDS = 20
SETTLE_SECONDS = 5
"""Until the process looks for news as rarely as it ever does."""
POST_EVERY_SECONDS = 0.25
ANSWERS_PER_SECOND = 300
"""At most: with fewer posts where each is answered to many, as this is not about load."""
LATE_SECONDS = 5
"""After the last post. A later answer counts as none."""
SHORTEST_SECONDS = 4


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--pollers", type=int, default=1000, help="long polls that wait at once")
    add("--poll-queues", type=load.ints, default=[1, 64, 1000], help="queues that they wait at")
    add("--poll-seconds", type=float, default=10, help="of idling, and of posting, per line")


def compare(a: argparse.Namespace, directory: Path, deadline: float) -> tuple[str, dict]:
    """The table as Markdown, and all its figures. Each line is measured once, for its part of the time."""
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(servers.mongod(directory / "mongod"))
        waiting, posting = (
            stack.enter_context(servers.cluster(directory / label, store, label=label, workers=0))
            for label in ("waiting", "posting")
        )
        results = uvloop.run(_measure(a, waiting, posting, deadline))
    text = [
        report.facts(report.machine(), report.cluster(), report.mongod()),
        _table(results),
    ]
    return "\n\n".join(text), results


@dataclass
class Polls:
    """The polls of one line, and their answers. Instants are of `time.perf_counter`."""

    ctx: load.Ctx
    client: load.RawClient
    asked: int = 0
    sent: list[float] = field(default_factory=list)
    """When each message was posted; its number is its place."""
    latencies: list[float] = field(default_factory=list)
    errors: load.Errors = field(default_factory=load.Errors)
    came: asyncio.Event = field(default_factory=asyncio.Event)
    is_over: bool = False
    """A poll that is answered at the very moment of its cancellation is told by this to end."""

    async def wait_for(self, answers: int, *, timeout_seconds: float) -> None:
        """Until so many messages were in answers, or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                while len(self.latencies) < answers:
                    self.came.clear()
                    await self.came.wait()

    async def claim(self, queue: str, wait: int) -> None:
        """Claim a message, again and again; it is not released."""
        client_id, body = str(uuid.uuid4()), dumps({"ttl": 300, "grace": 60})
        while not self.is_over:
            path = f"{self.ctx.q(queue)}/claims?limit=1&wait={wait}"
            status, answer = await self._ask("POST", path, body, client_id)
            wait = WAIT_SECONDS
            if status == 201:
                self._answered(loads(answer))

    async def observe(self, queue: str, wait: int) -> None:
        """Ask for new messages, again and again."""
        client_id, marker = str(uuid.uuid4()), ""
        while not self.is_over:
            path = f"{self.ctx.q(queue)}/messages?wait={wait}{marker}"
            status, answer = await self._ask("GET", path, None, client_id)
            wait = WAIT_SECONDS
            if status == 200:
                page = loads(answer)
                self._answered(page)
                for link in page["links"]:
                    following = parse_qs(urlsplit(link["href"]).query)
                    marker = f"&marker={following['marker'][0]}"

    async def _ask(
        self, method: str, path: str, body: bytes | None, client_id: str
    ) -> tuple[int, bytes]:
        self.asked += 1
        try:
            status, answer = await self.client.request(method, path, body, client_id)
        except OSError as error:
            self.errors.add(type(error).__name__)
            await asyncio.sleep(1)
            return 0, b""
        if status not in (200, 201, 204):
            self.errors.add(status)
            await asyncio.sleep(1)
        return status, answer

    def _answered(self, page: dict) -> None:
        now = time.perf_counter()
        for message in page["messages"]:
            self.latencies.append(now - self.sent[message["body"]["seq"]])
        self.came.set()


async def _measure(
    a: argparse.Namespace, waiting: servers.Server, posting: servers.Server, deadline: float
) -> dict[str, dict]:
    ours, other = (load.Ctx(a, each.url, each.parts) for each in (waiting, posting))
    lines = [
        ("nobody", 0, 1),
        *((kind, a.pollers, queues) for kind in ("claims", "messages") for queues in a.poll_queues),
    ]
    results = {}
    for done, (kind, pollers, queues) in enumerate(lines):
        until = load.share(deadline, left=len(lines) - done)
        seconds = (until - time.perf_counter() - SETTLE_SECONDS) / 2
        seconds = min(max(seconds, SHORTEST_SECONDS), a.poll_seconds)
        line = await _line(ours, other, kind, pollers, queues, seconds)
        results[f"{kind} {queues}"] = line
        print(_row(kind, line), file=sys.stderr, flush=True)
    return results


async def _line(
    ours: load.Ctx, other: load.Ctx, kind: str, pollers: int, queues: int, seconds: float
) -> dict:
    names = [f"poll-{uuid.uuid4().hex}" for _ in range(queues)]
    async with ours.client() as client, other.client() as producer:
        polls = Polls(ours, client)
        poll = polls.claim if kind == "claims" else polls.observe
        tasks = [
            asyncio.create_task(poll(name, 1 + number % WAIT_SECONDS))
            for number, name in zip(range(pollers), itertools.cycle(names), strict=False)
        ]
        await asyncio.sleep(SETTLE_SECONDS)
        asked, clocks = polls.asked, load.Clocks(ours)
        await asyncio.sleep(seconds)
        wall, cpu = clocks.stop(0)
        figures = {"pollers": pollers, "queues": queues} | cpu
        figures["asked_per_s"] = (polls.asked - asked) / wall
        if pollers:
            observers = pollers if kind == "messages" else 0
            figures |= await _post(other, producer, polls, names, observers, seconds)
        polls.is_over = True
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended
    return figures


async def _post(
    other: load.Ctx,
    producer: load.RawClient,
    polls: Polls,
    names: list[str],
    observers: int,
    seconds: float,
) -> dict:
    """Post for so many seconds, and wait for the answers.

    Args:
        observers: How many polls observe the queues, each getting every message; 0: all claim.
    """
    pause = max(POST_EVERY_SECONDS, observers / len(names) / ANSWERS_PER_SECOND)
    client_id, expected = str(uuid.uuid4()), 0
    for number in range(int(seconds / pause)):
        path = f"{other.q(names[number % len(names)])}/messages"
        polls.sent.append(time.perf_counter())
        # As many as were dealt to that queue.
        expected += len(range(number % len(names), observers, len(names))) if observers else 1
        body = dumps({"messages": [{"ttl": 300, "body": {"seq": number}}]})
        status, answer = await producer.request("POST", path, body, client_id)
        if status != 201:
            raise SystemExit(f"pollers: POST answered {status} {answer[:300]!r}")
        await asyncio.sleep(pause)
    await polls.wait_for(expected, timeout_seconds=LATE_SECONDS)
    return {
        "posts": len(polls.sent),
        "expected": expected,
        "answers": len(polls.latencies),
        "p50_ms": 1000 * load.pct(polls.latencies, 50) if polls.latencies else None,
        "p99_ms": 1000 * load.pct(polls.latencies, 99) if polls.latencies else None,
        "errors": dict(polls.errors),
    }


def _table(results: dict[str, dict]) -> str:
    head = ("waiting", "API, % of a core", "mongod, % of a core", "asked again, per s")
    rows = [report.row(*head, "answers", "p50 ms", "p99 ms"), report.row(*["---"] * 7)]
    return "\n".join([*rows, *(_row(name.split()[0], line) for name, line in results.items())])


def _row(kind: str, line: dict) -> str:
    shares = [f"{100 * line[load.PART_SHARE + part]:.1f}" for part in ("API", "mongod")]
    answers, p50, p99 = ("–",) * 3
    if line.get("answers"):
        answers, p50, p99 = (
            f"{line['answers']:,}",
            report.number(line["p50_ms"]),
            report.number(line["p99_ms"]),
        )
    if missing := line.get("expected", 0) - line.get("answers", 0):
        answers += f" ({missing:,} missing)"
    if line.get("errors"):
        answers += f" (errors {line['errors']})"
    asked = f"{line['asked_per_s']:.0f}"
    return report.row(_title(kind, line), *shares, asked, answers, p50, p99)


def _title(kind: str, line: dict) -> str:
    if not line["pollers"]:
        return "nobody"
    queues = "one queue" if line["queues"] == 1 else f"{line['queues']:,} queues"
    return f"{line['pollers']:,} × `{kind}?wait={WAIT_SECONDS}`, {queues}"
