"""Order, batches and pace of a subscription's deliveries, as its options ask for them. Pure rules.

A subscription with one of these options is *paced*: one replay job fetches all its deliveries, so each of these
rules holds over the whole cluster.
"""

from __future__ import annotations

import msgspec

from zaqar_notify.errors import ValidationFailed
from zaqar_notify.models import JsonObject
from zaqar_notify.rules.attributes import NAME_RULE, is_name
from zaqar_notify.rules.formats import FORMAT_KEY, POST_DATA, Format
from zaqar_notify.rules.placeholders import TEMPLATE_KEY

ORDER_KEY = "_ordered"
BATCH_KEY = "_batch"
RATE_KEY = "_max_receives_per_second"
IN_FLIGHT_KEY = "_max_in_flight"
PACE_KEYS = frozenset({ORDER_KEY, BATCH_KEY, RATE_KEY, IN_FLIGHT_KEY})

BY_ATTRIBUTE = "by_attribute"
MOST_IN_BATCH = 100
LONGEST_GATHERING_SECONDS = 60
GATHERING_SECONDS = 1
"""How long a batch waits for more messages, where the client says nothing."""

LEAST_PER_SECOND = 0.001
MOST_PER_SECOND = 10_000
MOST_IN_FLIGHT = 1000

ORDERED_FOR = "ordered_for"
"""The rule of a queue's head that has the ids of its ordered subscriptions."""

MOST_ORDERED = 10
"""Ordered subscriptions of one queue: a post stores its messages once more for each."""


class Batching(msgspec.Struct, frozen=True):
    """Up to `count` messages in one request; the first waits up to `seconds` for the others."""

    count: int
    seconds: float = GATHERING_SECONDS


class Pace(msgspec.Struct, frozen=True):
    """What the options of a paced subscription ask for; None: no bound of that kind.

    `by_attribute` names the attribute by which messages are ordered; None, if all of them are one line.
    """

    is_ordered: bool = False
    by_attribute: str | None = None
    batching: Batching | None = None
    per_second: float | None = None
    in_flight: int | None = None

    @property
    def is_one_line(self) -> bool:
        """Whether each delivery waits for the one before it."""
        return self.is_ordered and self.by_attribute is None

    @property
    def keeps_places(self) -> bool:
        """Whether a delivery that failed keeps its place before those behind it, or the company of its batch."""
        return self.is_ordered or self.batching is not None


def pace_of(options: JsonObject) -> Pace | None:
    """The pace of a subscription; None: it is not paced. Stored options that can't be read count as absent."""
    if PACE_KEYS.isdisjoint(options):
        return None
    try:
        pace = Pace(
            *parse_order(options.get(ORDER_KEY)),
            parse_batching(options.get(BATCH_KEY)),
            parse_rate(options.get(RATE_KEY)),
            parse_in_flight(options.get(IN_FLIGHT_KEY)),
        )
    except ValidationFailed:
        return None
    return None if pace == Pace() else pace


def is_ordered(options: JsonObject) -> bool:
    pace = pace_of(options)
    return pace is not None and pace.is_ordered


def parse_order(value: object) -> tuple[bool, str | None]:
    """Whether deliveries are ordered, and the attribute by whose values they are.

    Raises:
        ValidationFailed: It is none of the permitted forms.
    """
    if value is None or isinstance(value, bool):
        return bool(value), None
    if not isinstance(value, dict) or list(value) != [BY_ATTRIBUTE]:
        raise ValidationFailed(
            f'options: {ORDER_KEY} must be true, or {{"{BY_ATTRIBUTE}": NAME}} to order the messages '
            "of each value of that attribute"
        )
    name = value[BY_ATTRIBUTE]
    if not isinstance(name, str) or not is_name(name):
        raise ValidationFailed(
            f"options: {ORDER_KEY} {BY_ATTRIBUTE} must be the name of an attribute: {NAME_RULE}"
        )
    return True, name


def parse_batching(value: object) -> Batching | None:
    """Raises ValidationFailed: a field is missing, unknown or out of range."""
    if value is None:
        return None
    if not isinstance(value, dict) or not {"count"} <= value.keys() <= {"count", "seconds"}:
        raise ValidationFailed(
            f'options: {BATCH_KEY} must be {{"count": NUMBER, "seconds": NUMBER}}; seconds may be left out'
        )
    count, seconds = value["count"], value.get("seconds", GATHERING_SECONDS)
    if not _is_integer(count) or not 2 <= count <= MOST_IN_BATCH:
        raise ValidationFailed(
            f"options: {BATCH_KEY} count must be an integer from 2 to {MOST_IN_BATCH} messages"
        )
    if not _is_number(seconds) or not 0 <= seconds <= LONGEST_GATHERING_SECONDS:
        raise ValidationFailed(
            f"options: {BATCH_KEY} seconds must be a number from 0 to {LONGEST_GATHERING_SECONDS}"
        )
    return Batching(count, seconds)


def parse_rate(value: object) -> float | None:
    """Requests in a second; raises ValidationFailed: it is no number in range."""
    if value is None:
        return None
    if not isinstance(value, int | float) or not _is_number(value):
        raise _rate_wrong()
    if not LEAST_PER_SECOND <= value <= MOST_PER_SECOND:
        raise _rate_wrong()
    return float(value)


def parse_in_flight(value: object) -> int | None:
    """Requests at once; raises ValidationFailed: it is no integer in range."""
    if value is None:
        return None
    if not isinstance(value, int) or not _is_integer(value) or not 1 <= value <= MOST_IN_FLIGHT:
        raise ValidationFailed(
            f"options: {IN_FLIGHT_KEY} must be an integer from 1 to {MOST_IN_FLIGHT} requests at once"
        )
    return value


def check_together(options: JsonObject, subscriber: str, *, takes_batches: bool) -> None:
    """Refuse a batch where one request can't have several messages.

    Args:
        takes_batches: Whether the kind of subscriber takes batches.

    Raises:
        ValidationFailed: Names the options, and the reason.
    """
    if options.get(BATCH_KEY) is None:
        return
    if not takes_batches:
        scheme = subscriber.partition(":")[0].lower()
        raise ValidationFailed(
            f"options: {BATCH_KEY} is for webhooks (http:, https:) only: "
            f"{scheme}: gets each message by itself"
        )
    for name in (FORMAT_KEY, TEMPLATE_KEY, POST_DATA):
        if options.get(name) and options[name] != Format.ZAQAR:
            raise ValidationFailed(
                f"options: {BATCH_KEY} can't be used with {name}: a batch is a JSON array of notifications"
            )


def _rate_wrong() -> ValidationFailed:
    return ValidationFailed(
        f"options: {RATE_KEY} must be a number from {LEAST_PER_SECOND} to {MOST_PER_SECOND} requests per second"
    )


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
