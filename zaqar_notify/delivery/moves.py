"""Dead letters to a queue of another message store: the job that carries one, and the post that ends it."""

from __future__ import annotations

import msgspec

from zaqar_notify.delivery.partitions import partition_of
from zaqar_notify.delivery.records import (
    PARKING,
    InternalMessage,
    Move,
    OwedMessage,
    internal_message,
)
from zaqar_notify.models import DeadLetter, Leaving, NewMessage, Origin, QueueRef
from zaqar_notify.rules.attributes import from_raw, raw
from zaqar_notify.settings import Settings
from zaqar_notify.storage.base import Carrier, IdempotencyKey, ReadyPost
from zaqar_notify.storage.internal import outbox_ref

KEY_SECONDS = 30 * 86400
"""How long a queue knows which dead letters it got: longer than a job may stand still."""


def carrier(source: QueueRef, to: DeadLetter, settings: Settings) -> Carrier:
    """Takes dead letters of the source to a queue of another message store."""

    def job(leaving: Leaving) -> NewMessage:
        message, origin = leaving.message, leaving.origin
        move = Move(
            PARKING,
            source.project,
            source.name,
            to.queue.name,
            OwedMessage(
                origin.id,
                to.ttl or message.ttl,
                msgspec.Raw(message.body),
                attributes=raw(message.attributes),
            ),
            leaving.place,
            leaving.client_id,
            origin.posted_at,
            message.checksum,
            leaving.is_encrypted,
        )
        return move_record(move, settings)[1]

    return Carrier(_outbox(source, settings), job)


def move_record(move: Move, settings: Settings, *, delay: int = 0) -> InternalMessage:
    """The job, due in `delay` seconds."""
    outbox = _outbox(QueueRef(move.project, move.queue), settings)
    return internal_message(outbox, move, delay=delay)


def moved_post(move: Move) -> ReadyPost:
    """The dead letter as a claim moves it: under its id, unseen by subscribers. A queue takes it once for
    each time that it left the source."""
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
    return ReadyPost(
        [letter],
        client_id=move.client_id,
        idempotency_key=IdempotencyKey(key, owed.id.encode(), KEY_SECONDS),
        encrypts=move.is_encrypted,
    )


def _outbox(source: QueueRef, settings: Settings) -> QueueRef:
    return outbox_ref(partition_of(source, settings.delivery_partitions))
