"""Between documents and the parts of a queue that is read whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TypeAlias

from pymongo import DeleteMany, ReplaceOne, UpdateOne

from zaqar_notify.models import QueueRef
from zaqar_notify.storage.base import CANCELLED_KEPT
from zaqar_notify.storage.base.transfer import (
    Part,
    StoredCancellation,
    StoredKey,
    StoredMessage,
)
from zaqar_notify.storage.ids import LAST_POSITION, POSITION_BYTES, SALT_BYTES, life_of, to_position
from zaqar_notify.storage.mongodb.cancelling import end_id
from zaqar_notify.storage.mongodb.connection import Document
from zaqar_notify.storage.mongodb.documents import (
    FREE,
    QUEUE_ID_BYTES,
    key_shard,
    place,
    position_at,
    position_of,
    salt_of,
    to_id,
)
from zaqar_notify.storage.mongodb.indexes import BY_ID, BY_MOVED_ID
from zaqar_notify.storage.values import MILLISECOND, from_ms, to_ms

Statement: TypeAlias = ReplaceOne[Document] | UpdateOne | DeleteMany

_KEPT_MS = CANCELLED_KEPT // MILLISECOND
_NEVER = datetime(9999, 1, 1, tzinfo=UTC)
"""The end of a life whose messages were cancelled one by one, and not by its end."""


def life_id(ref: QueueRef, salt: bytes) -> bytes:
    """The `queue` of a former life that was brought here from another store."""
    digest = hashlib.sha256("\0".join((ref.project, ref.name)).encode() + salt).digest()
    return (salt + digest)[:QUEUE_ID_BYTES]


def is_place(at: bytes) -> bool:
    """Whether a message can have this `_id`: a mark of the change stream is behind all of them."""
    return len(at) == QUEUE_ID_BYTES + POSITION_BYTES and position_at(at) <= LAST_POSITION


def is_seal(stored: Document) -> bool:
    """Whether no message ever had the place of this document. A fence may have taken that of one which was never
    acknowledged."""
    return stored.keys() == {"_id", "queue", "reclaim_at"}


def to_stored(stored: Document) -> StoredMessage:
    is_held = stored["due"] != FREE
    return StoredMessage(
        position=position_of(stored),
        client=stored["client"],
        ttl=stored["ttl"],
        posted_at=to_ms(stored["posted_at"]),
        expires_at=to_ms(stored["expires_at"]),
        body=stored["body"],
        claim_count=stored["claim_count"],
        held_until=stored["held_until"] if is_held else None,
        claim=stored.get("claim") if is_held else None,
        claim_ttl=stored.get("claim_ttl", 0) if is_held else 0,
        moved_id=stored.get("moved_id"),
        checksum=stored.get("checksum"),
        key_id=stored.get("key_id"),
    )


def to_message_document(message: StoredMessage, queue: bytes) -> Document:
    held_until = message.held_until or 0
    claim = {"claim": message.claim, "claim_ttl": message.claim_ttl}
    optional = {
        "moved_id": message.moved_id,
        "checksum": message.checksum,
        "key_id": message.key_id,
        **(claim if message.claim is not None else {}),
    }
    return {
        "_id": place(queue, message.position),
        "queue": queue,
        "due": -held_until if held_until else FREE,
        "held_until": held_until,
        "claim_count": message.claim_count,
        "client": message.client,
        "ttl": message.ttl,
        "posted_at": from_ms(message.posted_at),
        "expires_at": from_ms(message.expires_at),
        "body": message.body,
        **{name: value for name, value in optional.items() if value is not None},
    }


def to_key(stored: Document) -> StoredKey:
    return StoredKey(
        stored["_id"],
        stored["fingerprint"],
        stored["first"],
        stored["count"],
        salt_of(stored["of"]),
        to_ms(stored["expires_at"]),
    )


def to_key_document(ref: QueueRef, key: StoredKey) -> Document:
    """A remembered post of which it is known that it is stored; it is in no block of this store."""
    expires_at = from_ms(key.expires_at)
    return {
        "_id": key.digest,
        "queue": key_shard(ref),
        "of": life_id(ref, key.salt),
        "head": key.first,
        "last": key.first + key.count,
        "fingerprint": key.fingerprint,
        "first": key.first,
        "count": key.count,
        "deadline": expires_at,
        "expires_at": expires_at,
        "stored": True,
    }


def to_cancellation(stored: Document) -> StoredCancellation:
    """Of a note in a message's place, or of the end of a life."""
    expires_at = to_ms(stored["reclaim_at"])
    if "former" in stored:
        return StoredCancellation(salt_of(stored["former"]).hex(), to_ms(stored["at"]), expires_at)
    queue, position = stored["queue"], position_of(stored)
    return StoredCancellation(to_id(queue, position), expires_at - _KEPT_MS, expires_at)


