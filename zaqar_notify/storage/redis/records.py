"""The record of a message: the part of it that never changes while it is on a queue.

    bytes 0-20   lengths of client, key id, former id (2, 1, 1); size of the clear body (4), ttl (4), instant of
                 the post (8), length of the checksum (1)
    then         client, key id, former id, checksum, body (with the attributes before it: `storage/packing.py`)

The scripts read the first fields, too (lua/common.lua). An id that a message brought from another queue is its
*former id*.
"""

from __future__ import annotations

import struct
from typing import NamedTuple, TypeAlias

import msgspec

from zaqar_notify.errors import CannotDecrypt
from zaqar_notify.models import Leaving, Message, NewMessage, Origin, QueueRef
from zaqar_notify.rules.encryption import is_envelope
from zaqar_notify.storage.packing import packed as packed_body
from zaqar_notify.storage.packing import unpacked as unpacked_body
from zaqar_notify.storage.sealing import OVERHEAD_BYTES, Sealing
from zaqar_notify.storage.values import from_ms, instants_of

_FIXED = struct.Struct(">HBBIIQB")

Row: TypeAlias = tuple[str, int, int, str, msgspec.Raw]
"""A message of a script's answer: position, expiry, instant until which it is held (0: it is not), "COUNT
CLAIM" or "", record."""


class Record(NamedTuple):
    client: str
    key_id: str | None
    former_id: str | None
    clear_size: int
    ttl: int
    posted_at: int
    checksum: str | None
    body: bytes


def to_record(ref: QueueRef, message: NewMessage, client: str, now: int) -> bytes:
    """The record of a message that is posted to the queue at `now`."""
    former = "" if message.origin is None else message.origin.id
    body = packed_body(message)
    size = clear_size(ref, body, message.key_id)
    return packed(
        Record(
            client,
            message.key_id,
            former,
            size,
            message.ttl,
            instants_of(message, now).posted_at,
            message.checksum,
            body,
        )
    )


def clear_size(ref: QueueRef, body: bytes, key_id: str | None) -> int:
    """The size of the clear body of a message on the queue."""
    if key_id is None:
        return len(body)
    return max(0, len(body) - OVERHEAD_BYTES - len(key_id) - len(ref.project.encode()))


def packed(record: Record) -> bytes:
    client, key = record.client.encode(), (record.key_id or "").encode()
    former, checksum = (record.former_id or "").encode(), (record.checksum or "").encode()
    fixed = _FIXED.pack(
        len(client),
        len(key),
        len(former),
        record.clear_size,
        record.ttl,
        record.posted_at,
        len(checksum),
    )
    return b"".join((fixed, client, key, former, checksum, record.body))


def unpacked(stored: bytes) -> Record:
    client, key, former, size, ttl, posted_at, checksum = _FIXED.unpack_from(stored)
    at_key = _FIXED.size + client
    at_former = at_key + key
    at_checksum = at_former + former
    at_body = at_checksum + checksum
    return Record(
        stored[_FIXED.size : at_key].decode(),
        stored[at_key:at_former].decode() or None,
        stored[at_former:at_checksum].decode() or None,
        size,
        ttl,
        posted_at,
        stored[at_checksum:at_body].decode() or None,
        stored[at_body:],
    )


def bytes_of(raw: msgspec.Raw) -> bytes:
    """The bytes of a string in an answer; Lua's strings need not be text."""
    view = memoryview(raw)
    return bytes(view[_HEADS.get(view[0], 1) :])


_HEADS = {0xD9: 2, 0xDA: 3, 0xDB: 5}


class StoredMessage(NamedTuple):
    """A message as a script told of it; its body may be encrypted."""

    position: str
    expires_at: int
    held_until: int
    claim_count: int
    claim: str
    record: Record

    def id(self, salt: str) -> str:
        return self.record.former_id or self.position + salt


def stored(row: Row) -> StoredMessage:
    position, expires_at, held_until, state, raw = row
    count, _, claim = state.partition(" ")
    return StoredMessage(
        position, expires_at, held_until, int(count or 0), claim, unpacked(bytes_of(raw))
    )


def opened(message: StoredMessage, ref: QueueRef, sealing: Sealing) -> StoredMessage | None:
    """The message with its clear body; None: it can't be decrypted."""
    try:
        return opened_or_refused(message, ref, sealing)
    except CannotDecrypt:
        return None


def opened_or_refused(message: StoredMessage, ref: QueueRef, sealing: Sealing) -> StoredMessage:
    """The message with its clear body.

    Raises:
        CannotDecrypt: It has none that can be read.
    """
    record = message.record
    if record.key_id is None and not is_envelope(record.body):
        return message
    content = sealing.open(ref, record.client, record.body)
    clear = record._replace(body=content.body, checksum=content.checksum)
    return message._replace(record=clear)


def to_message(message: StoredMessage, salt: str, now: int) -> Message:
    """The message of a queue of this salt, as it is at `now`."""
    record = message.record
    body, attributes = unpacked_body(record.body)
    return Message(
        id=message.id(salt),
        body=body,
        ttl=record.ttl,
        posted_at=from_ms(record.posted_at),
        expires_at=from_ms(message.expires_at),
        claim_id=message.claim or None if message.held_until > now else None,
        claim_count=message.claim_count,
        checksum=record.checksum,
        attributes=attributes,
    )


def to_leaving(message: StoredMessage, salt: str) -> Leaving:
    """The message of a queue of this salt, as it leaves; with its clear body."""
    record = message.record
    origin = Origin(message.id(salt), from_ms(record.posted_at))
    body, attributes = unpacked_body(record.body)
    return Leaving(
        NewMessage(body, record.ttl, checksum=record.checksum, attributes=attributes),
        origin,
        record.client,
        message.position + salt,
        is_encrypted=record.key_id is not None,
    )
