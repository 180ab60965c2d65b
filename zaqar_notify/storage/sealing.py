"""Encryption at rest of messages, under all interfaces of every driver (docs/decisions/0012).

A driver seals a post before it asks for its messages, and opens what it reads before it hands it out. Sealed
are messages of queues that ask for it, and all messages of internal queues, since jobs and deliveries carry
clients' bodies. Without keys, nothing is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import msgspec

from zaqar_notify.errors import CannotDecrypt
from zaqar_notify.metadata import ENCRYPT
from zaqar_notify.models import INTERNAL_PROJECT, JsonObject, NewMessage, QueueRef
from zaqar_notify.rules.encryption import ENVELOPE_BYTES, NO_KEYS, Keyring, Kind
from zaqar_notify.storage.base import IdempotencyKey, Post
from zaqar_notify.storage.packing import packed

logger = logging.getLogger(__name__)

OVERHEAD_BYTES = ENVELOPE_BYTES + 1
"""So much longer is the stored body of an encrypted message than the clear body, the checksum if there is one,
the key's id and the project."""

MOST_TOLD = 1000
TOLD_EVERY_SECONDS = 60.0
"""Between two log records about one key, in one process."""


class Content(msgspec.Struct, frozen=True):
    """The parts of a message that its envelope keeps; attributes stand before the body (`storage.packing`)."""

    body: bytes
    checksum: str | None


_told_at: dict[str, float] = {}
"""By the ids of keys."""


def say_locked(error: CannotDecrypt) -> None:
    """Log that something can't be decrypted, now and then for each key."""
    now = time.monotonic()
    if now >= _told_at.get(error.key_id, 0.0):
        if len(_told_at) >= MOST_TOLD:
            _told_at.clear()
        _told_at[error.key_id] = now + TOLD_EVERY_SECONDS
        logger.error(
            "Something can't be decrypted: messages are left out, and deliveries wait",
            extra={"action": "decryption_failed", "key_id": error.key_id, "error": str(error)},
        )


class Sealing:
    """Seals and opens the messages of one open store with its keys."""

    def __init__(self, keys: Keyring = NO_KEYS) -> None:
        self.keys = keys

    def sealed(self, ref: QueueRef, post: Post) -> Post:
        """The post with its messages and jobs as they are to be stored."""
        return SealedPost(ref, post, self.keys) if self.keys else post

    def sealed_job(self, project: str, job: NewMessage) -> NewMessage:
        """A message for an internal queue, about a project's message, as it is to be stored."""
        return _sealed(job, project, self.keys) if self.keys else job

    def open(self, ref: QueueRef, client_id: str, stored: bytes) -> Content:
        """The content of the envelope of a message on the queue.

        Raises:
            CannotDecrypt: The message has to be left out; the log says so now and then.
        """
        try:
            return _content(self.keys.open(Kind.MESSAGE, ref.project or client_id, stored))
        except CannotDecrypt as error:
            say_locked(error)
            raise


def is_encrypted(ref: QueueRef, rules: JsonObject) -> bool:
    """Whether the queue's messages are to be encrypted, given a key."""
    return ref.project == INTERNAL_PROJECT or bool(rules.get(ENCRYPT))


class SealedPost(Post):
    """A post whose messages are encrypted as the queue's rules say, and whose jobs always are."""

    def __init__(self, ref: QueueRef, post: Post, keys: Keyring) -> None:
        self.client_id = post.client_id
        self.is_kept = post.is_kept
        self.notifies_later = post.notifies_later
        self._post = post
        self._keys = keys
        self._ref = ref
        self._project = ref.project or post.client_id
        self._clear: Sequence[NewMessage] = ()
        if post.idempotency_key is not None:
            self.idempotency_key = _with_digest(post.idempotency_key, self._project, keys)

    def messages_for(self, rules: JsonObject) -> Sequence[NewMessage]:
        self._clear = self._post.messages_for(rules)
        if self._post.encrypts or is_encrypted(self._ref, rules):
            return [_sealed(message, self._project, self._keys) for message in self._clear]
        return self._clear

    def jobs(
        self, rules: JsonObject, ids: Sequence[str], messages: Sequence[NewMessage]
    ) -> Sequence[tuple[QueueRef, NewMessage]]:
        jobs = self._post.jobs(rules, ids, self._clear)
        return [(outbox, _sealed(job, self._project, self._keys)) for outbox, job in jobs]


def _sealed(message: NewMessage, project: str, keys: Keyring) -> NewMessage:
    """The message with its body, its attributes and its checksum in an envelope: a checksum beside it would betray a
    short body."""
    checksum = (message.checksum or "").encode()
    content = bytes((len(checksum),)) + checksum + packed(message)
    return msgspec.structs.replace(
        message,
        body=keys.seal(Kind.MESSAGE, project, content),
        attributes=None,
        checksum=None,
        key_id=keys.ids[0],
    )


def _content(content: bytes) -> Content:
    end = 1 + content[0]
    return Content(content[end:], content[1:end].decode() or None)


def _with_digest(key: IdempotencyKey, project: str, keys: Keyring) -> IdempotencyKey:
    """The key with a fingerprint that can't be compared with guesses at a short body."""
    fingerprint, *former = keys.digests(project, key.fingerprint)
    return msgspec.structs.replace(key, fingerprint=fingerprint, former=(*former, key.fingerprint))
