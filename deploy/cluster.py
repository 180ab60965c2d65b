"""The processes of a cluster on this machine, and how each is known to do its work.

Servers and options are those of `docker-compose.yml`; a test holds the two together.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import aiohttp
import dotenv
import redis.asyncio
from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError
from redis.exceptions import RedisError

from deploy import programs
from deploy.fixed import HOST, Fixed, first_of_free
from deploy.processes import Process
from zaqar_notify.settings import Settings, variable

MEMBERS = 3
WORKERS = 2
SET_NAME = "rs0"
DATABASE = "zaqar_notify"

MONGOD_OPTIONS = (
    *("--replSet", SET_NAME, "--wiredTigerCacheSizeGB", "0.5"),
    # Kept history slows reads of a queue's first messages, and no read needs it (docs/decisions/0008).
    *("--setParameter", "minSnapshotHistoryWindowInSeconds=0"),
)
REDIS_OPTIONS = (
    *("--appendonly", "yes"),
    *("--appendfsync", "everysec"),
    *("--save", ""),
    *("--maxmemory", "200mb"),
    *("--maxmemory-policy", "noeviction"),
)
API_OPTIONS = ("--processes", "2")
WORKER_OPTIONS = ("--concurrency", "1")

ELECTION_MS = 2000
"""A new primary in a few seconds: members on one machine hear of a death at once."""

SHUTDOWN_SECONDS = 2
"""For requests and deliveries under way, so that all of it stops in 15 seconds."""
API_STOP_SECONDS, WORKER_STOP_SECONDS, STORE_STOP_SECONDS = 4, 4, 5

SERVING = 4
"""Processes that show metrics: two of the API, two workers."""

SETTINGS = "settings.env"


class Cluster:
    """The processes, in the order in which they start; they stop in the opposite one."""

    def __init__(self, data: Path, fixed: Fixed, port: int) -> None:
        self.url = f"http://{HOST}:{port}"
        self.members = [f"{HOST}:{port}" for port in fixed.mongod_ports]
        self.store_uri = f"mongodb://{','.join(self.members)}/{DATABASE}?replicaSet={SET_NAME}"
        self.broker_uri = f"redis://{HOST}:{fixed.redis_port}/0"
        self.settings_file = data / SETTINGS
        environ = self._environ(fixed)
        first = int(environ["ZAQAR_METRICS_PORT"])
        self.metrics = f"http://{HOST}:{first}/metrics, and the ports to {first + SERVING - 1}"
        self.stores = [
            _mongod(number, port, data) for number, port in enumerate(fixed.mongod_ports, start=1)
        ]
        self.broker = _redis(fixed.redis_port, data)
        self.api = Process(
            "api",
            _zaqar_notify("api", "--host", HOST, "--port", str(port), *API_OPTIONS),
            log=data / "api.log",
            environ=environ,
            describes=f"{self.url}, two processes below it",
        )
        self.workers = [
            Process(
                f"worker-{number}",
                _zaqar_notify("worker", *WORKER_OPTIONS),
                log=data / f"worker-{number}.log",
                environ=environ,
            )
            for number in range(1, WORKERS + 1)
        ]

    @property
    def processes(self) -> list[Process]:
        return [*self.stores, self.broker, self.api, *self.workers]

    async def start(self) -> None:
        """Start all processes, each as soon as those that it needs are ready.

        Raises:
            StartRefused: One of them does not start; the sentence names it and has its last words.
        """
        for store in [*self.stores, self.broker]:
            store.start()
        for store, address in zip(self.stores, self.members, strict=True):
            await store.wait_until(partial(_answers, _uri_of(address)))
        await _initiate(self.members)
        await self.stores[0].wait_until(partial(_answers, self.store_uri))
        await self.broker.wait_until(partial(_redis_answers, self.broker_uri))
        for process in [self.api, *self.workers]:
            process.start()
        await self.api.wait_until(partial(_api_answers, self.url))
        for process in self.processes:
            process.keep()

    async def stop(self) -> None:
        """Stop all: first the API and the workers, then store and broker."""
        late: list[Process] = []
        for processes, within_seconds in (
            ([self.api], API_STOP_SECONDS),
            (self.workers, WORKER_STOP_SECONDS),
            ([*self.stores, self.broker], STORE_STOP_SECONDS),
        ):
            in_time = await asyncio.gather(*(process.stop(within_seconds) for process in processes))
            late += [process for process, was in zip(processes, in_time, strict=True) if not was]
        for process in late:
            print(f"{process.name} took too long to stop and was killed", flush=True)

    def _environ(self, fixed: Fixed) -> dict[str, str]:
        ours = {
            "ZAQAR_STORE_URI": self.store_uri,
            "ZAQAR_BROKER_URI": self.broker_uri,
            "ZAQAR_SHUTDOWN_SECONDS": str(SHUTDOWN_SECONDS),
        }
        defaults = {
            "ZAQAR_WEBHOOK_SECRET": fixed.webhook_secret,
            "ZAQAR_SIGNED_URL_SECRETS": fixed.signed_url_secret,
            "ZAQAR_PUBLIC_URL": self.url,
            "ZAQAR_DELIVERY_ALLOW": "127.0.0.0/8,::1/128",
            "ZAQAR_METRICS_PORT": str(first_of_free(SERVING, beyond=max(fixed.ports))),
        }
        environ = defaults | os.environ | ours
        _write_settings(self.settings_file, environ)
        return environ


def _write_settings(path: Path, environ: Mapping[str, str]) -> None:
    """The service's settings in `environ` as a file for `ZAQAR_CONFIG_FILE`, for this user alone: some are secret."""
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    for name in map(variable, Settings.model_fields):
        if name in environ:
            dotenv.set_key(path, name, environ[name])