def add_to(part: Part, stored: Document, present: bytes) -> None:
    """Take up a document of a queue that is in its life `present`, unless it is a seal, a fence or a remembered
    post: of those, some do not count.

    The note that a life has ended means nothing for as long as that life is the present one.
    """
    if "cancelled" in stored or ("former" in stored and stored["former"] != present):
        part.cancelled.append(to_cancellation(stored))
    elif "due" in stored:
        part.messages.append(to_stored(stored))


def statements_of(ref: QueueRef, queue: bytes, part: Part) -> Sequence[Sequence[Statement]]:
    """The writes that store the part; those of a later sequence rely on the former ones."""
    documents = [to_message_document(message, queue) for message in part.messages]
    gone = [place(queue, position) for position in part.gone]
    removals: list[Statement] = []
    if gone:
        # The place may have the note that its message was cancelled.
        messages = {"queue": queue, "_id": {"$in": gone}, "due": {"$exists": True}}
        removals.append(DeleteMany(messages, hint=BY_ID))
    if moved := [one["moved_id"] for one in documents if "moved_id" in one]:
        there = [one["_id"] for one in documents]
        former = {"queue": queue, "moved_id": {"$in": moved}, "_id": {"$nin": there}}
        removals.append(DeleteMany(former, hint=BY_MOVED_ID))
    others = [to_key_document(ref, key) for key in part.keys]
    return (
        removals,
        [*_replacing(documents), *_replacing(others), *_cancelling(ref, queue, part.cancelled)],
    )


def _replacing(documents: Iterable[Document]) -> list[Statement]:
    return [
        ReplaceOne({"_id": one["_id"], "queue": one["queue"]}, one, upsert=True, hint=BY_ID)
        for one in documents
    ]


def _cancelling(
    ref: QueueRef, queue: bytes, cancelled: Iterable[StoredCancellation]
) -> list[Statement]:
    notes: list[Document] = []
    statements: list[Statement] = []
    present = salt_of(queue).hex()
    for one in cancelled:
        position, reclaim_at = to_position(one.what), from_ms(one.expires_at)
        if position is None and len(one.what) == 2 * SALT_BYTES:
            notes.append(_end(ref, one.what, from_ms(one.at), reclaim_at))
        if position is None:
            continue
        life = life_of(one.what)
        of = queue
        if life != present:
            of = life_id(ref, bytes.fromhex(life))
            statements.append(_unless_there(_end(ref, life, _NEVER, reclaim_at)))
        at = place(of, position)
        notes.append({"_id": at, "queue": of, "cancelled": True, "reclaim_at": reclaim_at})
    return [*_replacing(notes), *statements]


def _unless_there(stored: Document) -> Statement:
    named = {"_id": stored["_id"], "queue": stored["queue"]}
    return UpdateOne(named, {"$setOnInsert": stored}, upsert=True, hint=BY_ID)


def _end(ref: QueueRef, life: str, at: datetime, reclaim_at: datetime) -> Document:
    """The note that a life of the queue has ended."""
    return {
        "_id": end_id(ref, life),
        "queue": key_shard(ref),
        "former": life_id(ref, bytes.fromhex(life)),
        "at": at,
        "reclaim_at": reclaim_at,
    }
