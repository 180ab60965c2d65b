"""Between documents and models: instants, ids, and the functions of messages."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

import bson
from bson import Int64
from bson.raw_bson import RawBSONDocument

from zaqar_notify.errors import CannotDecrypt
from zaqar_notify.models import (
    INTERNAL_PROJECT,
    JsonObject,
    Leaving,
    Message,
    NewMessage,
    Origin,
    QueueRef,
)
from zaqar_notify.rules.encryption import is_envelope
from zaqar_notify.storage import ids
from zaqar_notify.storage.ids import POSITION_BYTES, POSITIONS_PER_MS, SALT_BYTES
from zaqar_notify.storage.mongodb.connection import Document
from zaqar_notify.storage.packing import packed, unpacked
from zaqar_notify.storage.sealing import Sealing
from zaqar_notify.storage.values import from_json, from_ms, instants_of, to_ms

FREE = 0
"""`due` of a free message; it sorts after messages that fell due (negative)."""
SERVER_POSITION = {"$multiply": [{"$toLong": "$$NOW"}, Int64(POSITIONS_PER_MS)]}
"""The position of the server's present, in an update. New positions are not before it, so that a queue
that comes back has new ones. On one queue positions only grow, even if the clock goes back."""
HAS_HEAD: Document = {"rules": {"$ne": None}}
"""Of the documents of queues: those that are there."""
BEHIND_INTERNAL = f"{INTERNAL_PROJECT}\x01"
BEHIND_ALL = "\U0010ffff"
"""Keys behind those of internal queues, and behind those of all queues."""
QUEUE_ID_BYTES = 12

# A type, a name, a length where it is known, and a subtype: https://bsonspec.org/spec.html
_ID = b"\x05_id\0" + (QUEUE_ID_BYTES + POSITION_BYTES).to_bytes(4, "little") + b"\0"
_QUEUE = b"\x05queue\0" + QUEUE_ID_BYTES.to_bytes(4, "little") + b"\0"
_BODY = b"\x05body\0"


def queue_key(ref: QueueRef) -> str:
    """The `_id` of a queue's document."""
    return f"{ref.project}\0{ref.name}"


def to_ref(key: str) -> QueueRef:
    """The queue of the document with this `_id`."""
    project, _, name = key.partition("\0")
    return QueueRef(project, name)


def new_queue_id() -> bytes:
    return secrets.token_bytes(QUEUE_ID_BYTES)


def place(queue: bytes, position: int) -> bytes:
    """The `_id` of the document at a position of a queue."""
    return queue + position.to_bytes(POSITION_BYTES, "big")


def position_of(stored: Document) -> int:
    """The position of a document in its queue."""
    return position_at(stored["_id"])


def position_at(at: bytes) -> int:
    """The position of the document with this `_id`."""
    return int.from_bytes(at[QUEUE_ID_BYTES:], "big")


def salt_of(queue: bytes) -> bytes:
    """The end of all ids of this life of the queue."""
    return queue[:SALT_BYTES]


def to_id(queue: bytes, position: int) -> str:
    return ids.to_id(position, salt_of(queue))


def is_of(queue: bytes, message_id: str) -> bool:
    """Whether a well-formed id was given out by this queue."""
    return ids.is_of(salt_of(queue), message_id)


def id_of(stored: Document) -> str:
    moved_id: str | None = stored.get("moved_id")
    if moved_id is not None:
        return moved_id
    return _id_at(stored["_id"])


def _id_at(at: bytes) -> str:
    """The id that was given out for a place in a queue."""
    return (at[QUEUE_ID_BYTES:] + at[:SALT_BYTES]).hex()


def new_rules(ref: QueueRef) -> str | None:
    """The rules of a queue that a write meets for the first time: an internal queue gets a head by it."""
    return "{}" if ref.project == INTERNAL_PROJECT else None


def to_rules(stored: Document) -> JsonObject | None:
    """The rules of a queue's head; None when it has none."""
    rules = stored.get("rules")
    return None if rules is None else from_json(rules)


def new_documents(
    messages: Sequence[NewMessage], queue: bytes, first: int, *, client_id: str, now: datetime
) -> Iterator[RawBSONDocument]:
    """New messages as they are stored, from the position `first` of a queue on.

    By hand, in half the time that the library takes for a post of ten: the fields that its messages
    have in common are encoded once, and bodies are only copied.
    """
    shared: dict[tuple[int, int, Origin | None, datetime | None], bytes] = {}
    for position, message in enumerate(messages, first):
        life = (message.ttl, message.delay, message.origin, message.not_before)
        fields = shared.get(life)
        if fields is None:
            fields = shared[life] = _elements(_shared_fields(message, client_id, now))
        head = _ID + place(queue, position) + _QUEUE + queue
        stored = packed(message)
        body = _BODY + len(stored).to_bytes(4, "little") + b"\0" + stored
        own = _own_fields(message)
        size = 4 + len(head) + len(fields) + len(body) + len(own) + 1
        yield RawBSONDocument(
            b"".join((size.to_bytes(4, "little"), head, fields, body, own, b"\0"))
        )


