"""Reads and writes of the control store. A write is done if what was read is still there."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib import resources
from typing import Any, NamedTuple, TypeAlias

from zaqar_notify.models import QueueRef
from zaqar_notify.storage.redis.connection import Connection

TAG = "control"
AT_ONCE = 500
"""Names of one read, and commands of one write are about so many: no other command is served meanwhile."""

Word: TypeAlias = str | int | bytes
Command: TypeAlias = tuple[Word, ...]
"""The name of a command, its key, and its arguments."""


class Check(NamedTuple):
    """A field of a hash, and the value that it must still have; None: it must not be there."""

    key: str
    field: str
    value: bytes | None


class Writing:
    """The keys of one control store, and the commands on them."""

    def __init__(self, connection: Connection, prefix: str) -> None:
        self._connection = connection
        self._prefix = f"{prefix}{{{TAG}}}"

    def key(self, name: str, *of: str) -> str:
        return ":".join((self._prefix, name, *of))

    async def ask(self, command: str, key: str, *arguments: Word) -> Any:
        """The answer to a command that reads.

        Raises:
            StorageUnavailable: There was none.
        """
        return await self._connection.call("EVAL", script("read"), 1, key, command, *arguments)

    async def get(self, key: str, field: str) -> bytes | None:
        """A field of a hash."""
        found: bytes | None = await self.ask("HGET", key, field)
        return found

    async def get_many(self, key: str, fields: Sequence[str]) -> list[bytes | None]:
        """Fields of a hash."""
        found: list[bytes | None] = []
        for first in range(0, len(fields), AT_ONCE):
            found += await self.ask("HMGET", key, *fields[first : first + AT_ONCE])
        return found

    async def get_all(self, key: str) -> dict[str, bytes]:
        """The fields of a hash that has few."""
        found: list[bytes] = await self.ask("HGETALL", key)
        return {field.decode(): value for field, value in zip(found[::2], found[1::2], strict=True)}

    async def names(self, key: str, after: str, before: str | None, limit: int) -> list[str]:
        """Up to `limit` names of a sorted set between these two, both excluded; None: there is no end."""
        end = "+" if before is None else f"({before}"
        found = await self.ask("ZRANGEBYLEX", key, f"({after}", end, "LIMIT", 0, limit)
        return [name.decode() for name in found]

    async def due(self, key: str, until: int, limit: int) -> list[str]:
        """Up to `limit` names that are sorted by an instant, up to this one, the earliest first."""
        found = await self.ask("ZRANGEBYSCORE", key, "-inf", until, "LIMIT", 0, limit)
        return [name.decode() for name in found]

    async def write(self, checks: Sequence[Check], commands: Sequence[Command]) -> bool:
        """Run the commands if all checks hold; whether they did. Atomic, and on the disk when this returns.

        Raises:
            StorageUnavailable: There was no answer; it may have been done.
        """
        keys: dict[str, int] = {}

        def number(key: str) -> int:
            return keys.setdefault(key, len(keys) + 1)

        arguments: list[Word] = [len(checks)]
        for key, field, value in checks:
            arguments += (number(key), field, int(value is not None), value or b"")
        for name, changed, *rest in commands:
            arguments += (len(rest) + 2, name, number(str(changed)), *rest)
        answer = await self._connection.call("EVAL", script("write"), len(keys), *keys, *arguments)
        return bool(answer)


@functools.cache
def script(name: str) -> bytes:
    """The text of a script beside this module."""
    return resources.files(__package__).joinpath(f"{name}.lua").read_bytes()


def name_of(ref: QueueRef) -> str:
    """The name of a queue."""
    return f"{ref.project}\0{ref.name}"


def ref_of(name: str) -> QueueRef:
    """The queue with this name."""
    return QueueRef(*name.split("\0"))


def behind(name: str) -> str:
    """The end of the names that begin with this one and a separator."""
    return f"{name}\x01"
