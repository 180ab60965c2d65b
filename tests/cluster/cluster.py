"""Redis, a database of MongoDB, and the processes that share them, each started by a test."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.cluster.processes import Api, Process, Worker
from tests.cluster.skewed import skewed
from tests.mongod import mongo_uri
from tests.redis_server import RedisServer, require_redis
from tests.service import command, outside_environ

COMMAND_SECONDS = 60


class Cluster:
    """The settings of all processes, and the processes."""

    def __init__(
        self,
        directory: Path,
        redis: RedisServer,
        store_uri: str,
        *,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.redis = redis
        self.store_uri = store_uri
        self._environ = {
            "ZAQAR_STORE_URI": store_uri,
            "ZAQAR_BROKER_URI": redis.uri,
            "ZAQAR_DELIVERY_ALLOW": "127.0.0.0/8",
            "ZAQAR_DELIVERY_LEASE_SECONDS": "2",
            "ZAQAR_SHUTDOWN_SECONDS": "4",
            "ZAQAR_SIGNED_URL_SECRETS": "secret",
            "ZAQAR_WEBHOOK_SECRET": "secret",
            **(environ or {}),
        }
        self._directory = directory
        self._numbers = itertools.count()
        self._apis: list[Api] = []
        self._workers: list[Worker] = []
        self._others: list[Process] = []

    def api(
        self,
        *,
        processes: int = 1,
        environ: Mapping[str, str] | None = None,
        ahead_seconds: float = 0.0,
    ) -> Api:
        """An API that answers, on a host whose clock is so far ahead."""
        api = Api(
            processes=processes,
            environ=self._environ | dict(environ or {}),
            log=self._log("api"),
            ahead_seconds=ahead_seconds,
        )
        self._apis.append(api)
        api.start()
        return api

    def worker(
        self,
        kind: str = "threads",
        *,
        environ: Mapping[str, str] | None = None,
        ahead_seconds: float = 0.0,
    ) -> Worker:
        """A worker whose engines run, on a host whose clock is so far ahead."""
        told = self._environ | dict(environ or {})
        worker = Worker(kind, environ=told, log=self._log("worker"), ahead_seconds=ahead_seconds)
        self._workers.append(worker)
        worker.start()
        return worker

    def process(self, *arguments: str, environ: Mapping[str, str] | None = None) -> Process:
        """A command of ours that goes on, not started yet."""
        told = self._environ | dict(environ or {})
        process = Process(command(*arguments), environ=told, log=self._log(arguments[0]))
        self._others.append(process)
        return process

    def run(self, *arguments: str, ahead_seconds: float = 0.0) -> subprocess.CompletedProcess[str]:
        """A command of ours to its end, on a host whose clock is so far ahead."""
        return subprocess.run(
            skewed(command(*arguments), ahead_seconds=ahead_seconds),
            env=outside_environ() | self._environ,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )

    def end_workers(self) -> None:
        _end(self._workers)

    def end_processes(self) -> None:
        _end([*self._apis, *self._workers, *self._others])

    def _log(self, name: str) -> Path:
        return self._directory / f"{name}{next(self._numbers)}.log"


UNWANTED = ("Traceback", "DeprecationWarning")
"""Texts that no log may have, because they help no reader."""


def _end(processes: Sequence[Process]) -> None:
    for process in processes:
        process.ask_to_stop()
    for process in processes:
        process.end()
    # After all have ended: a fault of one must not leave another behind.
    for process in processes:
        printed = process.printed()
        assert not any(word in printed for word in UNWANTED), printed


@contextmanager
def empty_cluster(
    directory: Path,
    store_uri: str | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    redis: RedisServer | None = None,
) -> Iterator[Cluster]:
    """One whose Redis runs and whose processes end with it. Skips, or fails, where a program is missing."""
    require_redis()
    redis = redis or RedisServer()
    cluster = Cluster(directory, redis, store_uri or mongo_uri(), environ=environ)
    with ExitStack() as ends:
        ends.callback(redis.kill)
        redis.start()
        ends.callback(cluster.end_processes)
        yield cluster
