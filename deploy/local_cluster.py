"""`make cluster`: the topology of `docker-compose.yml` on loopback, as processes of this machine.

A MongoDB replica set of three, Redis, an API of two processes and two workers. Servers and options
are those of the compose file (a test holds the two together); only addresses, data and limits
differ. All data, logs and keys are in one directory, and the next start finds them there.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import os
import secrets
import signal
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp
import dotenv
import msgspec
import redis.asyncio
from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError
from redis.exceptions import RedisError

from deploy import programs
from deploy.processes import Process
from deploy.welcome import welcome
from zaqar_notify.errors import StartRefused
from zaqar_notify.settings import Settings, variable

HOST = "127.0.0.1"
MEMBERS = 3
WORKERS = 2
SET_NAME = "rs0"
DATABASE = "zaqar_notify"

MONGOD_OPTIONS = (
    *("--replSet", SET_NAME, "--wiredTigerCacheSizeGB", "0.5"),
    # Nobody reads the past, and heads of queues are read the quicker without it.
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

FIRST_PORT = 27117
"""Of the ports that are tried for MongoDB and Redis: below those that outgoing connections take."""

SHUTDOWN_SECONDS = 2
"""For requests and deliveries under way, so that all of it stops in 15 seconds."""
API_STOP_SECONDS, WORKER_STOP_SECONDS, STORE_STOP_SECONDS = 4, 4, 5

SERVING = 4
"""Processes that show metrics: two of the API, two workers."""

FIXED, SETTINGS = "cluster.json", "settings.env"


class Fixed(msgspec.Struct, frozen=True):
    """What stays from start to start; the replica set's members know each other by their ports."""

    mongod_ports: list[int]
    redis_port: int
    webhook_secret: str
    signed_url_secret: str

    @property
    def ports(self) -> list[int]:
        return [*self.mongod_ports, self.redis_port]


@dataclass(frozen=True)
class Wishes:
    """The command line. A port of 0 takes a free one, or the one of the last start."""

    data: Path
    port: int
    mongo_port: int
    """Of the first member; the others follow."""
    redis_port: int
    seconds: float | None
    """Stop after so many; None: when asked to."""


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
        """Start all, each as soon as what it needs is there.

        Raises:
            StartRefused: One of them does not start; the sentence says which, and what it said.
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
        """Stop all: first those that work, then what they work on."""
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
            "ZAQAR_METRICS_PORT": str(_first_of_free(SERVING, beyond=max(fixed.ports))),
        }
        environ = defaults | os.environ | ours
        _write_settings(self.settings_file, environ)
        return environ


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cluster; the exit code is 0 when it ran until it was to stop."""
    wishes = _wishes(arguments)
    try:
        asyncio.run(run(wishes))
    except StartRefused as refusal:
        print(refusal, file=sys.stderr)
        return 1
    return 0


async def run(wishes: Wishes) -> None:
    """Start the cluster, and stop it on SIGINT, SIGTERM or when its time is over.

    Raises:
        StartRefused: A program is missing, a port or the directory is taken, or a part of it does
            not start.
    """
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    _refuse_missing_programs()
    with _only_one(wishes.data):
        cluster = Cluster(wishes.data, _fixed(wishes), _port_of_api(wishes))
        print("Starting MongoDB, Redis, the API and the workers …", flush=True)
        try:
            if not await _start(cluster, stopping):
                return
            print(_welcome(cluster, wishes.seconds), flush=True)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wishes.seconds):
                    await stopping.wait()
        finally:
            print("Stopping …", flush=True)
            await cluster.stop()
    print(f"Stopped; the data is in {wishes.data}", flush=True)


def _welcome(cluster: Cluster, seconds: float | None) -> str:
    return welcome(
        url=cluster.url,
        processes=cluster.processes,
        addresses={
            "store": cluster.store_uri,
            "broker": cluster.broker_uri,
            "metrics": cluster.metrics,
        },
        settings_file=cluster.settings_file,
        until="with Ctrl-C" if seconds is None else f"after {seconds:g} s",
    )


