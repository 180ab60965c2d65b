"""The form in which a subscriber gets its deliveries: the options that choose it, and the rules between them."""

from __future__ import annotations

from collections.abc import Set
from enum import StrEnum
from typing import TypeVar

import msgspec

from zaqar_notify.errors import ValidationFailed
from zaqar_notify.models import JsonObject
from zaqar_notify.rules.placeholders import TEMPLATE_KEY, UNSUBSCRIBE_URL
from zaqar_notify.rules.templates import parse_template

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
    SNS = "sns"
    """The envelope of Amazon SNS."""


SIGNATURE_KEY = "_signature"


class Signature(StrEnum):
    """The values of `_signature`."""

    HMAC = "hmac"
    """Of Standard Webhooks, with a secret that the receiver knows."""
    ED25519 = "ed25519"
    """Of Standard Webhooks, with a private key; the receiver knows the public key."""
    SNS_V1 = "sns-v1"
    """In an SNS envelope, with SHA-1."""
    SNS_V2 = "sns-v2"
    """In an SNS envelope, with SHA-256."""


OF_SNS = frozenset({Signature.SNS_V1, Signature.SNS_V2})


class Forms(msgspec.Struct, frozen=True):
    """The forms in which one kind of subscriber can get its deliveries."""

    formats: Set[Format] = frozenset({Format.ZAQAR})
    takes_templates: bool = False
    has_headers: bool = False
    """They can have a signature in their headers."""
    has_unsubscribe_url: bool = False
    """Its templates may use `unsubscribe_url`."""


ONLY_ZAQAR = Forms()


Choice = TypeVar("Choice", bound=StrEnum)


def parse_format(value: object) -> Format:
    """The format that an option names; null: Zaqar's.

    Raises:
        ValidationFailed: Names the known ones.
    """
    return Format.ZAQAR if value is None else _chosen(Format, value, FORMAT_KEY)


def parse_signature(value: object) -> Signature | None:
    """The signature that an option names; null: the usual one of the format.

    Raises:
        ValidationFailed: Names the known ones.
    """
    return None if value is None else _chosen(Signature, value, SIGNATURE_KEY)


def _chosen(choices: type[Choice], value: object, key: str) -> Choice:
    for choice in choices:
        if value == choice:
            return choice
    raise ValidationFailed(f"options: {key} must be one of {', '.join(choices)}")


def sns_version(options: JsonObject) -> str:
    """The `SignatureVersion` of a subscription's SNS envelopes; "": these are not signed."""
    if options.get(FORMAT_KEY) != Format.SNS:
        return ""
    return {None: "1", Signature.SNS_V1: "1", Signature.SNS_V2: "2"}.get(
        options.get(SIGNATURE_KEY), ""
    )


def check_signature(options: JsonObject, forms: Forms, *, scheme: str) -> None:
    """Refuse a signature that a kind of subscriber, or a format, can't have.

    Raises:
        ValidationFailed: Names the option, and the signatures that are possible.
    """
    wanted = parse_signature(options.get(SIGNATURE_KEY))
    if wanted is None:
        return
    if wanted in OF_SNS:
        if options.get(FORMAT_KEY) != Format.SNS:
            raise ValidationFailed(
                f"options: {SIGNATURE_KEY} {wanted} is for {FORMAT_KEY} {Format.SNS} alone"
            )
    elif not forms.has_headers:
        raise ValidationFailed(
            f"options: {SIGNATURE_KEY} {wanted} is a header, and deliveries to a subscriber with {scheme}: have none"
        )


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
    if has_template and not forms.has_unsubscribe_url:
        template = parse_template(options[TEMPLATE_KEY])
        if template is not None and template.uses(UNSUBSCRIBE_URL):
            raise ValidationFailed(
                f"options: {TEMPLATE_KEY} {UNSUBSCRIBE_URL!r} can't be filled: only mails have it"
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
