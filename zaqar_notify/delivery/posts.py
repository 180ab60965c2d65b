"""Posts to clients' queues: their queue's rules, and the jobs that notify its subscribers."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import repeat

import msgspec
from msgspec.structs import replace

from zaqar_notify.clock import Clock
from zaqar_notify.delivery.fitting import Fitting
from zaqar_notify.delivery.jobs import fan_out_jobs
from zaqar_notify.errors import (
    BodyInvalid,
    EncryptionImpossible,
    NotifyError,
    PostNotPermitted,
    ValidationFailed,
    called,
)
from zaqar_notify.metadata import ENCRYPT, MessageRules, message_rules
from zaqar_notify.models import JsonObject, NewMessage, QueueRef
from zaqar_notify.rules.attributes import NO_ATTRIBUTES, from_raw
from zaqar_notify.rules.instants import check_ahead, parse_instant
from zaqar_notify.rules.jsontext import MAX_DEPTH
from zaqar_notify.rules.limits import check_range
from zaqar_notify.rules.pacing import ORDERED_FOR
from zaqar_notify.settings import Settings
from zaqar_notify.storage.base import IdempotencyKey, Post

logger = logging.getLogger(__name__)

RELAY_CLIENT = "zaqar-notify"
"""The client id of messages that a queue subscription posted; it is no UUID."""


class PostedMessage(msgspec.Struct):
    """A message to be posted: its body is JSON text, kept as it is. Seconds; an unset value takes the
    queue's default. `not_before` is an instant as its client wrote it. `attributes` are their canonical text."""

    body: msgspec.Raw
    ttl: int | msgspec.UnsetType = msgspec.UNSET
    delay: int | msgspec.UnsetType = msgspec.UNSET
    not_before: str | msgspec.UnsetType = msgspec.UNSET
    attributes: msgspec.Raw = NO_ATTRIBUTES


class QueuePost(Post):
    """Messages for a queue; its subscribers are notified of them."""

    def __init__(
        self,
        ref: QueueRef,
        *,
        size: int,
        hops: int,
        request_id: str,
        settings: Settings,
        visited: Sequence[str] = (),
        origin: str = "",
    ) -> None:
        self._ref = ref
        self.is_kept = not ref.is_topic
        self._hops = hops
        self._visited = visited
        self._origin = origin
        self._request_id = request_id
        self._settings = settings
        self.size = size
        self.must_encrypt = False
        """It was routed from a queue that encrypts its messages, so one that does not can't have them."""
        self.fitting: Fitting
        self.when_owed: Callable[[], None] | None = None
        """Called when the store is about to take jobs some of which are due at once; quick."""
        self.refusal: NotifyError | None = None
        """The error that refuses to store more. A repeated post is answered in spite of it."""

    def _read(self, rules: JsonObject) -> MessageRules:
        """The queue's rules for its messages.

        Raises:
            ValidationFailed: It takes none of this size, or the messages do not fit its schema.
            SchemaUnchecked: Whether they fit it is not known yet.
            EncryptionImpossible: There is no key for it.
            NotifyError: `refusal`.
        """
        if self.refusal is not None:
            raise self.refusal
        if self.must_encrypt and not rules.get(ENCRYPT):
            raise PostNotPermitted(
                f"The messages are routed to {called(self._ref.name)}, which does not encrypt them as their own queue does"
            )
        if rules.get(ENCRYPT) and not self._settings.encryption_keys:
            facts = {"project": self._ref.project, "queue": self._ref.name}
            logger.error(
                "A post is refused: its queue encrypts messages, and there is no key",
                extra={"action": "encryption_impossible", **facts},
            )
            raise EncryptionImpossible(self._ref.name)
        read = message_rules(rules, self._settings)
        if self.size > read.max_post_size:
            raise ValidationFailed(
                f"The post has {self.size} bytes; {called(self._ref.name)} takes at most "
                f"{read.max_post_size} bytes"
            )
        if read.schema is not None:
            self.fitting.require(read.schema)
        return read

    def jobs(
        self, rules: JsonObject, ids: Sequence[str], messages: Sequence[NewMessage]
    ) -> Sequence[tuple[QueueRef, NewMessage]]:
        jobs = fan_out_jobs(
            self._ref,
            ids,
            messages,
            settings=self._settings,
            delayed_queue=self._read(rules).default_delay > 0,
            hops=self._hops,
            request_id=self._request_id,
            visited=self._visited,
            origin=self._origin,
            ordered_for=rules.get(ORDERED_FOR, ()),
        )
        if self.when_owed is not None and any(
            not job.delay and job.not_before is None for _, job in jobs
        ):
            self.when_owed()
        return jobs


