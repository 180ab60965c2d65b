"""Deliveries to streams of a Redis: each message becomes an entry, for readers that follow streams (`XREAD`, `XREADGROUP`).

A subscriber `stream:NAME` is the stream with the key `PROJECT NAME` on the Redis that the operator chose. An entry has the fields `id`
(the same for all tries of one message), `queue` and `body`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from redis.asyncio import Redis
from redis.exceptions import RedisError

from zaqar_notify.delivery.kinds import Kind, Relay, Sink
from zaqar_notify.errors import StartRefused, ValidationFailed
from zaqar_notify.findings import Finding, ok, problem
from zaqar_notify.models import Delivery, JsonObject, MessageType, Outcome, Verdict
from zaqar_notify.settings import Settings

_SUBSCRIBER = re.compile(r"stream:([A-Za-z0-9_.-]{1,64})", re.IGNORECASE)

MOST_ENTRIES = 100_000
"""How many a stream keeps, unless its subscription asks for fewer; older ones go."""

ANSWER_SECONDS = 5.0
PAUSE_SECONDS = 10


class StreamsKind(Kind):
    schemes = ("stream",)
    options: ClassVar[Mapping[str, JsonObject]] = {
        "stream_entries": {
            "type": "integer",
            "minimum": 1,
            "maximum": MOST_ENTRIES,
            "must": f"be a number of entries from 1 to {MOST_ENTRIES}",
        }
    }

    def check(self, uri: str, settings: Settings) -> None:
        _name(uri)

    async def diagnose(self, settings: Settings) -> list[Finding]:
        redis = _redis()
        try:
            await redis.ping()
        except RedisError as error:
            return [
                problem(
                    "streams",
                    f"STREAMS_REDIS_URI gives no answer: {error}",
                    "Start it, or correct the URI",
                )
            ]
        finally:
            await redis.aclose()
        return [ok("streams", "STREAMS_REDIS_URI answers")]

    def sink(self, settings: Settings, relay: Relay) -> Sink:
        return StreamsSink(_redis())


class StreamsSink(Sink):
    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def deliver(self, delivery: Delivery) -> Outcome:
        subscription = delivery.subscription
        is_message = delivery.kind is MessageType.NOTIFICATION
        entry: dict[Any, Any] = {
            "id": delivery.id,
            "queue": subscription.queue.public_name,
            "body": delivery.message.body if is_message else delivery.payload,
        }
        try:
            # No name has a blank, so no two projects share a key.
            key = f"{subscription.queue.project} {_name(subscription.subscriber)}"
            kept = subscription.options.get("stream_entries", MOST_ENTRIES)
            await self._redis.xadd(key, entry, maxlen=kept, approximate=False)
        except ValidationFailed as error:
            return Outcome(Verdict.REFUSED, detail=str(error))
        except RedisError as error:
            if str(error).startswith("WRONGTYPE"):
                return Outcome(Verdict.REFUSED, detail=f"The key {key!r} is none of a stream")
            # The Redis is the operator's: the delivery waits, and no try is spent.
            return Outcome(
                Verdict.POSTPONED, detail=f"Redis: {error}", retry_after_seconds=PAUSE_SECONDS
            )
        return Outcome(Verdict.DELIVERED)

    async def close(self) -> None:
        await self._redis.aclose()


def _redis() -> Redis:
    uri = os.environ.get("STREAMS_REDIS_URI")
    if not uri:
        raise StartRefused(
            "STREAMS_REDIS_URI is not set: name the Redis of the streams, as in redis://HOST:6379/1"
        )
    return Redis.from_url(uri, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS)


def _name(uri: str) -> str:
    found = _SUBSCRIBER.fullmatch(uri)
    if found is None:
        raise ValidationFailed("subscriber must be stream: and a name of A-Z, a-z, 0-9, _, . and -")
    return found[1]
