"""The ports and keys of a cluster, kept in its directory from start to start."""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path

import msgspec

from zaqar_notify.errors import StartRefused

HOST = "127.0.0.1"
FIXED = "cluster.json"

FIRST_PORT = 27117
"""Of the ports that are tried for MongoDB and Redis: below those that outgoing connections take."""


class Fixed(msgspec.Struct, frozen=True):
    """Ports and keys that every start uses. The replica set's members know each other by their ports."""

    mongod_ports: list[int]
    redis_port: int
    webhook_secret: str
    signed_url_secret: str

    @property
    def ports(self) -> list[int]:
        return [*self.mongod_ports, self.redis_port]


def fixed_for(data: Path, *, members: int, mongo_port: int, redis_port: int) -> Fixed:
    """The ports and keys of the first start on this directory; they are made if this is the first.

    Args:
        members: So many MongoDB servers.
        mongo_port: The first one's wished port; the others follow. 0: free ones, or those of before.
        redis_port: 0: a free one, or the one of before.

    Raises:
        StartRefused: A port is taken, or not the one that the data knows.
    """
    path = data / FIXED
    if path.exists():
        return _fixed_before(path, mongo_port, redis_port)
    ports = _ports(mongo_port, members, "--mongo-port")
    first = redis_port or FIRST_PORT
    fixed = Fixed(
        mongod_ports=ports,
        redis_port=redis_port
        or next(port for port in range(first, 65536) if port not in ports and is_free(port)),
        webhook_secret=secrets.token_hex(32),
        signed_url_secret=secrets.token_hex(32),
    )
    refuse_taken(fixed.redis_port, "--redis-port")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(fixed)))
    return fixed


def _fixed_before(path: Path, mongo_port: int, redis_port: int) -> Fixed:
    try:
        fixed = msgspec.json.decode(path.read_bytes(), type=Fixed)
    except msgspec.DecodeError as error:
        raise StartRefused(
            f"{path} is damaged ({error}); restore it, or remove {path.parent} to begin anew"
        ) from error
    if mongo_port not in (0, fixed.mongod_ports[0]):
        raise StartRefused(
            f"The replica set in {path.parent} was made on port {fixed.mongod_ports[0]}, not "
            f"{mongo_port}; leave out --mongo-port, or name another directory with --data"
        )
    if redis_port:
        fixed = msgspec.structs.replace(fixed, redis_port=redis_port)
    for port in fixed.ports:
        if not is_free(port):
            raise StartRefused(
                f"Port {port}, on which the data in {path.parent} was made, is in use; stop the program that "
                "listens there, or name another directory with --data"
            )
    return fixed


def _ports(first: int, count: int, option: str) -> list[int]:
    """So many free ports: from `first` on in a row, or those that are free when it is 0."""
    if first:
        ports = list(range(first, first + count))
        for port in ports:
            refuse_taken(port, option)
        return ports
    free = (port for port in range(FIRST_PORT, 65536) if is_free(port))
    return [next(free) for _ in range(count)]


def first_of_free(count: int, *, beyond: int) -> int:
    """The first of so many free ports in a row, all of them above `beyond`."""
    firsts = range(beyond + 1, 65536 - count)
    return next(first for first in firsts if all(map(is_free, range(first, first + count))))


def refuse_taken(port: int, option: str) -> None:
    if not is_free(port):
        raise StartRefused(
            f'Port {port} is in use; choose another: make cluster ARGS="{option} PORT"'
        )


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: connections that were closed lately don't count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
