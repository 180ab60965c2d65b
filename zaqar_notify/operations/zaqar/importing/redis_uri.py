"""Connects to the Redis that a URI of Zaqar's form names; the library's form differs."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

from redis.asyncio import Redis, Sentinel
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

from zaqar_notify.operations.zaqar.importing.sources import ANSWER_SECONDS

RETRIES = 2
PORT, SENTINEL_PORT = 6379, 26379


def client_of(uri: str) -> Redis:
    """A client for the URI; it is not connected yet.

    Raises:
        ValueError: It can't be read.
    """
    parts = urlsplit(uri)
    options = dict(parse_qsl(parts.query))
    path = parts.path.strip("/")
    database = options.get("dbid") or (path if path.isdecimal() else "0")
    account: dict[str, Any] = {
        # Zaqar takes them as they stand.
        "username": parts.username or None,
        "password": parts.password or None,
        "db": int(database),
        "socket_timeout": ANSWER_SECONDS,
        "retry": Retry(ExponentialBackoff(cap=1, base=0.1), RETRIES),
        "socket_connect_timeout": ANSWER_SECONDS,
    }
    hosts = parts.netloc.rpartition("@")[2]
    if not hosts:
        return Redis(unix_socket_path=parts.path, **account)
    if "master" in options:
        sentinels = [_host_and_port(each, SENTINEL_PORT) for each in hosts.split(",")]
        own = {
            "username": options.get("sentinel_username"),
            "password": options.get("sentinel_password"),
        }
        sentinel = Sentinel(sentinels, sentinel_kwargs=own, **account)  # type: ignore[no-untyped-call]
        master: Redis = sentinel.master_for(options["master"])
        return master
    host, port = _host_and_port(hosts, PORT)
    return Redis(host=host, port=port, ssl=parts.scheme == "rediss", **account)


def _host_and_port(text: str, port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError("it has no host")
    return parts.hostname, parts.port or port
