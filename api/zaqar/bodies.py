"""Bodies of requests, read straight into values, and their ranges."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TypeVar

import msgspec
import orjson

from api.documents import Reader
from api.zaqar.attributes import check_attributes
from zaqar_notify.delivery.posts import PostedMessage
from zaqar_notify.errors import BodyInvalid, ValidationFailed
from zaqar_notify.models import JsonObject
from zaqar_notify.rules.jsontext import check_depth_of_text, may_be_too_deep, read_json
from zaqar_notify.rules.limits import MIN_SECONDS, check_range
from zaqar_notify.rules.unread import Warn, warn_of_fields
from zaqar_notify.settings import Settings


class PostBody(msgspec.Struct):
    messages: list[PostedMessage] = []


class StrictMessage(PostedMessage, forbid_unknown_fields=True):
    """A message without unknown fields."""


class StrictBody(PostBody, forbid_unknown_fields=True):
    messages: list[StrictMessage] = []  # type: ignore[assignment]


class PlainMessage(msgspec.Struct):
    """A message as it was before version 2: without a delay."""

    body: msgspec.Raw
    ttl: int | msgspec.UnsetType = msgspec.UNSET

    def posted(self, default_ttl: int) -> PostedMessage:
        """The message with the life and the delay of its version, which knows no defaults of queues."""
        ttl = default_ttl if self.ttl is msgspec.UNSET else self.ttl
        return PostedMessage(self.body, ttl, delay=0)


class RenewBody(msgspec.Struct, omit_defaults=True):
    """How long a claim is to last; None takes the default."""

    ttl: int | None = None
    grace: int | None = None


class ClaimBody(RenewBody):
    """How a claim is asked for; None takes the default."""

    limit: int | None = None


class StrictRenewBody(RenewBody, forbid_unknown_fields=True):
    """Without unknown fields."""


class StrictClaimBody(ClaimBody, forbid_unknown_fields=True):
    """Without unknown fields."""


_post_body = Reader(PostBody, strict=StrictBody)
_claim_body = Reader(ClaimBody, strict=StrictClaimBody)
_renew_body = Reader(RenewBody, strict=StrictRenewBody)

Asked = TypeVar("Asked", bound=RenewBody)


def read_messages(body: bytes, settings: Settings, warn: Warn) -> list[PostedMessage]:
    """The messages of `{"messages": [{"body", "ttl"?, "delay"?}]}`, at least one."""
    try:
        messages = _post_body.read(
            body, on_unread=partial(warn_of_unread_messages, body, PostedMessage, warn)
        ).messages
    except BodyInvalid:
        explain_array(body)
        raise
    check_messages(body, messages, settings)
    check_attributes(messages)
    return messages


def check_messages(
    body: bytes, messages: Sequence[PostedMessage | PlainMessage], settings: Settings
) -> None:
    """Refuse a post without messages, and a message that is nested too deep or lives too long or too short."""
    if not messages:
        raise ValidationFailed("messages must be an array of at least one message")
    if may_be_too_deep(body):
        for message in messages:
            check_depth_of_text(bytes(message.body))
    most = settings.max_message_ttl
    for ttl in {message.ttl for message in messages}:
        if ttl is not msgspec.UNSET:
            check_range("ttl", ttl, least=MIN_SECONDS, most=most, unit="seconds")


def read_claim(body: bytes, settings: Settings, warn: Warn) -> ClaimBody:
    """`{"ttl"?, "grace"?, "limit"?}`; the body may be empty."""
    if not body:
        return ClaimBody()
    return _with_terms(_claim_body, ClaimBody, body, settings, warn)


def read_renewal(body: bytes, settings: Settings, warn: Warn) -> RenewBody:
    """`{"ttl"?, "grace"?}`."""
    return _with_terms(_renew_body, RenewBody, body, settings, warn)


def read_metadata(body: bytes) -> JsonObject:
    """A queue's metadata; an empty body gives empty metadata."""
    metadata = read_json(body) if body else {}
    if not isinstance(metadata, dict):
        raise BodyInvalid("A queue's metadata must be a JSON object")
    return metadata


def _with_terms(
    reader: Reader[Asked], kind: type[Asked], body: bytes, settings: Settings, warn: Warn
) -> Asked:
    def warn_of_unread() -> None:
        warn_of_fields(orjson.loads(body), kind.__struct_fields__, where="field", warn=warn)

    asked = reader.read(body, on_unread=warn_of_unread)
    check_terms(asked.ttl, asked.grace, settings)
    return asked


def check_terms(
    ttl: int | None, grace: int | None, settings: Settings, *, least_grace: int = MIN_SECONDS
) -> None:
    """Refuse a claim's ttl or grace that is out of range."""
    if ttl is not None:
        check_range("ttl", ttl, least=MIN_SECONDS, most=settings.max_claim_ttl, unit="seconds")
    if grace is not None:
        most = settings.max_claim_grace
        check_range("grace", grace, least=least_grace, most=most, unit="seconds")


def warn_of_unread_messages(
    body: bytes, kind: type[PostedMessage | PlainMessage], warn: Warn
) -> None:
    """Warn of the unknown fields of a post, and of its messages."""
    document = orjson.loads(body)
    messages = document
    if isinstance(document, dict):
        warn_of_fields(document, PostBody.__struct_fields__, where="field", warn=warn)
        messages = document.get("messages", ())
    given = (field for message in messages for field in message)
    warn_of_fields(given, kind.__struct_fields__, where="message: field", warn=warn)


def explain_array(body: bytes) -> None:
    """Refuse a top-level array, the form of version 1, with a sentence of its own."""
    if body.lstrip()[:1] != b"[":
        return
    document = read_json(body)
    if isinstance(document, list) and "messages" not in document:
        raise ValidationFailed('The body must be an object: {"messages": [{"body": …}]}')
