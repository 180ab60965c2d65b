"""Attributes of messages in the stores: they stand before the body, in its place (docs/decisions/0021).

A body with attributes is stored as

    1 byte      the mark, 2: neither JSON text nor an envelope of `rules.encryption` begins with it
    4 bytes     length of the attributes
    1 + n       attributes, body

An encrypted message has this in its envelope. So a store copies, moves and encrypts attributes with the body, and
messages without attributes are stored as they always were.
"""

from __future__ import annotations

from zaqar_notify.models import NewMessage

PACKED = b"\x02"
LENGTH_BYTES = 4
_START = len(PACKED) + LENGTH_BYTES


def packed(message: NewMessage) -> bytes:
    """The message's body as it is stored, or as it is encrypted, with its attributes."""
    attributes = message.attributes
    if attributes is None:
        return message.body
    length = len(attributes).to_bytes(LENGTH_BYTES, "big")
    return b"".join((PACKED, length, attributes, message.body))


def unpacked(stored: bytes) -> tuple[bytes, bytes | None]:
    """The body and the attributes of what `packed` made."""
    if stored[:1] != PACKED:
        return stored, None
    end = _START + int.from_bytes(stored[1:_START], "big")
    return stored[end:], stored[_START:end]
