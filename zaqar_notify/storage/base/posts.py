"""Posts: the messages of a request, and the key under which a client may repeat it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import msgspec

from zaqar_notify.errors import IdempotencyKeyReused
from zaqar_notify.models import JsonObject, NewMessage, QueueRef

_OF_QUEUE = " "
"""Clients' keys have no blanks."""


class IdempotencyKey(msgspec.Struct, frozen=True):
    """A client's name for one post, with a digest of the posted messages; `former` are digests of the same
    messages as they may have been stored before keys of encryption changed."""

    key: str
    fingerprint: bytes
    keep_seconds: int
    former: tuple[bytes, ...] = ()

    def of(self, queue: str) -> IdempotencyKey:
        """The key where a post for this queue is stored on another one, which may have the same key of its own."""
        return msgspec.structs.replace(self, key=f"{queue}{_OF_QUEUE}{self.key}")

    def check(self, stored: bytes) -> None:
        """Compare the post with the one that was stored under the key.

        Raises:
            IdempotencyKeyReused: That was another post.
        """
        if stored != self.fingerprint and stored not in self.former:
            raise IdempotencyKeyReused(self.key.rpartition(_OF_QUEUE)[2])


class Post(ABC):
    """The messages of one request, before their queue's metadata is known.

    The driver calls `messages_for` and `jobs` with the rules and the subscriptions that the queue's head
    has in the very write that stores the messages. The methods are pure and quick: the driver may call
    them earlier, with a head that it read before, and again if the head has changed since.
    """

    client_id: str
    idempotency_key: IdempotencyKey | None = None
    encrypts: bool = False
    """Whether its messages are encrypted, whatever their queue asks for; given a key."""
    is_kept: bool = True
    """Whether the messages are stored on their queue. If not, they get ids all the same, and only the jobs, and
    the idempotency key, are stored."""
    notifies_later: bool = False
    """Whether its jobs are stored although the queue is not subscribed to: they are due later, and notify those that
    are subscribed then."""

    @abstractmethod
    def messages_for(self, rules: JsonObject) -> Sequence[NewMessage]:
        """The messages as they are to be stored on a queue of these rules (see `Head`).

        Raises:
            ValidationFailed: They break one of the queue's own limits. Nothing is stored.
        """

    @abstractmethod
    def jobs(
        self, rules: JsonObject, ids: Sequence[str], messages: Sequence[NewMessage]
    ) -> Sequence[tuple[QueueRef, NewMessage]]:
        """The fan-out jobs that deliver `messages`, with the internal queue each belongs to.

        Asked only when the queue is subscribed to, or the post `notifies_later`.

        Args:
            rules: The rules that `messages_for` was given for these `messages`.
        """


class ReadyPost(Post):
    """Messages that are stored as they are, and of which no subscriber is notified."""

    def __init__(
        self,
        messages: Sequence[NewMessage],
        *,
        client_id: str,
        idempotency_key: IdempotencyKey | None = None,
        encrypts: bool = False,
    ) -> None:
        self.client_id = client_id
        self.encrypts = encrypts
        self.idempotency_key = idempotency_key
        self._messages = messages

    def messages_for(self, rules: JsonObject) -> Sequence[NewMessage]:
        return self._messages

    def jobs(
        self, rules: JsonObject, ids: Sequence[str], messages: Sequence[NewMessage]
    ) -> Sequence[tuple[QueueRef, NewMessage]]:
        return ()
