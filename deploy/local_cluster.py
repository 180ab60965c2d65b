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
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy import programs
from deploy.cluster import MEMBERS, Cluster
from deploy.fixed import HOST, Fixed, fixed_for, refuse_taken
from deploy.welcome import welcome
from zaqar_notify.errors import StartRefused


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
        cluster = Cluster(wishes.data, _fixed(wishes), _port_of_api(wishes.port))
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
    return fixed_for(
        wishes.data,
        members=MEMBERS,
        mongo_port=wishes.mongo_port,
        redis_port=wishes.redis_port,
    )


def _port_of_api(wished: int) -> int:
    if not wished:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port: int = probe.getsockname()[1]
            return port
    refuse_taken(wished, "--port")
    return wished


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