def _mongod(number: int, port: int, data: Path) -> Process:
    directory = data / f"mongod-{number}"
    directory.mkdir(exist_ok=True)
    return Process(
        f"mongod-{number}",
        [
            programs.mongod() or "mongod",
            *MONGOD_OPTIONS,
            *("--bind_ip", HOST, "--port", str(port), "--dbpath", directory),
            *("--oplogSize", "200"),
            # It would be in a directory shared by all: one that is left there by another user's
            # server of that port keeps this one from starting.
            "--nounixsocket",
            # A primary that ends waits so long for another to take over.
            *("--setParameter", "shutdownTimeoutMillisForSignaledShutdown=1000"),
        ],
        log=data / f"mongod-{number}.log",
        describes=f"{HOST}:{port}",
    )


def _redis(port: int, data: Path) -> Process:
    directory = data / "redis"
    directory.mkdir(exist_ok=True)
    return Process(
        "redis",
        [
            programs.redis_server() or "redis-server",
            *REDIS_OPTIONS,
            *("--bind", HOST, "--port", str(port), "--dir", directory),
        ],
        log=data / "redis.log",
        describes=f"{HOST}:{port}",
    )


def _zaqar_notify(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "zaqar_notify", *arguments]


async def _initiate(members: Sequence[str]) -> None:
    """Make the members a replica set, unless they are one."""
    configuration = {
        "_id": SET_NAME,
        "members": [{"_id": number, "host": address} for number, address in enumerate(members)],
        "settings": {"electionTimeoutMillis": ELECTION_MS},
    }
    async with _client(_uri_of(members[0])) as client:
        if "setName" not in await client.admin.command("hello"):
            await client.admin.command({"replSetInitiate": configuration})


def _uri_of(member: str) -> str:
    """The URI of this very member, whatever the others say."""
    return f"mongodb://{member}/?directConnection=true"


async def _answers(uri: str) -> bool:
    """Whether the member answers or, of a replica set's URI, the primary."""
    try:
        async with _client(uri) as client:
            await client.admin.command("ping")
    except PyMongoError:
        return False
    return True


def _client(uri: str) -> AsyncMongoClient[dict[str, object]]:
    return AsyncMongoClient(uri, serverSelectionTimeoutMS=500, serverMonitoringMode="poll")


async def _redis_answers(uri: str) -> bool:
    try:
        async with redis.asyncio.Redis.from_url(uri) as client:
            return bool(await client.ping())
    except RedisError:
        return False


async def _api_answers(url: str) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(f"{url}/readyz") as answer:
            return answer.ok
    except aiohttp.ClientError:
        return False
