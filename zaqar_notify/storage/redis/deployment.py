"""The checks of a start and of the doctor: does the server keep what it acknowledged?"""

from __future__ import annotations

from typing import Any

from redis.asyncio.cluster import RedisCluster
from redis.exceptions import ResponseError

from zaqar_notify.errors import StartRefused
from zaqar_notify.storage.redis.connection import Client

OLDEST = (6, 2)

WANTED = {
    "appendonly": ("yes", "a crash loses all messages"),
    "appendfsync": ("always", "a crash loses the messages of the last second or more"),
    "no-appendfsync-on-rewrite": ("no", "a crash loses messages while the file is rewritten"),
    "maxmemory-policy": ("noeviction", "messages are evicted when the memory is full"),
}
"""The settings of redis.conf that keep acknowledged messages, and what happens without each."""


async def weaknesses(client: Client) -> list[str]:
    """Sentences about the ways in which the servers may lose acknowledged messages.

    Raises:
        StartRefused: The account may not ask.
    """
    found = []
    for name, (wanted, otherwise) in WANTED.items():
        for value in await _settings(client, name):
            if value != wanted:
                found.append(f"{name} is {value}: {otherwise}; set {name} {wanted}")
                break
    return found


async def _settings(client: Client, name: str) -> list[str]:
    """The values of a setting, on each primary."""
    try:
        answers = await on_primaries(client, "CONFIG GET", name)
    except ResponseError as error:
        raise StartRefused(
            f"The account of ZAQAR_STORE_URI may not read {name} ({error}), by which the service sees that no "
            "acknowledged message is lost: let it use CONFIG GET, or set ZAQAR_UNRELIABLE=true"
        ) from error
    return [_text(value) for answer in answers for value in answer.values()]


async def on_primaries(client: Client, *command: str) -> list[Any]:
    """The answer of each primary to a command."""
    if not isinstance(client, RedisCluster):
        return [await _asked(client, *command)]
    await client.initialize()
    return [await _asked(node, *command) for node in client.get_primaries()]


async def _asked(node: Any, *command: str) -> Any:
    """The answer of one server; the library gives no types for it."""
    return await node.execute_command(*command)


async def refuse_server(client: Client, *, unreliable: bool) -> None:
    """Refuse a server that is too old, or may lose acknowledged messages.

    Raises:
        StartRefused: The sentence says why, and what to do.
    """
    version = await version_of(client)
    if _numbers(version) < OLDEST:
        raise StartRefused(
            f"The Redis of ZAQAR_STORE_URI is {version}: take 6.2 or later, or Valkey"
        )
    if unreliable:
        return
    if weak := await weaknesses(client):
        raise StartRefused(
            f"The Redis of ZAQAR_STORE_URI can lose acknowledged messages: {'; '.join(weak)} (redis.conf, or "
            "CONFIG SET), or set ZAQAR_UNRELIABLE=true"
        )


async def version_of(client: Client) -> str:
    [info, *_] = await on_primaries(client, "INFO", "server")
    return str(info["redis_version"])


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
