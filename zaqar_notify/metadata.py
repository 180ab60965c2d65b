"""A queue's metadata: its checks, how it is shown and changed, and the rules that we read from it.

The metadata is the user's own object of any keys; those below are reserved and mean something to us.
null for any of them means unset.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import msgspec
import orjson

from zaqar_notify.errors import (
    QUEUE_NAME_RULE,
    BodyInvalid,
    MetadataConflict,
    ValidationFailed,
)
from zaqar_notify.models import DeadLetter, JsonObject, QueueRef
from zaqar_notify.rules.json_schema import MAX_SCHEMA_BYTES, canonical_text, compiled
from zaqar_notify.rules.jsontext import MAX_INTEGER, check_depth, check_integers
from zaqar_notify.rules.limits import MIN_SECONDS
from zaqar_notify.rules.names import is_queue_name
from zaqar_notify.rules.retry_policy import POLICY_KEY, parse_policy
from zaqar_notify.rules.unread import Warn
from zaqar_notify.settings import Settings

DEFAULT_TTL = "_default_message_ttl"
DEFAULT_DELAY = "_default_message_delay"
MAX_POST_SIZE = "_max_messages_post_size"
DEAD_LETTER_QUEUE = "_dead_letter_queue"
DEAD_LETTER_TTL = "_dead_letter_queue_messages_ttl"
MAX_CLAIM_COUNT = "_max_claim_count"
NOTIFY_OF_DISABLING = "_notify_of_disabling"
"""The queue that is told when a subscription is disabled."""
QUEUE_KEYS = (DEAD_LETTER_QUEUE, NOTIFY_OF_DISABLING)
"""The keys that name a queue, of metadata and of subscriptions' options alike."""
ENCRYPT = "_enable_encrypt_messages"
MESSAGE_SCHEMA = "_message_schema"
"""JSON Schema that the bodies of messages have to fit."""
FLAVOR = "_flavor"
"""Of whose pools one gets the queue, when it is made."""

_DEAD_LETTER_KEYS = (DEAD_LETTER_QUEUE, MAX_CLAIM_COUNT, DEAD_LETTER_TTL)
"""The first two are needed."""

_RULE_KEYS = (
    MAX_POST_SIZE,
    DEFAULT_TTL,
    DEFAULT_DELAY,
    DEAD_LETTER_QUEUE,
    DEAD_LETTER_TTL,
    MAX_CLAIM_COUNT,
)
_SHOWN_KEYS = (*_RULE_KEYS, ENCRYPT)
_SHOWN_KEYS_OF_TOPICS = (MAX_POST_SIZE, DEFAULT_TTL, DEFAULT_DELAY)


class MessageRules(msgspec.Struct, frozen=True):
    """A queue's rules for posts: seconds, seconds, bytes. No delay: not a delayed queue. `schema` is a canonical text."""

    default_ttl: int
    default_delay: int
    max_post_size: int
    schema: str | None = None


class PatchStep(msgspec.Struct, frozen=True):
    """One step of a change, on one top-level key of the metadata."""

    op: Literal["add", "replace", "remove"]
    key: str
    value: object = None


def checked(metadata: JsonObject, settings: Settings) -> JsonObject:
    """The metadata, once it may be stored.

    Raises:
        BodyInvalid: Too deep, or an integer beyond 64 bits.
        ValidationFailed: A reserved key is out of range or of another type.
    """
    check_depth(metadata)
    check_integers(metadata)
    for key, check in _CHECKS.items():
        value = metadata.get(key)
        if value is not None:
            check(key, value, settings)
    return metadata


def shown(metadata: JsonObject, settings: Settings, *, of_topic: bool = False) -> JsonObject:
    """The metadata as clients see it: reserved keys without a value, or a falsy one, filled in."""
    defaults: JsonObject = {
        MAX_POST_SIZE: settings.max_messages_post_size,
        DEFAULT_TTL: settings.default_message_ttl,
        DEFAULT_DELAY: settings.default_message_delay,
        ENCRYPT: False,
    }
    keys = _shown_keys(of_topic=of_topic)
    filled = {key: defaults.get(key) for key in keys if not metadata.get(key)}
    return metadata | filled


def patched(
    metadata: JsonObject,
    operations: Sequence[PatchStep],
    settings: Settings,
    *,
    of_topic: bool = False,
) -> JsonObject:
    """The metadata after the operations, applied in turn; the given one is left as it was.

    Raises:
        MetadataConflict: Replaces or removes a key which is absent and has no default.
        BodyInvalid: The result may not be stored, or is too large.
    """
    result = dict(metadata)
    for operation in operations:
        _apply(operation, result, _shown_keys(of_topic=of_topic))
    try:
        checked(result, settings)
    except ValidationFailed as error:
        raise BodyInvalid(str(error)) from error
    size = len(orjson.dumps(result))
    if size > settings.max_queue_metadata:
        raise BodyInvalid(
            f"The queue's metadata would have {size} bytes; "
            f"at most {settings.max_queue_metadata} bytes are allowed"
        )
    return result


def message_rules(metadata: JsonObject, settings: Settings) -> MessageRules:
    """How posts to this queue are read. The setting's default delay is shown, never applied."""
    limit = settings.max_messages_post_size
    return MessageRules(
        default_ttl=metadata.get(DEFAULT_TTL) or settings.default_message_ttl,
        default_delay=metadata.get(DEFAULT_DELAY) or 0,
        max_post_size=min(metadata.get(MAX_POST_SIZE) or limit, limit),
        schema=metadata.get(MESSAGE_SCHEMA),
    )


