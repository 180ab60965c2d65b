"""Dead letters as messages of clients' queues: those that claims move, deliveries that were given up, and notices of
disabled subscriptions.

A delivery that was given up is the original message with attributes that say why (`ATTRIBUTES`), as SQS and SNS do it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import msgspec

from zaqar_notify.delivery.jobs import fan_out_jobs
from zaqar_notify.delivery.moves import KEY_SECONDS
from zaqar_notify.delivery.outgoing import Outgoing, delivery_id
from zaqar_notify.delivery.partitions import partition_of
from zaqar_notify.delivery.records import (
    VERSION,
    InternalMessage,
    Letter,
    Move,
    OwedMessage,
    internal_message,
)
from zaqar_notify.delivery.subscribers import shown_subscriber
from zaqar_notify.models import (
    JsonObject,
    Message,
    NewMessage,
    Origin,
    Outcome,
    QueueRef,
    Subscription,
)
from zaqar_notify.rules.attributes import OF_LETTERS, from_raw, raw, read_attributes
from zaqar_notify.settings import Settings
from zaqar_notify.storage.base import IdempotencyKey, ReadyPost
from zaqar_notify.storage.ids import to_position
from zaqar_notify.storage.internal import outbox_ref
from zaqar_notify.storage.values import to_ms

CLIENT = "zaqar-notify"
"""The client id of letters; it is no UUID."""

QUEUE, SUBSCRIPTION, MESSAGE, ATTEMPTS, ERROR = ATTRIBUTES = tuple(
    f"{OF_LETTERS}{name}" for name in ("queue", "subscription", "message_id", "attempts", "error")
)
MAX_ERROR_CHARACTERS = 256

_by_name = msgspec.json.Decoder(dict[str, msgspec.Raw])


class LetterPost(ReadyPost):
    """A message for a queue whatever its limits are; its subscribers are notified."""

    def __init__(
        self,
        ref: QueueRef,
        message: NewMessage,
        *,
        key: IdempotencyKey,
        settings: Settings,
        client_id: str = CLIENT,
        encrypts: bool = False,
        hops: int = 0,
        visited: Sequence[str] = (),
        request_id: str = "",
    ) -> None:
        super().__init__([message], client_id=client_id, idempotency_key=key, encrypts=encrypts)
        self._ref = ref
        self._settings = settings
        self._hops = hops
        self._visited = visited
        self._request_id = request_id

    def jobs(
        self, rules: JsonObject, ids: Sequence[str], messages: Sequence[NewMessage]
    ) -> Sequence[InternalMessage]:
        return fan_out_jobs(
            self._ref,
            ids,
            messages,
            settings=self._settings,
            hops=self._hops,
            visited=self._visited,
            request_id=self._request_id,
        )


class Source(msgspec.Struct, frozen=True):
    """The delivery that a letter was: to a subscription of `queue`, of a message with these attributes."""

    queue: str
    subscription_id: str
    message_id: str
    attributes: bytes | None


def given_up_letter(
    outgoing: Outgoing,
    subscription: Subscription,
    target: str,
    *,
    outcome: Outcome,
    attempts: int,
    is_encrypted: bool,
    settings: Settings,
) -> InternalMessage:
    """The job that stores a delivery that was given up on a dead-letter queue.

    Its key is that of the delivery, and of the replay that brought the delivery back the last time: a job that is run
    again stores nothing more, and a delivery that is given up again is stored again.
    """
    queue = subscription.queue
    answer = outcome.detail or (f"status {outcome.status}" if outcome.status else "no answer")
    said = {
        QUEUE: ("String", queue.name),
        SUBSCRIPTION: ("String", subscription.id),
        MESSAGE: ("String", outgoing.message_id),
        ATTEMPTS: ("Number", attempts),
        ERROR: ("String", answer[:MAX_ERROR_CHARACTERS]),
    }
    message = OwedMessage(
        outgoing.message_id,
        settings.max_message_ttl,
        outgoing.owed.body,
        attributes=raw(_with(outgoing.message, said)),
    )
    own_id = delivery_id(subscription.id, outgoing.message_id)
    letter = Letter(
        VERSION,
        queue.project,
        queue.name,
        subscription.id,
        target,
        message,
        # No client's key has a space.
        f"given up {own_id} {outgoing.replayed_by}",
        hops=outgoing.hops + 1,
        visited=outgoing.visited,
        request_id=outgoing.request_id,
        is_encrypted=is_encrypted,
    )
    return letter_record(letter, settings)


def disabled_notice(subscription: Subscription, target: str, settings: Settings) -> InternalMessage:
    """The job that tells a queue that a subscription is disabled, once it is. It may be stored several times."""
    queue, at = subscription.queue, subscription.disabled_at
    said = {
        "event": "subscription.disabled",
        "subscription_id": subscription.id,
        "queue": queue.public_name,
        "subscriber": shown_subscriber(subscription.subscriber),
        "reason": subscription.disabled_reason,
        "detail": subscription.disabled_detail,
        "since": at,
        "failing_since": subscription.failing_since,
    }
    body = msgspec.Raw(msgspec.json.encode(said))
    letter = Letter(
        VERSION,
        queue.project,
        queue.name,
        subscription.id,
        target,
        OwedMessage(subscription.id, settings.max_message_ttl, body),
        f"disabled {subscription.id} {0 if at is None else to_ms(at)}",
        disabled_at=at,
    )
    return letter_record(letter, settings)


def letter_record(letter: Letter, settings: Settings, *, delay: int = 0) -> InternalMessage:
    """The job, due in `delay` seconds."""
    queue = QueueRef(letter.project, letter.queue)
    outbox = outbox_ref(partition_of(queue, settings.delivery_partitions))
    return internal_message(outbox, letter, delay=delay)


def letter_post(letter: Letter, settings: Settings) -> LetterPost:
    """The message on its dead-letter queue."""
    owed = letter.message
    message = NewMessage(bytes(owed.body), owed.ttl, attributes=from_raw(owed.attributes))
    return LetterPost(
        QueueRef(letter.project, letter.target),
        message,
        key=IdempotencyKey(letter.key, b"letter", KEY_SECONDS),
        settings=settings,
        encrypts=letter.is_encrypted,
        hops=letter.hops,
        visited=letter.visited,
        request_id=letter.request_id,
    )


def moved_post(move: Move, settings: Settings) -> LetterPost:
    """The dead letter as a claim moves it: under its id. A queue takes it once for each time that it left the source."""
    owed = move.message
    origin = Origin(owed.id, move.posted_at)
    letter = NewMessage(
        bytes(owed.body),
        owed.ttl,
        checksum=move.checksum,
        origin=origin,
        attributes=from_raw(owed.attributes),
    )
    # No client's key has a space.
    key = f"dead letter {move.queue} {move.place}"
    return LetterPost(
        QueueRef(move.project, move.target),
        letter,
        key=IdempotencyKey(key, owed.id.encode(), KEY_SECONDS),
        settings=settings,
        client_id=move.client_id,
        encrypts=move.is_encrypted,
    )


def source_of(message: Message) -> Source | None:
    """The delivery that the message was before it was given up; None: it was none.

    Its id becomes part of headers, so a text that is no id, of a letter that is older than the rule against clients'
    own ones, is none.
    """
    known = read_attributes(message.attributes)
    if not {QUEUE, SUBSCRIPTION, MESSAGE} <= known.keys():
        return None
    if to_position(str(known[MESSAGE].value)) is None:
        return None
    others = {name: text for name, text in _texts(message).items() if name not in ATTRIBUTES}
    return Source(
        str(known[QUEUE].value),
        str(known[SUBSCRIPTION].value),
        str(known[MESSAGE].value),
        _joined(others) if others else None,
    )


def _with(message: NewMessage, more: Mapping[str, tuple[str, object]]) -> bytes:
    said = {
        name: msgspec.Raw(
            json.dumps({"type": kind, "value": value}, separators=(",", ":")).encode()
        )
        for name, (kind, value) in more.items()
    }
    return _joined({**_texts(message), **said})


def _texts(message: NewMessage | Message) -> dict[str, msgspec.Raw]:
    """The attributes by name, each as the text that it is."""
    return {} if message.attributes is None else _by_name.decode(message.attributes)


def _joined(texts: Mapping[str, msgspec.Raw]) -> bytes:
    """The canonical text; see `rules.attributes`."""
    return msgspec.json.encode(texts)