def _own_fields(message: NewMessage) -> bytes:
    """The checksum; of an encrypted message, which has that in its body, the key."""
    if message.key_id is not None:
        return _elements({"key_id": message.key_id})
    return b"" if message.checksum is None else _elements({"checksum": message.checksum})


def _shared_fields(message: NewMessage, client_id: str, now: datetime) -> Document:
    instants, origin = instants_of(message, to_ms(now)), message.origin
    return {
        "due": -instants.held_until if instants.held_until else FREE,
        "held_until": instants.held_until,
        "claim_count": 0,
        "client": client_id,
        "ttl": message.ttl,
        "posted_at": from_ms(instants.posted_at),
        "expires_at": from_ms(instants.expires_at),
        **({} if origin is None else {"moved_id": origin.id}),
    }


def held_until_of(message: NewMessage, now: datetime) -> int:
    """The millisecond at which the message's delay ends; 0 without one."""
    return instants_of(message, to_ms(now)).held_until


def _elements(document: Document) -> bytes:
    """A document's BSON without its length and its end."""
    return bson.encode(document)[4:-1]


_OF_ITS_STATE = ("claim", "claim_ttl", "kept", "leaving")
"""Fields that a message leaves behind when it moves to another queue."""


def to_moved(
    stored: Document, *, queue: bytes, position: int, ttl: int | None, now: datetime
) -> Document:
    """A message of another queue as it is stored in this one: free, uncounted, its life anew."""
    ttl = ttl or stored["ttl"]
    return {
        **{name: value for name, value in stored.items() if name not in _OF_ITS_STATE},
        "_id": place(queue, position),
        "queue": queue,
        "due": FREE,
        "held_until": 0,
        "claim_count": 0,
        "ttl": ttl,
        "expires_at": now + timedelta(seconds=ttl),
        "moved_id": id_of(stored),
    }


def to_leaving(stored: Document) -> Leaving:
    """A message that leaves its queue for one of another store; it has its clear body."""
    body, attributes = unpacked(stored["body"])
    checksum = stored.get("checksum")
    message = NewMessage(body, stored["ttl"], checksum=checksum, attributes=attributes)
    origin = Origin(id_of(stored), stored["posted_at"])
    place = _id_at(stored["_id"])
    return Leaving(message, origin, stored["client"], place, is_encrypted="was_encrypted" in stored)


def live_claim(stored: Document, now: int) -> str | None:
    """The claim that holds the message at the millisecond `now`."""
    return stored.get("claim") if stored["held_until"] > now else None


def to_message(stored: Document, now: int) -> Message:
    body, attributes = unpacked(stored["body"])
    return Message(
        id=id_of(stored),
        body=body,
        ttl=stored["ttl"],
        posted_at=stored["posted_at"],
        expires_at=stored["expires_at"],
        claim_id=live_claim(stored, now),
        claim_count=stored["claim_count"],
        checksum=stored.get("checksum"),
        attributes=attributes,
    )


def opened(stored: Document, ref: QueueRef, sealing: Sealing) -> Document:
    """A message of the queue with its clear body, and without its key, so that it is not opened twice.

    Raises:
        CannotDecrypt: It has none that can be read.
    """
    if "key_id" not in stored and not is_envelope(stored["body"]):
        return stored
    content = sealing.open(ref, stored["client"], stored["body"])
    others = {name: value for name, value in stored.items() if name != "key_id"}
    clear = {"body": content.body, "checksum": content.checksum, "was_encrypted": True}
    return {**others, **clear}


def readable(found: Iterable[Document], ref: QueueRef, sealing: Sealing) -> list[Document]:
    """Those of the queue's messages that can be decrypted, with their clear bodies."""
    clear = []
    for stored in found:
        with suppress(CannotDecrypt):
            clear.append(opened(stored, ref, sealing))
    return clear


def under_known_keys(sealing: Sealing) -> Document:
    """The condition on messages for which there is a key, or that need none."""
    return {"key_id": {"$in": [None, *sealing.keys.ids]}}


def key_shard(ref: QueueRef) -> bytes:
    """The `queue` of a queue's remembered posts: they outlive its deletion."""
    return hashlib.sha256(queue_key(ref).encode()).digest()[:QUEUE_ID_BYTES]


def distinct(ids: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(ids))
