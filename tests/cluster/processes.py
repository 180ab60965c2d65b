"""API processes and workers as an operator starts them, and a receiver of webhooks."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from aiohttp import web

from tests.cluster.skewed import skewed
from tests.service import command, free_port, has_ended, outside_environ
from zaqar_notify.client import Client, ServiceUnavailable, ServiceUnreachable, Unauthorized

START_SECONDS = 30
STOP_SECONDS = 15
PATIENCE_SECONDS = 20

API_HEADERS = {"Client-ID": "0" * 32, "X-Project-ID": "demo"}

ENGINE_STARTED = "engine_started"
REACHED_BROKER = " ready."
"""Celery's log line when it listens for rings."""

CELERY = [sys.executable, "-m", "celery", "-A", "workers.app"]
WORKERS: Mapping[str, tuple[list[str], int]] = {
    "threads": (command("worker"), 1),
    "prefork": (command("worker", "--concurrency", "2"), 2),
    "celery": ([*CELERY, "worker", "--concurrency", "2"], 2),
    "celery threads": ([*CELERY, "worker", "--pool", "threads"], 1),
}
"""Ways to start a worker, each with how many engines it then has."""

NOWHERE = "redis://127.0.0.1:1/0"
CELERY_VARIABLES: Mapping[str, str] = {
    "CELERY_BROKER_URL": NOWHERE,
    "CELERY_BROKER_READ_URL": NOWHERE,
    "CELERY_BROKER_WRITE_URL": NOWHERE,
    "CELERY_RESULT_BACKEND": NOWHERE,
    "CELERY_CONFIG_MODULE": "not_there",
    "CELERY_LOADER": "default",
}
"""Variables for another application on the host, which ours must ignore."""


class StartFailed(AssertionError):
    """A process has ended, or does nothing, instead of its work."""


class Process:
    """One command, run in `cwd`. `log` holds its standard error, over several starts."""

    def __init__(
        self,
        arguments: list[str],
        *,
        environ: Mapping[str, str],
        log: Path,
        cwd: Path | None = None,
    ) -> None:
        self.log = log
        self._output = log.with_suffix(".out")
        self.process: subprocess.Popen[bytes] | None = None
        self._arguments = arguments
        self._cwd = cwd
        self._environ = outside_environ() | dict(environ)

    def launch(self) -> subprocess.Popen[bytes]:
        with self._output.open("ab") as output, self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._arguments, stdout=output, stderr=log, env=self._environ, cwd=self._cwd
            )
        return self.process

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        """Until the condition holds.

        Raises:
            StartFailed: It does not come true; the text has the output.
        """
        deadline = time.monotonic() + START_SECONDS
        while not is_so():
            if has_ended(self.running()) or time.monotonic() > deadline:
                raise StartFailed(f"It did not start:\n{self.printed()}")

    def printed(self) -> str:
        """Its output and its log."""
        return "".join(file.read_text() for file in (self._output, self.log) if file.exists())

    def send(self, signal_number: signal.Signals) -> None:
        self.running().send_signal(signal_number)

    def exit_code(self) -> int:
        """When it has ended by itself, or as it was asked to."""
        try:
            return self.running().wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"It did not stop:\n{self.printed()}") from None

    def stop(self) -> int:
        self.send(signal.SIGTERM)
        return self.exit_code()

    def ask_to_stop(self) -> None:
        """No error when it has ended."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def end(self) -> None:
        """See that it stops, as it was asked to."""
        if self.process is not None and not has_ended(self.process, within_seconds=STOP_SECONDS):
            self.kill()

    def kill(self) -> None:
        """End it as a crash would. No error when it has ended."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def children(self) -> list[int]:
        """The ids of the processes below it that live, oldest first."""
        pid = self.running().pid
        children = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return [child for child in children if is_alive(child)]

    def running(self) -> subprocess.Popen[bytes]:
        assert self.process is not None, "It was not started"
        return self.process


