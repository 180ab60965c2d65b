"""Lanes: of the deliveries in one lane no two are under way at once, and none overtakes another."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from zaqar_notify.delivery import Outgoing
from zaqar_notify.rules.attributes import read_attributes
from zaqar_notify.rules.pacing import Pace

LaneOf: TypeAlias = Callable[[Outgoing], str | None]

WHOLE = ""
"""The lane of all messages, or of all that lack the attribute."""


def lanes_of(pace: Pace) -> LaneOf:
    """Gives the lane of a delivery; None: it is not ordered."""
    if not pace.is_ordered:
        return lambda _: None
    if pace.by_attribute is None:
        return lambda _: WHOLE
    return partial(_by_attribute, pace.by_attribute)


def _by_attribute(name: str, message: Outgoing) -> str:
    attribute = read_attributes(message.message.attributes).get(name)
    return WHOLE if attribute is None else f"{attribute.type} {attribute.value!r}"
