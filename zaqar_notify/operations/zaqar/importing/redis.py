"""Zaqar's stores on Redis. All keys of sorted sets end in a word, and their members have the score 1:

PROJECT.queues_set            members: PROJECT.QUEUE
PROJECT.QUEUE                 a hash. m: metadata (MessagePack), t: instant of its creation
PROJECT.QUEUE.subscriptions   members: ids
ID                            a hash. s: queue, p: project, u: subscriber, t: ttl, e: instant of its end,
                              o: options (MessagePack), c: confirmed; it expires with the subscription
pools                         members: POOL.pools
POOL.pools                    a hash. pl: name, u: URI, w: weight, f: flavor, o: options (MessagePack)
flavors                       members: FLAVOR.flavors
FLAVOR.flavors                a hash. f: name, p: project
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, TypeVar, cast

import msgspec
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from zaqar_notify.models import FlavorRef, QueueRef
from zaqar_notify.operations.zaqar.importing.addresses import Address
from zaqar_notify.operations.zaqar.importing.found import (
    FoundFlavor,
    FoundMessage,
    FoundPool,
    FoundQueue,
    FoundSubscription,
    Odd,
    What,
    instant,
    plain_object,
    subscription_of,
)
from zaqar_notify.operations.zaqar.importing.redis_uri import client_of
from zaqar_notify.operations.zaqar.importing.sources import Store, unreadable

AT_ONCE = 500
QUEUES, SUBSCRIPTIONS, MESSAGES = ".queues_set", ".subscriptions", ".messages"
POOLS, FLAVORS, CATALOGUE = "pools", "flavors", ".catalogue"

Fields = dict[str, bytes | None]
Found = TypeVar("Found")


class RedisStore(Store):
    def __init__(self, address: Address) -> None:
        self.address = address
        try:
            self._redis = client_of(address.uri)
        except ValueError as error:
            raise unreadable(address, "the URI can't be used") from error

    async def check(self, *, has_queues: bool, may_be_empty: bool = False) -> None:
        with self._errors():
            await self._redis.ping()
            if not has_queues:
                return  # It may have none of Zaqar's keys while no message waits.
            async for _ in self._sets(QUEUES):
                return
        raise unreadable(
            self.address,
            "it has no queue of Zaqar's; the URI names the database as Zaqar does, by ?dbid=N",
        )

    async def queues(self) -> AsyncIterator[FoundQueue | Odd]:
        with self._errors():
            async for key in self._sets(QUEUES):
                project = key.removesuffix(QUEUES)
                async for member, fields in self._hashes(key, ("m",)):
                    name = member.removeprefix(f"{project}.")
                    yield _read("queue", project, name, _queue_of(QueueRef(project, name)), fields)

    async def pools(self) -> AsyncIterator[FoundPool | Odd]:
        def read(fields: Fields) -> FoundPool:
            return FoundPool(
                _text(fields, "pl"),
                _text(fields, "u"),
                int(_text(fields, "w")),
                _text(fields, "f") if fields["f"] else None,
                _object(fields["o"], "options"),
            )

        with self._errors():
            async for member, fields in self._hashes(POOLS, ("pl", "u", "w", "f", "o")):
                yield _read("pool", "", member.removesuffix(".pools"), read, fields)

    async def flavors(self) -> AsyncIterator[FoundFlavor | Odd]:
        def read(fields: Fields) -> FlavorRef:
            return FlavorRef(_text(fields, "p"), _text(fields, "f"))

        with self._errors():
            async for member, fields in self._hashes(FLAVORS, ("f", "p")):
                yield _read("flavor", "", member.removesuffix(".flavors"), read, fields)

    async def catalogue(self) -> AsyncIterator[tuple[QueueRef, str]]:
        with self._errors():
            async for key in self._sets(CATALOGUE):
                project = key.removesuffix(CATALOGUE)
                queues = [each async for each, _ in self._hashes(key, ("m",))]
                entries = [f"{queue}{CATALOGUE}".encode() for queue in queues]
                for queue, (_, fields) in zip(
                    queues, [each async for each in self._fields(entries, ("p_p",))], strict=True
                ):
                    if fields["p_p"]:
                        name = queue.removeprefix(f"{project}.")
                        yield QueueRef(project, name), _text(fields, "p_p")

    async def subscriptions(self, *, now: datetime) -> AsyncIterator[FoundSubscription | Odd]:
        with self._errors():
            async for key in self._sets(SUBSCRIPTIONS):
                async for found in self._subscriptions(key):
                    if isinstance(found, Odd) or found.expires_at > now:
                        yield found

    async def messages(self, ref: QueueRef, *, now: datetime) -> AsyncIterator[FoundMessage]:
        key, after = f"{ref.project}.{ref.name}{MESSAGES}", "-inf"
        with self._errors():
            while page := await self._redis.zrangebyscore(
                key, after, "+inf", start=0, num=AT_ONCE, withscores=True
            ):
                placed = cast("list[tuple[bytes, float]]", page)
                ids = [each for each, _ in placed]
                async for member, fields in self._fields(ids, ("u", "cr", "d", "c.e")):
                    # An id stays in the set when its hash has expired.
                    if any(value is not None for value in fields.values()):
                        yield _message(member, fields, now)
                after = f"({placed[-1][1]!r}"

    async def still_there(self, ids: Sequence[str], *, now: datetime) -> int:
        with self._errors():
            return int(await self._redis.exists(*ids))

    async def close(self) -> None:
        await self._redis.aclose()

    async def _subscriptions(self, key: str) -> AsyncIterator[FoundSubscription | Odd]:
        scoped = key.removesuffix(SUBSCRIPTIONS)
        async for member, fields in self._hashes(key, ("s", "u", "t", "e", "o", "c")):
            # An id stays in the set when its hash has expired.
            if any(value is not None for value in fields.values()):
                yield _read(
                    "subscription", scoped, member, _subscription_of(scoped, member), fields
                )

    async def _sets(self, suffix: str) -> AsyncIterator[str]:
        """The keys of sorted sets that end so. A queue's own hash may end so, too."""
        seen = set()
        async for raw in self._redis.scan_iter(match=f"*{suffix}", count=AT_ONCE):
            if raw not in seen and await self._redis.type(raw) == b"zset":
                seen.add(raw)
                yield raw.decode()

    async def _hashes(self, key: str, names: Sequence[str]) -> AsyncIterator[tuple[str, Fields]]:
        """The members of a sorted set in their order, each with these fields of its hash."""
        last = b"-"
        while True:
            page = await self._redis.zrangebylex(key, last, "+", start=0, num=AT_ONCE)
            members = cast("list[bytes]", page)
            if not members:
                return
            async for each in self._fields(members, names):
                yield each
            last = b"(" + members[-1]

    async def _fields(
        self, keys: Sequence[bytes], names: Sequence[str]
    ) -> AsyncIterator[tuple[str, Fields]]:
        """Each key with these fields of its hash; none where it has no hash."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hmget(key, list(names))
            answers = await pipe.execute(raise_on_error=False)
        for key, values in zip(keys, answers, strict=True):
            known = values if isinstance(values, list) else [None] * len(names)
            yield key.decode(), dict(zip(names, known, strict=True))

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (AuthenticationError, NoPermissionError) as error:
            raise unreadable(self.address, "it refuses the user or the password") from error
        except UnicodeDecodeError as error:
            raise unreadable(self.address, "it has keys that are no text") from error
        except (RedisError, OSError) as error:
            if "NOAUTH" in str(error):
                raise unreadable(self.address, "it asks for a password") from error
            raise unreadable(
                self.address, f"it gives no answer ({type(error).__name__})"
            ) from error


def _queue_of(ref: QueueRef) -> Callable[[Fields], FoundQueue]:
    return lambda fields: FoundQueue(ref, _object(fields["m"], "metadata"))


def _subscription_of(scoped: str, subscription_id: str) -> Callable[[Fields], FoundSubscription]:
    def read(fields: Fields) -> FoundSubscription:
        queue, ttl, end = _text(fields, "s"), int(_text(fields, "t")), int(_text(fields, "e"))
        if not scoped.endswith(f".{queue}"):
            raise ValueError("it is in the set of another queue")
        return subscription_of(
            QueueRef(scoped.removesuffix(f".{queue}"), queue),
            subscription_id,
            subscriber=_text(fields, "u"),
            ttl=ttl,
            created_at=instant(end - ttl),
            expires_at=instant(end),
            options=_object(fields["o"], "options"),
            confirmed=fields["c"] != b"0",
        )

    return read


def _message(message_id: str, fields: Fields, now: datetime) -> FoundMessage:
    """Values of another form count as none: its body may be shown all the same."""
    posted_at, delay_end, claim_end = (_number(fields[name]) for name in ("cr", "d", "c.e"))
    return FoundMessage(
        message_id,
        (fields["u"] or b"").decode(errors="replace"),
        max(0, delay_end - posted_at) if posted_at else 0,
        is_claimed=claim_end > now.timestamp(),
    )


def _number(value: bytes | None) -> int:
    return int(value) if value is not None and value.isdigit() else 0


def _read(
    what: What, project: str, name: str, read: Callable[[Fields], Found], fields: Fields
) -> Found | Odd:
    try:
        return read(fields)
    except (ValueError, msgspec.DecodeError) as error:
        return Odd(what, project, name, str(error))


def _text(fields: Fields, name: str) -> str:
    value = fields[name]
    if value is None:
        raise ValueError(f"its record lacks {name!r}")
    return value.decode()


def _object(packed: bytes | None, what: str) -> dict[str, Any]:
    if packed is None:
        raise ValueError(f"its record lacks the {what}")
    return plain_object(msgspec.msgpack.decode(packed), what)
