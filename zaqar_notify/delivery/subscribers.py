"""The parts of a subscription that a client names: the subscriber's URI, the ttl and the options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from urllib.parse import unquote, urlsplit

import orjson

from zaqar_notify.delivery.kinds import Kinds, scheme_of
from zaqar_notify.errors import ValidationFailed
from zaqar_notify.metadata import DEAD_LETTER_QUEUE, QUEUE_KEYS, check_queue_option
from zaqar_notify.models import JsonObject, QueueRef
from zaqar_notify.rules.filter_policy import FILTER_KEY, FILTER_KEYS, SCOPE_KEY, filter_of
from zaqar_notify.rules.formats import (
    FORMAT_KEY,
    SIGNATURE_KEY,
    Format,
    Signature,
    check_forms,
    check_signature,
    parse_format,
    parse_signature,
    sns_version,
)
from zaqar_notify.rules.jsontext import check_depth, check_integers
from zaqar_notify.rules.lines import has_control_characters
from zaqar_notify.rules.pacing import (
    BATCH_KEY,
    IN_FLIGHT_KEY,
    ORDER_KEY,
    RATE_KEY,
    check_together,
    parse_batching,
    parse_in_flight,
    parse_order,
    parse_rate,
)
from zaqar_notify.rules.placeholders import TEMPLATE_KEY
from zaqar_notify.rules.retry_policy import POLICY_KEY, parse_policy
from zaqar_notify.rules.templates import parse_template
from zaqar_notify.rules.unread import Warn, warn_of_keys, warn_of_policy
from zaqar_notify.settings import Settings

MAX_SUBSCRIBER_CHARACTERS = 2048
MAX_OPTIONS_BYTES = 65536

_CHECKS: Mapping[str, Callable[[object], object]] = {
    POLICY_KEY: parse_policy,
    FORMAT_KEY: parse_format,
    SIGNATURE_KEY: parse_signature,
    TEMPLATE_KEY: parse_template,
    ORDER_KEY: parse_order,
    BATCH_KEY: parse_batching,
    RATE_KEY: parse_rate,
    IN_FLIGHT_KEY: parse_in_flight,
    **{key: partial(check_queue_option, key) for key in QUEUE_KEYS},
}
"""Options of all kinds of subscribers, each with its check. null counts as absent."""

SHARED_OPTIONS = (*_CHECKS, *FILTER_KEYS)
"""All of them. Those of a filter policy are checked together, by `filter_of`."""

_LAST_INSTANT = datetime.max.replace(tzinfo=UTC)


def options_schema(kinds: Kinds) -> JsonObject:
    """A JSON schema of all options that subscriptions may have, for the documentation of a running service."""
    shared = {name: {"description": "Of every subscriber."} for name in SHARED_OPTIONS}
    return {"type": "object", "properties": shared | kinds.described_options()}


def subscribed_queue(uri: str) -> str | None:
    """The name of the queue that a subscriber is; None: it is something else."""
    return uri.partition(":")[2] if scheme_of(uri) == "queue" else None


def check_subscriber(uri: object, settings: Settings, kinds: Kinds) -> str:
    """The subscriber's URI, as given, once deliveries to it can be tried.

    Raises:
        ValidationFailed: Says which part is wrong, or which setting is missing for its scheme.
    """
    if not isinstance(uri, str) or not uri:
        raise ValidationFailed("subscriber must be a URI, a string that is not empty")
    if len(uri) > MAX_SUBSCRIBER_CHARACTERS:
        raise ValidationFailed(
            f"subscriber has {len(uri)} characters; at most {MAX_SUBSCRIBER_CHARACTERS} are allowed"
        )
    if has_control_characters(uri):
        raise ValidationFailed("subscriber must not contain control characters")
    if scheme_of(uri) not in settings.subscriber_types:
        raise ValidationFailed(
            "subscriber must be supported in the list of schemes "
            + ", ".join(settings.subscriber_types)
        )
    kind = kinds.of(uri)
    if kind is None:
        raise ValidationFailed(f"subscriber can't be {scheme_of(uri)}: nothing here delivers to it")
    kind.check(uri, settings)
    return uri


def shown_subscriber(uri: str) -> str:
    """A subscriber as logs and lists may show it: its scheme and its host, or its queue.

    Paths, queries, users and mailboxes often are credentials, or name people.
    """
    scheme, _, rest = uri.partition(":")
    scheme = scheme.lower()
    if scheme == "queue":
        return uri
    if not rest.startswith("//"):
        _, at, domain = unquote(rest.partition("?")[0]).rpartition("@")
        return f"{scheme}:{at}{domain if at else ''}"
    try:
        host = urlsplit(uri).hostname or ""
    except ValueError:
        host = ""
    return f"{scheme}://{host}"


def shown_to_addressee(uri: str) -> str:
    """A subscriber as a page may show it: of a mailbox the first letter and the domain. The link to the page may have
    been passed on."""
    scheme, _, rest = uri.partition(":")
    if scheme.lower() != "mailto":
        return shown_subscriber(uri)
    user, at, domain = unquote(rest.removeprefix("//").partition("?")[0]).rpartition("@")
    return f"{user[:1]}…{at}{domain}"


def check_ttl(value: object, now: datetime, *, least: int = 1) -> int:
    """A subscription's ttl, seconds.

    There is no upper limit but the calendar's: Heat asks for 6983 years.
    """
    longest = (_LAST_INSTANT - now) // timedelta(seconds=1)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= longest:
        raise ValidationFailed(
            f"ttl must be an integer of at least {least} seconds, "
            f"and end before the year 10000 (at most {longest} seconds)"
        )
    return value


def check_options(value: object, kinds: Kinds) -> JsonObject:
    """The subscription's options; null and other falsy values mean none.

    Only the keys that deliveries use are checked; the others are kept for their owner.
    """
    if not value:
        return {}
    if not isinstance(value, dict):
        raise ValidationFailed("options must be a dict: a JSON object")
    check_depth(value)
    check_integers(value)
    size = len(orjson.dumps(value))
    if size > MAX_OPTIONS_BYTES:
        raise ValidationFailed(
            f"options has {size} bytes as JSON; at most {MAX_OPTIONS_BYTES} bytes are allowed"
        )
    for name, check in _CHECKS.items():
        check(value.get(name))
    filter_of(value)
    for kind in kinds:
        kind.check_options(value)
    return value


def check_use(subscriber: str, options: JsonObject, kinds: Kinds, settings: Settings) -> None:
    """Refuse options that deliveries to this very subscriber must not have.

    Raises:
        ValidationFailed: Names the option, and the reason.
    """
    kind = kinds.of(subscriber)
    if kind is not None:
        check_together(options, subscriber, takes_batches=kind.takes_batches)
        kind.check_use(options)
        scheme = scheme_of(subscriber)
        check_forms(options, kind.forms, scheme=scheme)
        check_signature(options, kind.forms, scheme=scheme)
        _check_keys(options, settings)


def _check_keys(options: JsonObject, settings: Settings) -> None:
    """Refuse a signature that this service can't make."""
    is_asked = options.get(SIGNATURE_KEY) is not None or sns_version(options)
    if is_asked and not settings.webhook_secret.get_secret_value():
        raise ValidationFailed(
            "options: nothing is signed here, because ZAQAR_WEBHOOK_SECRET is not set; the operator sets it"
        )
    if sns_version(options) and not settings.public_url.startswith("https://"):
        raise ValidationFailed(
            f"options: {FORMAT_KEY} {Format.SNS} can't be signed here: receivers load the certificate over https, "
            f"and ZAQAR_PUBLIC_URL does not begin with it. With {SIGNATURE_KEY} {Signature.HMAC} the envelope "
            "has no signature of SNS"
        )


def check_dead_letter_queue(ref: QueueRef, options: JsonObject) -> None:
    """Refuse a dead-letter queue that is the subscription's own queue: what is given up would be delivered again.

    Raises:
        ValidationFailed: It is.
    """
    if options.get(DEAD_LETTER_QUEUE) == ref.name:
        raise ValidationFailed(
            f"options: {DEAD_LETTER_QUEUE} must be another queue than the subscription's own"
        )


def warn_of_options(options: JsonObject, kinds: Kinds, warn: Warn) -> None:
    """Say which of the options have no effect."""
    of_kinds = (name for kind in kinds for name in kind.options)
    known = tuple(dict.fromkeys((*SHARED_OPTIONS, *of_kinds)))
    warn_of_keys(options, known, where="options:", warn=warn)
    warn_of_policy(options, warn=warn)
    if options.get(SCOPE_KEY) is not None and not options.get(FILTER_KEY):
        warn(f"options: {SCOPE_KEY} has no effect without {FILTER_KEY}")
    for kind in kinds:
        kind.warn_of_options(options, warn)