async def _start(cluster: Cluster, stopping: asyncio.Event) -> bool:
    """Whether it has started before it was to stop."""
    starting = asyncio.create_task(cluster.start())
    stop = asyncio.create_task(stopping.wait())
    await asyncio.wait((starting, stop), return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if not starting.done():
        starting.cancel()
        await asyncio.wait([starting])
        return False
    starting.result()
    return True


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


@contextlib.contextmanager
def _only_one(data: Path) -> Iterator[None]:
    """Hold the directory, made when absent, for this program alone.

    Raises:
        StartRefused: Another holds it, or it can't be used.
    """
    try:
        data.mkdir(parents=True, exist_ok=True)
        lock = (data / "lock").open("w")
    except OSError as error:
        raise StartRefused(
            f"The directory {data} can't be used: {error.strerror or error}; name another with --data"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StartRefused(
                f"A cluster runs on {data} already; stop that one, or name another directory with --data"
            ) from error
        yield


def _fixed(wishes: Wishes) -> Fixed:
    """What was fixed at the first start on this directory, which this may be.

    Raises:
        StartRefused: A port is taken, or not the one that the data knows.
    """
    path = wishes.data / FIXED
    if path.exists():
        return _fixed_before(path, wishes)
    ports = _ports(wishes.mongo_port, MEMBERS, "--mongo-port")
    first = wishes.redis_port or FIRST_PORT
    fixed = Fixed(
        mongod_ports=ports,
        redis_port=wishes.redis_port
        or next(port for port in range(first, 65536) if port not in ports and _is_free(port)),
        webhook_secret=secrets.token_hex(32),
        signed_url_secret=secrets.token_hex(32),
    )
    _refuse_taken(fixed.redis_port, "--redis-port")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(fixed)))
    return fixed


def _fixed_before(path: Path, wishes: Wishes) -> Fixed:
    try:
        fixed = msgspec.json.decode(path.read_bytes(), type=Fixed)
    except msgspec.DecodeError as error:
        raise StartRefused(
            f"{path} is damaged ({error}); restore it, or remove {path.parent} to begin anew"
        ) from error
    if wishes.mongo_port not in (0, fixed.mongod_ports[0]):
        raise StartRefused(
            f"The replica set in {path.parent} was made on port {fixed.mongod_ports[0]}, not "
            f"{wishes.mongo_port}; leave out --mongo-port, or name another directory with --data"
        )
    if wishes.redis_port:
        fixed = msgspec.structs.replace(fixed, redis_port=wishes.redis_port)
    for port in fixed.ports:
        if not _is_free(port):
            raise StartRefused(
                f"Port {port}, on which the data in {path.parent} was made, is in use; stop what "
                "listens there, or name another directory with --data"
            )
    return fixed


def _ports(first: int, count: int, option: str) -> list[int]:
    """So many free ports: from `first` on in a row, or those that are free when it is 0."""
    if first:
        ports = list(range(first, first + count))
        for port in ports:
            _refuse_taken(port, option)
        return ports
    free = (port for port in range(FIRST_PORT, 65536) if _is_free(port))
    return [next(free) for _ in range(count)]


def _first_of_free(count: int, *, beyond: int) -> int:
    """The first of so many free ports in a row, all of them above `beyond`."""
    firsts = range(beyond + 1, 65536 - count)
    return next(first for first in firsts if all(map(_is_free, range(first, first + count))))


def _write_settings(path: Path, environ: Mapping[str, str]) -> None:
    """The service's settings in `environ` as a file for `ZAQAR_CONFIG_FILE`, for this user alone: some are secret."""
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    for name in map(variable, Settings.model_fields):
        if name in environ:
            dotenv.set_key(path, name, environ[name])


def _port_of_api(wishes: Wishes) -> int:
    if not wishes.port:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port: int = probe.getsockname()[1]
            return port
    _refuse_taken(wishes.port, "--port")
    return wishes.port


def _refuse_taken(port: int, option: str) -> None:
    if not _is_free(port):
        raise StartRefused(f"Port {port} is in use; choose another with {option}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: connections that were closed lately don't count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _refuse_missing_programs() -> None:
    for name, found, package, named in (
        ("mongod", programs.mongod(), programs.MONGOD_PACKAGE, programs.MONGOD_VARIABLE),
        ("redis-server", programs.redis_server(), programs.REDIS_PACKAGE, programs.REDIS_VARIABLE),
    ):
        if found is None:
            raise StartRefused(
                f"There is no {name}: install it, install the package {package} (Linux x86-64), or "
                f"name it with {named}"
            )


def _wishes(arguments: Sequence[str] | None) -> Wishes:
    parser = argparse.ArgumentParser(
        prog="make cluster",
        description="Run MongoDB (3 members), Redis, the API (2 processes) and 2 workers on loopback.",
    )
    parser.add_argument(
        "--data", type=Path, default=Path("cluster-data"), help="directory of data, logs and keys"
    )
    parser.add_argument(
        "--port", type=int, default=8888, help="port of the API; 0 takes a free one"
    )
    parser.add_argument(
        "--mongo-port",
        type=int,
        default=0,
        help="first of MongoDB's three ports; 0 takes free ones",
    )
    parser.add_argument(
        "--redis-port", type=int, default=0, help="port of Redis; 0 takes a free one"
    )
    parser.add_argument("--seconds", type=float, help="stop after so many; else with Ctrl-C")
    return Wishes(**vars(parser.parse_args(arguments)))


if __name__ == "__main__":
    sys.exit(main())
