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
from zaqar_notify.models import DeadLetter, Leaving, NewMessage, QueueRef
from zaqar_notify.rules.attributes import raw
from zaqar_notify.settings import Settings
from zaqar_notify.storage.base import Carrier
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


def _outbox(source: QueueRef, settings: Settings) -> QueueRef:
    return outbox_ref(partition_of(source, settings.delivery_partitions))