class ClientPost(QueuePost):
    """The messages of a client's request."""

    def __init__(
        self,
        ref: QueueRef,
        messages: Sequence[PostedMessage],
        *,
        size: int,
        client_id: str,
        idempotency_key: IdempotencyKey | None,
        request_id: str,
        hops: int,
        settings: Settings,
        clock: Clock,
    ) -> None:
        """
        Raises:
            ValidationFailed: A `not_before` is no instant, is too far ahead, or has a delay beside it.
        """
        super().__init__(ref, size=size, hops=hops, request_id=request_id, settings=settings)
        self.client_id = client_id
        self.idempotency_key = idempotency_key
        self.never_seen: list[NewMessage] = []
        """Those that expire before they are due, by the rules of the last `messages_for`."""
        self._messages = messages
        self.fitting = Fitting(ref, lambda: [bytes(one.body) for one in messages], names_place=True)
        self._due_at = _due_instants(messages, clock)
        self.notifies_later = any(self._due_at.values())
        self._checksums: Iterable[str | None] = repeat(None)
        if settings.enable_checksum:
            self._checksums = [_checksum(message.body) for message in messages]

    def messages_for(self, rules: JsonObject) -> Sequence[NewMessage]:
        read = self._read(rules)
        self._check_ranges()
        ttl, delay = read.default_ttl, read.default_delay
        messages = [
            NewMessage(
                bytes(message.body),
                ttl if message.ttl is msgspec.UNSET else message.ttl,
                delay if message.delay is msgspec.UNSET else message.delay,
                checksum,
                attributes=from_raw(message.attributes),
            )
            for message, checksum in zip(self._messages, self._checksums, strict=False)
        ]
        for index, due_at in self._due_at.items():
            messages[index] = replace(messages[index], delay=0, not_before=due_at)
        self.never_seen = [message for message in messages if message.delay >= message.ttl]
        return messages

    def _check_ranges(self) -> None:
        """Refuse a ttl or a delay out of range; messages of one post mostly have the same ones."""
        settings = self._settings
        for ttl, delay in {(message.ttl, message.delay) for message in self._messages}:
            if ttl is not msgspec.UNSET:
                check_range("ttl", ttl, least=1, most=settings.max_message_ttl, unit="seconds")
            if delay is not msgspec.UNSET:
                most = settings.max_message_delay
                check_range("delay", delay, least=0, most=most, unit="seconds")


class RelayedPost(QueuePost):
    """One message on its way from another queue. A queue takes one copy of each message."""

    client_id = RELAY_CLIENT

    def __init__(
        self,
        ref: QueueRef,
        message: NewMessage,
        *,
        origin: str,
        visited: Sequence[str],
        hops: int,
        request_id: str,
        settings: Settings,
        sent_body: bytes | None = None,
    ) -> None:
        """`sent_body` is the body before filters changed it, by which a repetition is known."""
        super().__init__(
            ref,
            size=len(message.body) + len(message.attributes or b""),
            hops=hops,
            request_id=request_id,
            settings=settings,
            visited=visited,
            origin=origin,
        )
        self.idempotency_key = IdempotencyKey(
            origin,
            hashlib.sha256(message.body if sent_body is None else sent_body).digest(),
            settings.idempotency_keep_seconds,
        )
        self._message = message
        self.fitting = Fitting(ref, lambda: [message.body], names_place=False)
        self._checksum = _checksum(msgspec.Raw(message.body)) if settings.enable_checksum else None

    def messages_for(self, rules: JsonObject) -> Sequence[NewMessage]:
        """The body is the message's own, and the ttl as far as a message may live: a confirmation has its
        subscription's. A delay is the business of each queue."""
        delay = self._read(rules).default_delay
        ttl = min(self._message.ttl, self._settings.max_message_ttl)
        if delay >= ttl and not self._settings.notify_delayed_at_once:
            raise ValidationFailed(
                f"The message would expire before it is due: its ttl is {ttl} seconds, and queue "
                f"{self._ref.name!r} delays it by {delay} (_default_message_delay)"
            )
        own = self._message
        return [NewMessage(own.body, ttl, delay, self._checksum, attributes=own.attributes)]


def _due_instants(messages: Sequence[PostedMessage], clock: Clock) -> dict[int, datetime | None]:
    """By index, when those messages are due that have a `not_before`, by the service's clock; None: now."""
    due_at: dict[int, datetime | None] = {}
    for index, message in enumerate(messages):
        if message.not_before is msgspec.UNSET:
            continue
        if message.delay is not msgspec.UNSET:
            raise ValidationFailed("A message has not_before or delay, not both")
        instant = parse_instant("not_before", message.not_before)
        check_ahead("not_before", instant, clock.host_now())
        due = clock.of_host(instant)
        due_at[index] = due if due > clock.now() else None
    return due_at


def _checksum(body: msgspec.Raw) -> str | None:
    """MD5 over the body as Python's `json.dumps` writes it by default; null bodies have none."""
    try:
        value = json.loads(bytes(body))
        if value is None:
            return None
        text = json.dumps(value)
    except RecursionError as error:
        raise BodyInvalid(f"The JSON is nested deeper than {MAX_DEPTH} levels") from error
    digest = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
    return f"MD5:{digest}"
