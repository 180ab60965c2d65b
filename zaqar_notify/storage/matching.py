"""Which queues a metadata filter is about: one rule for all drivers."""

from __future__ import annotations

from zaqar_notify.models import JsonObject


def has_metadata(metadata: JsonObject, wanted: JsonObject) -> bool:
    """Whether each key has the value that is wanted of it, or one of a list of values."""
    return all(
        key in metadata and any(_same(metadata[key], one) for one in _alternatives(value))
        for key, value in wanted.items()
    )


def _alternatives(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _same(one: object, other: object) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)
