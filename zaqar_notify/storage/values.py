"""Instants and JSON as drivers store them: whole milliseconds since 1970, and compact text."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from zaqar_notify.models import JsonObject

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


def to_ms(instant: datetime) -> int:
    return (instant - EPOCH) // MILLISECOND


def from_ms(ms: int) -> datetime:
    return EPOCH + timedelta(milliseconds=ms)


def to_json(document: JsonObject) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def from_json(text: str) -> JsonObject:
    document: JsonObject = json.loads(text)
    return document
