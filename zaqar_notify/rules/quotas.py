"""The quotas of a project: their names, and the values that they may have."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from zaqar_notify.errors import ValidationFailed

MOST = 10**15
"""The largest value of a quota: no store is larger, and every JSON reader takes it."""

DEFAULT = "default"
"""The word that gives a quota back its default, on the command line."""


class Limits(msgspec.Struct, frozen=True):
    """The most that one project may have and do; 0: no limit."""

    queues: int = 0
    subscriptions: int = 0
    subscriptions_per_queue: int = 0
    stored_bytes: int = 0
    messages_per_second: int = 0
    requests_per_second: int = 0
    long_polls: int = 0
    deliveries: int = 0
    mails_per_minute: int = 0


NAMES = Limits.__struct_fields__
MAILS = "mails_per_minute"
QUEUES, SUBSCRIPTIONS, SUBSCRIPTIONS_PER_QUEUE, STORED_BYTES = NAMES[:4]
"""The stored quotas; the others are of what is under way."""
REFUSING = tuple(name for name in NAMES if name != "deliveries")
"""Quotas that refuse, or put off. Deliveries wait for their turn."""


def check_values(sent: Mapping[str, object]) -> dict[str, int | None]:
    """The values that a project is to have of its own; None gives a quota back its default.

    Raises:
        ValidationFailed: A name or a value is wrong, or there is none.
    """
    if not sent:
        raise ValidationFailed(f"Nothing to change: name at least one quota of {_names()}")
    return {_name(name): _value(name, value) for name, value in sent.items()}


def read_words(words: list[str]) -> dict[str, object]:
    """The values of words of the form NAME=VALUE; they are not checked yet."""
    sent: dict[str, object] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise ValidationFailed(f"{word[:80]!r} is not of the form NAME=VALUE")
        number = text.isascii() and text.removeprefix("-").isdigit() and len(text) < 20
        sent[name] = None if text == DEFAULT else int(text) if number else text
    return sent


def _name(name: str) -> str:
    if name not in NAMES:
        raise ValidationFailed(f"There is no quota {name[:80]!r}; there are {_names()}")
    return name


def _value(name: str, value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST:
        raise ValidationFailed(
            f"{name} must be a whole number from 0 to {MOST}, where 0 is no limit, not {str(value)[:80]!r}"
        )
    return value


def _names() -> str:
    return ", ".join(NAMES)
