"""Zaqar's stores on MongoDB. For the database NAME of its configuration:

NAME_queues.queues                p_q: PROJECT/QUEUE, m: metadata, c: a counter
NAME.pools                        n: name, u: URI, w: weight, f: flavor, o: options
NAME.flavors                      n: name, p: project
NAME.catalogue                    p_q: PROJECT/QUEUE, s: pool
NAME_topics.topics                p_t: PROJECT/TOPIC, m: metadata
NAME_subscriptions.subscriptions  of a message store. s: queue, p: project, u: subscriber, t: ttl, e: instant of its
                                  end (in old records seconds since 1970), o: options, c: confirmed
"""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from bson.binary import Binary
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.errors import BSONError
from bson.objectid import ObjectId
from pymongo import AsyncMongoClient
from pymongo.errors import (
    ConfigurationError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from zaqar_notify.models import TOPIC_MARK, FlavorRef, QueueRef
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
    text_of,
)
from zaqar_notify.operations.zaqar.importing.sources import ANSWER_SECONDS, Store, unreadable

AT_ONCE = 500
UNAUTHORIZED = 13
AUTHENTICATION = frozenset({11, 18})
_READABLE: CodecOptions[dict[str, Any]] = CodecOptions(
    tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)

Record = dict[str, Any]
Found = TypeVar("Found")


class MongoStore(Store):
    def __init__(self, address: Address) -> None:
        self.address = address
        self._databases: Sequence[str] | None = None
        options: dict[str, Any] = {"serverSelectionTimeoutMS": ANSWER_SECONDS * 1000, **address.tls}
        try:
            self._client: AsyncMongoClient[Record] = AsyncMongoClient(address.uri, **options)
        except (ConfigurationError, ValueError, OSError) as error:
            # The library's sentence may have a part of the URI.
            raise unreadable(address, "the URI or a file that it names can't be used") from error

    async def check(self, *, has_queues: bool, may_be_empty: bool = False) -> None:
        kind = "queues" if has_queues else "subscriptions"
        name = f"{self.address.database}_{kind}"
        with self._errors():
            has_kind = kind in await self._client[name].list_collection_names()
            if has_kind or may_be_empty or (not has_queues and await self._message_databases()):
                return
        raise unreadable(
            self.address,
            f"it has no database {name} with a collection {kind}, as Zaqar has; name Zaqar's database as in "
            "mongodb://HOSTS/NAME",
        )

    async def queues(self) -> AsyncIterator[FoundQueue | Odd]:
        def read(record: Record) -> FoundQueue:
            ref = _ref(record["p_q"])
            return FoundQueue(ref, plain_object(record.get("m"), "metadata"))

        async for found in self._all("_queues", "queues", "queue", read):
            yield found
        async for found in self._topics():
            yield found

    async def pools(self) -> AsyncIterator[FoundPool | Odd]:
        def read(record: Record) -> FoundPool:
            options = plain_object(record.get("o"), "options")
            flavor = record.get("f")
            return FoundPool(
                text_of(record["n"], "name"),
                text_of(record["u"], "URI"),
                int(record["w"]),
                None if flavor is None else text_of(flavor, "flavor"),
                options,
            )

        async for found in self._all("", "pools", "pool", read):
            yield found

    async def flavors(self) -> AsyncIterator[FoundFlavor | Odd]:
        def read(record: Record) -> FlavorRef:
            return FlavorRef(text_of(record["p"], "project"), text_of(record["n"], "name"))

        async for found in self._all("", "flavors", "flavor", read):
            yield found

    async def catalogue(self) -> AsyncIterator[tuple[QueueRef, str]]:
        def read(record: Record) -> tuple[QueueRef, str]:
            return _ref(record["p_q"]), str(record["s"])

        async for found in self._all("", "catalogue", "queue", read):
            if not isinstance(found, Odd):
                yield found

    async def subscriptions(self, *, now: datetime) -> AsyncIterator[FoundSubscription | Odd]:
        def read(record: Record) -> FoundSubscription:
            return subscription_of(
                QueueRef(text_of(record["p"], "project"), text_of(record["s"], "queue")),
                str(record["_id"]),
                subscriber=record["u"],
                ttl=record["t"],
                created_at=record["_id"].generation_time,
                expires_at=_instant(record["e"]),
                options=record.get("o"),
                confirmed=record.get("c", True),
            )

        async for found in self._all("_subscriptions", "subscriptions", "subscription", read):
            # The server removes what has expired within a minute.
            if isinstance(found, Odd) or found.expires_at > now:
                yield found

    async def messages(self, ref: QueueRef, *, now: datetime) -> AsyncIterator[FoundMessage]:
        mine = {"p_q": f"{ref.project}/{ref.name}", "tx": None}
        with self._errors():
            for database in await self._message_databases():
                found = self._client[database].messages.find(mine, batch_size=AT_ONCE)
                async for record in found.sort("k"):
                    yield _message(record, now)

    async def still_there(self, ids: Sequence[str], *, now: datetime) -> int:
        these = {"_id": {"$in": [ObjectId(each) for each in ids]}, "e": {"$gt": now}}
        with self._errors():
            return sum(
                [
                    await self._client[database].messages.count_documents(these)
                    for database in await self._message_databases()
                ]
            )

    async def _message_databases(self) -> Sequence[str]:
        if self._databases is None:
            pattern = re.compile(rf"{re.escape(self.address.database)}_messages_(fifo_)?p\d+")
            names = await self._client.list_database_names()
            self._databases = [name for name in names if pattern.fullmatch(name)]
        return self._databases

    async def close(self) -> None:
        await self._client.close()

    async def _topics(self) -> AsyncIterator[FoundQueue | Odd]:
        def read(record: Record) -> FoundQueue:
            ref = _ref(record["p_t"])
            topic = QueueRef(ref.project, f"{TOPIC_MARK}{ref.name}")
            return FoundQueue(topic, plain_object(record.get("m"), "metadata"))

        async for found in self._all("_topics", "topics", "topic", read):
            yield found

    async def _all(
        self, suffix: str, name: str, what: What, read: Callable[[Record], Found]
    ) -> AsyncIterator[Found | Odd]:
        """The records of a collection as values, in the order of their ids."""
        database = self._client[f"{self.address.database}{suffix}"]
        collection = database.get_collection(name, codec_options=_READABLE)
        with self._errors():
            async for record in collection.find(batch_size=AT_ONCE).sort("_id"):
                try:
                    yield read(record)
                except (LookupError, TypeError, ValueError, AttributeError) as error:
                    yield Odd(what, str(record.get("p", "")), _name_of(record), _fault(error))

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except ServerSelectionTimeoutError as error:
            raise unreadable(self.address, "no server gives an answer") from error
        except OperationFailure as error:
            if error.code in AUTHENTICATION:
                raise unreadable(self.address, "it refuses the user or the password") from error
            if error.code == UNAUTHORIZED:
                reason = "the account may not read it: it needs the role readAnyDatabase"
                raise unreadable(self.address, reason) from error
            raise unreadable(self.address, f"it refuses to be read (code {error.code})") from error
        except (PyMongoError, BSONError) as error:
            raise unreadable(self.address, type(error).__name__) from error