def rules_of(metadata: JsonObject) -> JsonObject:
    """The part of the metadata for posts and claims: the keys that `message_rules` and `dead_letter` read,
    whether messages are encrypted, and the text of their schema."""
    rules = {key: metadata[key] for key in _RULE_KEYS if key in metadata}
    if metadata.get(ENCRYPT):
        rules[ENCRYPT] = True
    if metadata.get(MESSAGE_SCHEMA) is not None:
        rules[MESSAGE_SCHEMA] = canonical_text(metadata[MESSAGE_SCHEMA])
    return rules


def dead_letter(ref: QueueRef, metadata: JsonObject) -> DeadLetter | None:
    """Where messages go that were claimed too often; None when the queue does not say both keys.

    A queue that names itself has none: a message would come back for ever.
    """
    name = metadata.get(DEAD_LETTER_QUEUE)
    max_claim_count = metadata.get(MAX_CLAIM_COUNT)
    if not name or max_claim_count is None or name == ref.name:
        return None
    return DeadLetter(
        queue=QueueRef(ref.project, name),
        max_claim_count=max_claim_count,
        ttl=metadata.get(DEAD_LETTER_TTL) or None,
    )


def named_queue(document: JsonObject, key: str) -> str | None:
    """The queue that an option or metadata names; None: it names none, or its value is older than its check."""
    name = document.get(key)
    return name if isinstance(name, str) and is_queue_name(name) else None


def check_queue_option(key: str, value: object) -> None:
    """Refuse a value that names no queue; null counts as absent.

    Raises:
        ValidationFailed: Says so.
    """
    if value is not None and (not isinstance(value, str) or not is_queue_name(value)):
        raise ValidationFailed(f"{key} must be a queue name: {QUEUE_NAME_RULE}")


def warn_of_combinations(
    ref: QueueRef, metadata: JsonObject, settings: Settings, *, warn: Warn
) -> None:
    """Say which reserved keys have no effect beside the others, or hide what is posted by default."""
    rules = message_rules(metadata, settings)
    if rules.default_delay >= rules.default_ttl:
        warn(
            f"metadata: {DEFAULT_DELAY} {rules.default_delay} is not less than {DEFAULT_TTL} "
            f"{rules.default_ttl}: a message posted with neither ttl nor delay expires before it is due"
        )
    if ref.is_topic or dead_letter(ref, metadata) is not None:
        return
    given = [key for key in _DEAD_LETTER_KEYS if metadata.get(key) is not None]
    lacking = [key for key in _DEAD_LETTER_KEYS[:2] if metadata.get(key) is None]
    reason = f"without {' and '.join(lacking)}" if lacking else "since the queue names itself"
    for key in given:
        warn(f"metadata: {key} has no effect {reason}")


def _shown_keys(*, of_topic: bool) -> Sequence[str]:
    return _SHOWN_KEYS_OF_TOPICS if of_topic else _SHOWN_KEYS


def _apply(operation: PatchStep, metadata: JsonObject, always_there: Sequence[str]) -> None:
    key = operation.key
    if operation.op != "add" and key not in metadata and key not in always_there:
        raise MetadataConflict(key)
    if operation.op == "remove":
        metadata.pop(key, None)
    else:
        metadata[key] = operation.value


def _check_range(key: str, value: object, *, least: int, most: int, unit: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValidationFailed(f"{key} must be an integer from {least} to {most} {unit}")


def _check_ttl(key: str, value: object, settings: Settings) -> None:
    most = settings.max_message_ttl
    _check_range(key, value, least=MIN_SECONDS, most=most, unit="seconds")


def _check_delay(key: str, value: object, settings: Settings) -> None:
    _check_range(key, value, least=0, most=settings.max_message_delay, unit="seconds")


def _check_post_size(key: str, value: object, settings: Settings) -> None:
    _check_range(key, value, least=1, most=settings.max_messages_post_size, unit="bytes")


def _check_claim_count(key: str, value: object, settings: Settings) -> None:
    _check_range(key, value, least=0, most=MAX_INTEGER, unit="claims")


def _check_queue_name(key: str, value: object, settings: Settings) -> None:
    check_queue_option(key, value)


def _check_encrypt(key: str, value: object, settings: Settings) -> None:
    if not isinstance(value, bool):
        raise ValidationFailed(f"{key} must be true or false")
    if value and not settings.encryption_keys:
        raise ValidationFailed(
            f"{key} must be false: the service has no key to encrypt with (ZAQAR_ENCRYPTION_KEYS)"
        )


def _check_policy(key: str, value: object, settings: Settings) -> None:
    parse_policy(value)


def _check_schema(key: str, value: object, settings: Settings) -> None:
    text = canonical_text(value)
    size = len(text.encode())
    if size > MAX_SCHEMA_BYTES:
        raise ValidationFailed(f"{key} has {size} bytes; at most {MAX_SCHEMA_BYTES} are allowed")
    compiled(text)


_Check: TypeAlias = Callable[[str, object, Settings], None]
_CHECKS: dict[str, _Check] = {
    DEFAULT_TTL: _check_ttl,
    DEFAULT_DELAY: _check_delay,
    MAX_POST_SIZE: _check_post_size,
    DEAD_LETTER_QUEUE: _check_queue_name,
    DEAD_LETTER_TTL: _check_ttl,
    MAX_CLAIM_COUNT: _check_claim_count,
    NOTIFY_OF_DISABLING: _check_queue_name,
    ENCRYPT: _check_encrypt,
    POLICY_KEY: _check_policy,
    MESSAGE_SCHEMA: _check_schema,
}
KNOWN_KEYS = (*_CHECKS, FLAVOR)
"""The reserved keys that there are."""
KNOWN_KEYS_OF_TOPICS = (
    *_SHOWN_KEYS_OF_TOPICS,
    NOTIFY_OF_DISABLING,
    ENCRYPT,
    POLICY_KEY,
    MESSAGE_SCHEMA,
    FLAVOR,
)
