"""The client: how it is made of a URI, and how a script is run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import NoScriptError, RedisError

from zaqar_notify.errors import StartRefused, StorageUnavailable
from zaqar_notify.models import undisclosed
from zaqar_notify.storage.redis.failures import is_refused_for_now, named, storage_errors
from zaqar_notify.storage.redis.keys import MOST_TAGS, PREFIX
from zaqar_notify.storage.redis.scripts import digest, script

Client: TypeAlias = Redis | RedisCluster
T = TypeVar("T")

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 10.0
PATIENCE_SECONDS = 3.0
"""So long a call is repeated that the server refused without having done anything: while it loads its data, or
another server becomes the primary."""
PAUSE_SECONDS = 0.1

OF_TLS = frozenset(
    {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname"}
)


class Place(NamedTuple):
    """The parts of a store's URI: the library's, and ours."""

    uri: str
    prefix: str
    tags: int | None

    def __repr__(self) -> str:
        return undisclosed(self)


def place_of(uri: str) -> Place:
    """The parts of the URI.

    Raises:
        StartRefused: It has an option that does not exist, or a value that can't be.
    """
    parts = urlsplit(uri)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    prefix, tags = options.pop("prefix", PREFIX), options.pop("tags", None)
    if unknown := sorted(options.keys() - OF_TLS):
        raise StartRefused(
            f"ZAQAR_STORE_URI has the option {unknown[0]}, which no Redis store has; there are prefix, tags, "
            f"{', '.join(sorted(OF_TLS))}"
        )
    if options and parts.scheme != "rediss":
        raise StartRefused(f"ZAQAR_STORE_URI has {min(options)}: write rediss:// for TLS")
    if not prefix or not prefix.isascii() or not prefix.isprintable() or {*"{} *"} & {*prefix}:
        raise StartRefused(
            f"ZAQAR_STORE_URI: {prefix!r} can't be the prefix of keys: take letters, digits, - and _"
        )
    if tags is not None and not (tags.isdecimal() and 0 < int(tags) <= MOST_TAGS):
        raise StartRefused(f"ZAQAR_STORE_URI: tags={tags} is no number from 1 to {MOST_TAGS}")
    return Place(
        urlunsplit(parts._replace(query=urlencode(options))), prefix, int(tags) if tags else None
    )


def client_of(uri: str) -> Redis:
    """A client of one server. It repeats nothing by itself, since a post that is sent twice is there twice.

    Raises:
        StartRefused: The URI can't be used.
    """
    try:
        client: Redis = Redis.from_url(uri, **_options())
    except (ValueError, TypeError, OSError, RedisError) as error:
        raise StartRefused(f"ZAQAR_STORE_URI can't be used: {error}") from error
    return client


def cluster_of(uri: str) -> RedisCluster:
    """A client of a Redis Cluster, of which the URI names a node."""
    cluster: RedisCluster = RedisCluster.from_url(uri, **_options())
    return cluster


def _options() -> Mapping[str, Any]:
    return {
        "socket_timeout": ANSWER_SECONDS,
        "socket_connect_timeout": CONNECT_SECONDS,
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }


class Connection:
    """The open client of a store, and a plain one for publications. `close` ends both."""

    def __init__(self, client: Client, listener: Redis) -> None:
        self.client = client
        self.listener = listener
        self._closed = False

    @classmethod
    async def open(cls, uri: str) -> Connection:
        """Connect to the server, or to the cluster that it is part of.

        Raises:
            StartRefused: It can't be reached, or refuses the account.
        """
        listener = client_of(uri)
        try:
            info: Mapping[str, Any] = await patiently(lambda: listener.info("cluster"))
            client = cluster_of(uri) if info.get("cluster_enabled") else client_of(uri)
        except (RedisError, OSError) as error:
            await listener.aclose()
            raise StartRefused(f"ZAQAR_STORE_URI: {named(error)}") from error
        return cls(client, listener)

    async def call(self, *command: str | int | bytes) -> Any:
        """The answer to a command.

        Raises:
            StorageUnavailable: There was none.
        """
        self._check_open()
        with storage_errors():
            return await patiently(lambda: self.client.execute_command(*command))

    async def run(self, keys: Sequence[str], arguments: Sequence[bytes]) -> bytes:
        """The answer of the script.

        Raises:
            StorageUnavailable: There was none; it may have been run.
        """
        self._check_open()
        with storage_errors():
            answer: bytes = await patiently(lambda: self._run(keys, arguments))
        return answer

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self.client.aclose()
            await self.listener.aclose()

    async def _run(self, keys: Sequence[str], arguments: Sequence[bytes]) -> bytes:
        rest: tuple[str | int | bytes, ...] = (len(keys), *keys, *arguments)
        try:
            answer: bytes = await self.client.execute_command("EVALSHA", digest(), *rest)
        except NoScriptError:
            # The server is new, or was restarted: it knows the script from now on.
            answer = await self.client.execute_command("EVAL", script(), *rest)
        return answer

    def _check_open(self) -> None:
        if self._closed:
            raise StorageUnavailable("The store is closed")


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """The answer to a call, which is repeated for a while if it can't have been done."""
    loop = asyncio.get_running_loop()
    until = loop.time() + PATIENCE_SECONDS
    while True:
        try:
            return await call()
        except (RedisError, OSError) as error:
            if not _can_be_repeated(error) or loop.time() >= until:
                raise
        await asyncio.sleep(PAUSE_SECONDS)


def _can_be_repeated(error: Exception) -> bool:
    if is_refused_for_now(error):
        return True
    return isinstance(error, Disconnected) and "connecting to" in str(error)