def _ref(scoped: str) -> QueueRef:
    project, _, name = scoped.rpartition("/")
    return QueueRef(project, name)


def _message(record: Record, now: datetime) -> FoundMessage:
    """Values of another form count as none: its body may be shown all the same."""
    posted_at, claim = record["_id"].generation_time.timestamp(), record.get("c")
    end, delay_end = claim.get("e") if isinstance(claim, dict) else None, record.get("d")
    return FoundMessage(
        str(record["_id"]),
        _client_id(record.get("u")),
        max(0, int(delay_end - posted_at)) if isinstance(delay_end, int) else 0,
        is_claimed=isinstance(end, int) and end > now.timestamp(),
    )


def _client_id(stored: Any) -> str:
    """A UUID is stored as one."""
    if isinstance(stored, Binary):
        return str(uuid.UUID(bytes=bytes(stored)))
    return "" if stored is None else str(stored)


def _instant(end: Any) -> datetime:
    """Former releases kept a number of seconds. A year after 9999 is no `datetime`."""
    if isinstance(end, datetime):
        return end.astimezone(UTC)
    return instant(int(end) / 1000 if isinstance(end, DatetimeMS) else int(end))


def _name_of(record: Record) -> str:
    return str(
        next((record[key] for key in ("p_q", "p_t", "n", "s") if key in record), record["_id"])
    )


def _fault(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"its record lacks {error}"
    if isinstance(error, ValueError):
        return str(error)
    return "its record has another form than Zaqar's"
