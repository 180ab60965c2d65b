"""Keys that encrypt at rest, and the envelope of what they encrypt (docs/decisions/0012).

An envelope begins with a byte that no JSON text begins with, so both can stand in one place:

    1 byte      version, 1
    1 + n       length and text of the key's id
    2 + n       length and text of the project whose data it is
    16 bytes    random id
    12 bytes    random nonce
    the rest    AES-256-GCM, with its tag; all before the nonce is authenticated, too

Each envelope has a key of its own, which HKDF makes of the named key, the kind of the content and the random id.
So the number of envelopes under one key has no bound that matters, and an envelope opens in the place of its kind alone.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from zaqar_notify.errors import CannotDecrypt

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
KEY_ID_RULE = "1 to 32 characters of A-Z a-z 0-9 . _ -"
_KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,32}", re.ASCII)

VERSION = b"\x01"
ID_BYTES = 16
NONCE_BYTES = 12
TAG_BYTES = 16
ENVELOPE_BYTES = 1 + 1 + 2 + ID_BYTES + NONCE_BYTES + TAG_BYTES
"""So much longer is an envelope than its content, the key's id and the project."""
_OWN_KEY = b"zaqar-notify envelope"
_DIGEST = b"zaqar-notify digest"


class Kind(StrEnum):
    """The content of an envelope."""

    MESSAGE = "message"
    SUBSCRIPTION = "subscription"
    POOL = "pool"
    SIGNING_KEY = "signing key"


class Envelope(msgspec.Struct, frozen=True):
    """The parts of an envelope that can be read without a key."""

    key_id: str
    project: str
    head: bytes
    """All before the nonce."""
    id: bytes
    nonce: bytes
    encrypted: bytes


def is_envelope(stored: bytes) -> bool:
    """Whether it is one, and no JSON text."""
    return stored[:1] == VERSION


class Keyring:
    """Keys by their ids. The first one encrypts, all decrypt; an empty keyring encrypts nothing."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._keys = dict(keys)
        self.ids = tuple(keys)
        if keys:
            # Only a process with keys pays for the library.
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
            from cryptography.hazmat.primitives.hashes import SHA256
            from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

            self._cipher, self._hash, self._expand = AESGCM, SHA256(), HKDFExpand

    def __bool__(self) -> bool:
        return bool(self._keys)

    def __repr__(self) -> str:
        return f"<Keyring {', '.join(self.ids)}>"

    def seal(self, kind: Kind, project: str, content: bytes) -> bytes:
        """An envelope with the content, which is of that project."""
        key_id = self.ids[0]
        random = os.urandom(ID_BYTES + NONCE_BYTES)
        own_id, nonce = random[:ID_BYTES], random[ID_BYTES:]
        head = b"".join((VERSION, _text(key_id, 1), _text(project, 2), own_id))
        return head + nonce + self._own_cipher(key_id, kind, own_id).encrypt(nonce, content, head)

    def open(self, kind: Kind, project: str, stored: bytes) -> bytes:
        """The content of an envelope that must be of that kind and project.

        Raises:
            CannotDecrypt: Its key is not here, or it is damaged, or of another kind or project.
        """
        envelope = read_envelope(stored)
        if envelope.key_id not in self._keys:
            raise CannotDecrypt(envelope.key_id, is_known=False)
        if envelope.project != project:
            raise CannotDecrypt(envelope.key_id, is_known=True)
        return self._open(kind, envelope)

    def resealed(self, kind: Kind, stored: bytes) -> bytes:
        """The envelope's content in a new envelope of the same project, under the first key.

        Raises:
            CannotDecrypt: As by `open`.
        """
        project = read_envelope(stored).project
        return self.seal(kind, project, self.open(kind, project, stored))

    def digests(self, project: str, content: bytes) -> Sequence[bytes]:
        """Digests that can't be compared with guesses without the keys; one for each key, the first key's first."""
        prefix = _DIGEST + _text(project, 2)
        return [hmac.digest(key, prefix + content, "sha256") for key in self._keys.values()]

    def _open(self, kind: Kind, envelope: Envelope) -> bytes:
        from cryptography.exceptions import InvalidTag

        cipher = self._own_cipher(envelope.key_id, kind, envelope.id)
        try:
            return cipher.decrypt(envelope.nonce, envelope.encrypted, envelope.head)
        except (InvalidTag, ValueError) as error:
            raise CannotDecrypt(envelope.key_id, is_known=True) from error

    def _own_cipher(self, key_id: str, kind: Kind, own_id: bytes) -> AESGCM:
        info = b"".join((_OWN_KEY, _text(kind, 1), own_id))
        expanded = self._expand(self._hash, KEY_BYTES, info)
        return self._cipher(expanded.derive(self._keys[key_id]))


NO_KEYS = Keyring({})


def read_envelope(stored: bytes) -> Envelope:
    """The parts of an envelope.

    Raises:
        CannotDecrypt: It is cut off, or is none.
    """
    key_id, at = _read_text(stored, 1, 1)
    if not is_envelope(stored) or not _KEY_ID.fullmatch(key_id):
        raise CannotDecrypt("", is_known=True)
    project, at = _read_text(stored, at, 2)
    end = at + ID_BYTES
    if len(stored) < end + NONCE_BYTES:
        raise CannotDecrypt(key_id, is_known=True)
    return Envelope(
        key_id,
        project,
        head=stored[:end],
        id=stored[at:end],
        nonce=stored[end : end + NONCE_BYTES],
        encrypted=stored[end + NONCE_BYTES :],
    )


def parse_keys(words: Sequence[str]) -> Keyring:
    """The keys of a setting, each `id:base64`.

    Raises:
        ValueError: One is wrong; the sentence gives its place in the list, and never shows a key.
    """
    keys: dict[str, bytes] = {}
    for number, word in enumerate(words, 1):
        key_id, colon, text = word.partition(":")
        if not colon or not _KEY_ID.fullmatch(key_id):
            raise ValueError(
                f"entry {number} must be id:base64key, with an id of {KEY_ID_RULE}; "
                "`openssl rand -base64 32` makes a key"
            )
        if key_id in keys:
            raise ValueError(f"entry {number} has the id {key_id!r} of an entry before it")
        keys[key_id] = _key(text, number)
    return Keyring(keys)


def _key(text: str, number: int) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"the key of entry {number} is not base64") from None
    if len(key) != KEY_BYTES:
        raise ValueError(
            f"the key of entry {number} has {len(key)} bytes; AES-256 takes {KEY_BYTES}, as "
            "`openssl rand -base64 32` makes them"
        )
    return key


def _text(text: str, length_bytes: int) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(length_bytes, "big") + encoded


def _read_text(stored: bytes, at: int, length_bytes: int) -> tuple[str, int]:
    """The text at a place, and the place behind it; as much of it as there is."""
    start = at + length_bytes
    end = start + int.from_bytes(stored[at:start], "big")
    return stored[start:end].decode(errors="replace"), end