def is_alive(pid: int) -> bool:
    """Whether there is such a process, and not only its parent's memory of it."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


class Api(Process):
    """`ahead_seconds`: by how much its host's clock is."""

    def __init__(
        self,
        *,
        processes: int,
        environ: Mapping[str, str],
        log: Path,
        ahead_seconds: float = 0.0,
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        arguments = command("api", "--port", str(self.port), "--processes", str(processes))
        arguments = skewed(arguments, ahead_seconds=ahead_seconds)
        super().__init__(arguments, environ=environ, log=log)

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.launch()
        with Client(self.url, timeout_seconds=2, pauses_seconds=()) as client:
            self.wait_until(lambda: _answers(client))


class Worker(Process):
    """`ahead_seconds`: by how much its host's clock is."""

    def __init__(
        self, kind: str, *, environ: Mapping[str, str], log: Path, ahead_seconds: float = 0.0
    ) -> None:
        arguments, self._engines = WORKERS[kind]
        arguments = skewed(arguments, ahead_seconds=ahead_seconds)
        super().__init__(arguments, environ=environ, log=log)

    def start(self) -> None:
        """Start it and wait until its engines run."""
        wanted = self.printed().count(ENGINE_STARTED) + self._engines
        self.launch()
        self.wait_until(lambda: self.printed().count(ENGINE_STARTED) >= wanted)

    def start_whole(self) -> None:
        """Start it and wait until it has reached the broker, too."""
        wanted = self.printed().count(REACHED_BROKER) + 1
        self.start()
        self.wait_until(lambda: self.printed().count(REACHED_BROKER) >= wanted)


def _answers(client: Client) -> bool:
    try:
        client.ping()
    except Unauthorized:
        return True
    except (ServiceUnreachable, ServiceUnavailable):
        return False
    return True


class Hook:
    """A webhook; it answers while `may_answer` is set."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self.queue = f"queue{self.port}"
        """A queue of its own to subscribe it to."""
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.statuses: list[int] = []
        """Of the next answers, in the order in which their requests came; then 204."""
        self.seconds = 0.0
        """That an answer takes."""
        self.came_at: list[float] = []
        self.bodies: list[object] = []
        self.delivery_ids: list[str] = []
        self.seconds = 0.0
        """How long each answer takes."""
        self.most_under_way = 0
        self._under_way = 0
        self._came = asyncio.Condition()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_post("/", self._notify)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", self.port).start()
            yield
        finally:
            self.may_answer.set()
            await runner.cleanup()

    async def received(self, body: object, *, times: int = 1) -> float:
        """Wait for a notification; how many seconds it took to come."""
        began = time.monotonic()
        async with asyncio.timeout(PATIENCE_SECONDS), self._came:
            await self._came.wait_for(lambda: self.bodies.count(body) >= times)
        return time.monotonic() - began

    async def tried(self, times: int) -> None:
        """Wait until so many requests have come."""
        async with asyncio.timeout(PATIENCE_SECONDS), self._came:
            await self._came.wait_for(lambda: len(self.bodies) >= times)

    async def _notify(self, request: web.Request) -> web.Response:
        self._under_way += 1
        self.most_under_way = max(self.most_under_way, self._under_way)
        try:
            return await self._answer(request)
        finally:
            self._under_way -= 1

    async def _answer(self, request: web.Request) -> web.Response:
        self.bodies.append((await request.json())["body"])
        self.delivery_ids.append(request.headers["webhook-id"])
        self.came_at.append(time.monotonic())
        status = self.statuses.pop(0) if self.statuses else 204
        async with self._came:
            self._came.notify_all()
        await self.may_answer.wait()
        await asyncio.sleep(self.seconds)
        return web.Response(status=status)


async def post(session: aiohttp.ClientSession, api: Api, queue: str, body: object) -> float:
    """Post a message; how many seconds the answer took."""
    began = time.monotonic()
    url = f"{api.url}/v2/queues/{queue}/messages"
    document = {"messages": [{"body": body, "ttl": 3600}]}
    async with session.post(url, json=document) as answered:
        assert answered.status == 201, await answered.text()
    return time.monotonic() - began


async def claim(session: aiohttp.ClientSession, api: Api, queue: str, body: object) -> float:
    """Claim the oldest message, which is to have this body; how many seconds the answer took."""
    began = time.monotonic()
    url = f"{api.url}/v2/queues/{queue}/claims?limit=1"
    async with session.post(url, json={"ttl": 60}) as answered:
        assert answered.status == 201, await answered.text()
        [message] = (await answered.json())["messages"]
    assert message["body"] == body
    return time.monotonic() - began


async def subscribe(
    session: aiohttp.ClientSession,
    api: Api,
    hook: Hook,
    *,
    options: Mapping[str, object] | None = None,
) -> str:
    """Let the hook be notified of its queue; the subscription's id."""
    url = f"{api.url}/v2/queues/{hook.queue}/subscriptions"
    document = {"subscriber": hook.url, "ttl": 3600, "options": options or {}}
    async with session.post(url, json=document) as answered:
        assert answered.status == 201, await answered.text()
        subscription_id: str = (await answered.json())["subscription_id"]
        return subscription_id
