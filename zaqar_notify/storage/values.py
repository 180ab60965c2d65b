"""Instants and JSON as drivers store them: whole milliseconds since 1970, and compact text."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from zaqar_notify.models import JsonObject, NewMessage

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


def to_ms(instant: datetime) -> int:
    return (instant - EPOCH) // MILLISECOND


def from_ms(ms: int) -> datetime:
    return EPOCH + timedelta(milliseconds=ms)


class Instants(NamedTuple):
    """The instants of a message, in milliseconds. `held_until` is 0 where it is not delayed."""

    posted_at: int
    held_until: int
    expires_at: int


def instants_of(message: NewMessage, now: int) -> Instants:
    """Those of a message that is stored at `now`. One with a `not_before` counts as posted at that instant, or now."""
    begin = now if message.not_before is None else max(now, to_ms(message.not_before))
    held_until = begin + message.delay * 1000
    posted_at = begin if message.origin is None else to_ms(message.origin.posted_at)
    return Instants(posted_at, held_until if held_until > now else 0, begin + message.ttl * 1000)


def to_json(document: JsonObject) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def from_json(text: str) -> JsonObject:
    document: JsonObject = json.loads(text)
    return document
