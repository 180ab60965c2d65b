"""Ranges of clients' values; a value out of range is refused with one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from zaqar_notify.errors import ValidationFailed

DEFAULT_LIMIT = 10
"""Items of a page or a claim when the client names no number."""

MIN_SECONDS = 60
"""The least ttl and grace that Zaqar's API takes: of messages, claims and subscriptions, and in a queue's
metadata. Here below, one second is enough, and a lease may be of none."""


def check_range(name: str, value: int, *, least: int, most: int, unit: str) -> int:
    """The value, when it is in range.

    Raises:
        ValidationFailed: It is not; the sentence has the name, the limits and the unit.
    """
    if not least <= value <= most:
        raise ValidationFailed(f"{name} must be from {least} to {most} {unit}, not {value}")
    return value


def check_limit(asked: int | None, *, most: int, name: str = "limit", unit: str = "items") -> int:
    """How many items to give; None asks for the default."""
    if asked is None:
        return min(DEFAULT_LIMIT, most)
    return check_range(name, asked, least=1, most=most, unit=unit)


def distinct_ids(ids: Sequence[str], *, most: int) -> list[str]:
    """Each of the ids once.

    Raises:
        ValidationFailed: More were sent than `most`, repeated ones counted.
    """
    check_range("ids", len(ids), least=1, most=most, unit="message ids")
    return list(dict.fromkeys(ids))
