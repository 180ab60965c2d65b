"""A project that posts as fast as it can, and the posts of another project beside it.

The flood is a process of its own, so that its requests do not delay those that are measured by the client. It repeats
refused posts at once, against `Retry-After`.

    python bench/flood.py URL    floods the service until it is ended
"""

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import load
import report
import uvloop
from orjson import dumps

CONNECTIONS = 64
PHASE_SECONDS = 4
PHASES = 6
"""Of each kind, in turns: alone, beside the flood."""
SETTLE_SECONDS = 1.5
"""Longer than a burst of the flood."""
PAUSE_SECONDS = 0.02
BODY = dumps({"messages": [{"ttl": 300, "body": "x" * 200}]})
BOUNDED = {"ZAQAR_QUOTA_REQUESTS_PER_SECOND": "100", "ZAQAR_QUOTA_BURST_SECONDS": "1"}
"""Settings of the line with quotas; without them the flood has the whole process."""


async def measure(url: str, headers: dict[str, str]) -> dict[str, dict]:
    """Latencies of a project's posts, alone and beside the flood of another."""
    found: dict[str, list[float]] = {"alone": [], "beside": []}
    async with load.RawClient(url, headers | {"X-Project-ID": "well"}) as client:
        with _flooding(url) as flood:
            await _posts(client, PHASE_SECONDS)  # Until the flood is under way.
            for _ in range(PHASES):
                flood.send_signal(signal.SIGSTOP)
                await _posts(client, SETTLE_SECONDS)
                found["alone"] += await _posts(client, PHASE_SECONDS)
                flood.send_signal(signal.SIGCONT)
                await _posts(client, SETTLE_SECONDS)
                found["beside"] += await _posts(client, PHASE_SECONDS)
    return {
        name: {"p50_ms": load.pct(each, 50), "p99_ms": load.pct(each, 99), "posts": len(each)}
        for name, each in found.items()
    }


def table(results: dict[str, dict[str, dict]]) -> str:
    """A row for each setting: the latencies alone and beside the flood, and how they compare."""
    head = (
        "posts of a project, ms",
        "p50 alone",
        "p99 alone",
        "p50 beside",
        "p99 beside",
        "p99, times",
    )
    rows = [report.row(*head), report.row(*["---"] * len(head))]
    for title, line in results.items():
        alone, beside = line["alone"], line["beside"]
        numbers = (alone["p50_ms"], alone["p99_ms"], beside["p50_ms"], beside["p99_ms"])
        times = beside["p99_ms"] / alone["p99_ms"]
        rows.append(report.row(title, *map(report.number, numbers), f"{times:.1f}"))
    return "\n".join(rows)


async def _posts(client: load.RawClient, seconds: float) -> list[float]:
    """Post at an even pace; how long each took, ms."""
    latencies = []
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        path = "/v2/queues/well/messages"
        status, answer = await client.request("POST", path, BODY, str(uuid.uuid4()))
        if status != 201:
            raise SystemExit(f"flood: POST answered {status} {answer[:300]!r}")
        latencies.append(1000 * (time.perf_counter() - began))
        await asyncio.sleep(PAUSE_SECONDS)
    return latencies


@contextlib.contextmanager
def _flooding(url: str):
    """The flood, as a process."""
    process = subprocess.Popen([sys.executable, Path(__file__).resolve(), url])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def _flood(url: str) -> None:
    headers = {"Content-Type": "application/json", "X-Project-ID": "flooding"}
    async with load.RawClient(url, headers) as client:

        async def post() -> None:
            while True:
                path = "/v2/queues/flood/messages"
                await client.request("POST", path, BODY, str(uuid.uuid4()))

        await asyncio.gather(*(post() for _ in range(CONNECTIONS)))


if __name__ == "__main__":
    uvloop.run(_flood(sys.argv[1]))
