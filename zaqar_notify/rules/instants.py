"""Instants that clients write and read, by ISO 8601."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from zaqar_notify.errors import ValidationFailed

MOST_AHEAD = timedelta(days=366)
"""No message is due later after its post."""

_MILLISECOND = 1000
"""In microseconds. Stores keep no finer instants."""


def shown_instant(at: datetime) -> str:
    """An instant as clients read it: UTC, with milliseconds."""
    return f"{at.astimezone(UTC).isoformat(timespec='milliseconds').removesuffix('+00:00')}Z"


def parse_instant(name: str, text: str) -> datetime:
    """An instant with its zone, in UTC and whole milliseconds.

    Raises:
        ValidationFailed: It is none; the sentence has the field's name.
    """
    try:
        instant = datetime.fromisoformat(text)
        if instant.tzinfo is None:
            raise ValueError
        instant = instant.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValidationFailed(
            f"{name} must be an ISO 8601 instant with its zone, such as 2027-01-31T08:00:00Z, not {text[:80]!r}"
        ) from error
    return instant.replace(microsecond=instant.microsecond // _MILLISECOND * _MILLISECOND)


def check_ahead(name: str, instant: datetime, now: datetime) -> None:
    """Refuse an instant that is too far ahead of `now`."""
    if instant - now > MOST_AHEAD:
        raise ValidationFailed(
            f"{name} must be at most {MOST_AHEAD.days} days ahead, not {(instant - now).days}"
        )
