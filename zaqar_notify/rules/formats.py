"""The form in which a subscriber gets its deliveries: the options that choose it, and the rules between them."""

from __future__ import annotations

from collections.abc import Set
from enum import StrEnum

import msgspec

from zaqar_notify.errors import ValidationFailed
from zaqar_notify.models import JsonObject
from zaqar_notify.rules.placeholders import TEMPLATE_KEY

FORMAT_KEY = "_delivery_format"
POST_DATA = "post_data"


class Format(StrEnum):
    """The values of `_delivery_format`."""

    ZAQAR = "zaqar"
    """Zaqar's JSON, to the byte."""
    RAW = "raw"
    """The body, as it was posted."""
    CLOUDEVENTS = "cloudevents"
    """A CloudEvent in structured mode: one JSON document."""
    CLOUDEVENTS_BINARY = "cloudevents-binary"
    """A CloudEvent in binary mode: the body, with the event's attributes as headers."""


class Forms(msgspec.Struct, frozen=True):
    """The forms in which one kind of subscriber can get its deliveries."""

    formats: Set[Format] = frozenset({Format.ZAQAR})
    takes_templates: bool = False


ONLY_ZAQAR = Forms()


def parse_format(value: object) -> Format:
    """The format that an option names; null: Zaqar's.

    Raises:
        ValidationFailed: Names the known ones.
    """
    if value is None:
        return Format.ZAQAR
    for known in Format:
        if value == known:
            return known
    raise ValidationFailed(f"options: {FORMAT_KEY} must be one of {', '.join(Format)}")


def check_forms(options: JsonObject, forms: Forms, *, scheme: str) -> None:
    """Refuse a form that a kind of subscriber can't get, and options that exclude each other.

    Raises:
        ValidationFailed: Names the options, and the forms that are possible.
    """
    wanted = parse_format(options.get(FORMAT_KEY))
    has_template = options.get(TEMPLATE_KEY) is not None
    if wanted not in forms.formats:
        known = ", ".join(each for each in Format if each in forms.formats)
        raise ValidationFailed(
            f"options: {FORMAT_KEY} must be one of {known} for a subscriber with {scheme}:"
        )
    if has_template and not forms.takes_templates:
        raise ValidationFailed(
            f"options: {TEMPLATE_KEY} can't be used by a subscriber with {scheme}:"
        )
    makers = {
        TEMPLATE_KEY: has_template,
        POST_DATA: bool(options.get(POST_DATA)),
        f"{FORMAT_KEY} {wanted}": wanted is not Format.ZAQAR,
    }
    given = [name for name, is_given in makers.items() if is_given]
    if len(given) > 1:
        raise ValidationFailed(
            f"options: {' and '.join(given)} exclude each other: each makes the whole body"
        )
