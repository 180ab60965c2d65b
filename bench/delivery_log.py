"""The cost of the delivery log: CPU of `zaqar-notify up` and bytes written for each delivery.

    python bench/delivery_log.py
    python bench/delivery_log.py --before DIRECTORY    beside a checkout from before the log

The same posts go to webhooks that take every delivery, then to webhooks that refuse every delivery for good. The variants take
turns; the figures are the medians of the trials.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import urllib.request
from pathlib import Path

import uvloop
from aiohttp import web

ROOT = Path(__file__).resolve().parent.parent
HEADERS = {"Client-ID": "0" * 32, "X-Project-ID": "demo", "Content-Type": "application/json"}
TICKS = os.sysconf("SC_CLK_TCK")
FINAL = {"_retry_policy": {"minimum_delay": 5}}
SETTLE_SECONDS = 12
"""Until numbers are written, which belong to the cost."""


class Receiver:
    def __init__(self) -> None:
        self.count = 0
        self.status = 204

    async def __call__(self, request: web.Request) -> web.Response:
        await request.read()
        self.count += 1
        return web.Response(status=self.status)


def call(port: int, path: str, document: object) -> None:
    url = f"http://127.0.0.1:{port}{path}"
    request = urllib.request.Request(url, json.dumps(document).encode(), HEADERS)
    urllib.request.urlopen(request).close()


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def written_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar"))


async def until(condition) -> None:
    async with asyncio.timeout(180):
        while not condition():  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.05)


async def trial(checkout: Path, log: str, receiver: Receiver, hook: str, a) -> tuple[float, float]:
    """CPU microseconds and bytes for each delivery."""
    port = 20_000 + os.getpid() % 10_000
    environ = os.environ | {
        "ZAQAR_DELIVERY_ALLOW": "127.0.0.0/8",
        "PYTHONPATH": str(checkout),
        **({"ZAQAR_DELIVERY_LOG": log} if log else {}),
    }
    with tempfile.TemporaryDirectory() as data:
        command = [sys.executable, "-m", "zaqar_notify", "up", "--port", str(port), "--data", data]
        process = await asyncio.create_subprocess_exec(
            *command,
            env=environ,
            cwd=checkout,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            return await measured(process.pid, port, receiver, hook, a)
        finally:
            process.terminate()
            await process.wait()


async def measured(pid: int, port: int, receiver: Receiver, hook: str, a) -> tuple[float, float]:
    await until(lambda: answers(port))
    for number in range(a.subscribers):
        document = {"subscriber": f"{hook}/{number}", "ttl": 3600, "options": FINAL}
        await asyncio.to_thread(call, port, "/v2/queues/q/subscriptions", document)
    receiver.count = 0
    cpu, written = cpu_seconds(pid), written_bytes(pid)
    for number in range(a.posts):
        document = {"messages": [{"body": {"n": number}, "ttl": 3600}]}
        await asyncio.to_thread(call, port, "/v2/queues/q/messages", document)
    deliveries = a.posts * a.subscribers
    await until(lambda: receiver.count >= deliveries)
    await asyncio.sleep(SETTLE_SECONDS)
    used, bytes_ = cpu_seconds(pid) - cpu, written_bytes(pid) - written
    return used * 1e6 / deliveries, bytes_ / deliveries


def answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz").close()
    except OSError:
        return False
    return True


async def main(a) -> None:
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/{number}", receiver)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    hook = f"http://127.0.0.1:{runner.addresses[0][1]}"
    variants = {"failures": (ROOT, "failures"), "all": (ROOT, "all")}
    if a.before:
        variants = {"no log": (a.before, "")} | variants
    for status, title in ((204, "taken"), (404, "refused")):
        receiver.status = status
        found = {name: [] for name in variants}
        for _ in range(a.trials):
            for name, (checkout, log) in variants.items():
                found[name].append(await trial(checkout, log, receiver, hook, a))
        first = statistics.median(cpu for cpu, _ in next(iter(found.values())))
        for name, each in found.items():
            cpu = statistics.median(cpu for cpu, _ in each)
            size = statistics.median(size for _, size in each)
            print(
                f"{title:8} {name:9} {cpu:6.0f} us {cpu / first:5.2f}x {size:7.0f} bytes",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", type=Path)
    parser.add_argument("--subscribers", type=int, default=20)
    parser.add_argument("--posts", type=int, default=200)
    parser.add_argument("--trials", type=int, default=3)
    uvloop.run(main(parser.parse_args()))
