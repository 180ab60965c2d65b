"""Messages of queues, and waiting for them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence, Set
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

from zaqar_notify.models import Message, Page, Posted, QueueRef, QueueStats
from zaqar_notify.storage.base.posts import Post

CANCELLED_KEPT = timedelta(days=30)
"""For so long after a message was to be due a store knows that it was deleted before: longer than deliveries may
stand still."""


class Watch(ABC):
    """A consumer's or observer's wait on one queue, open from before its first look at it."""

    @abstractmethod
    async def changed(self, *, timeout_seconds: float) -> bool:
        """Wait until messages may have become visible since the last call (or since opening).

        A post, a release, a claim's expiry and a delay's end wake it, in any process of the
        cluster. Wakes may be spurious, never lost. Of the watches opened with `exclusive`, as many
        are woken as messages became visible, in the order they began to wait; a watch that is
        closed after a wake passes one on, since there may be more than it took.

        Returns:
            False when `timeout_seconds` passed, or the store is closing, without a wake.
        """

    @abstractmethod
    def wake(self) -> None:
        """Let the wait that is under way, or else the next one, end as if messages had become visible."""

    @abstractmethod
    def close(self) -> None:
        """Stop watching. Idempotent."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Messages(ABC):
    """Messages of queues, in the order of their posts."""

    @abstractmethod
    async def post(self, ref: QueueRef, post: Post, *, now: datetime) -> Posted:
        """Append messages in order; all of them or none.

        In the same atomic write: when the queue is subscribed to at `now`, or the post `notifies_later`, its jobs are appended to
        their internal queues, with the queue's project as their client; when there is an idempotency
        key, the answer is remembered under project, queue and key for `keep_seconds`. A message becomes visible
        `delay` seconds after `now` and expires `ttl` seconds after it; both count from its `not_before` if that is
        later, which is then its posting instant. One with an `origin` has its id and
        posting instant from there, and is found by that id.

        Positions follow commit order: of two posts, the second begun after the first returned, the
        first comes first; and no message ever appears at a position that a reader has passed.

        Raises:
            IdempotencyKeyReused: The key is remembered with another fingerprint.
            ValidationFailed: From `post.messages_for`; nothing was stored.
            HeadMissing: A client's queue has no head, and `post.messages_for({})` refused nothing.
        """

    @abstractmethod
    async def page(
        self,
        ref: QueueRef,
        *,
        marker: str | None,
        limit: int,
        now: datetime,
        without_client: str | None = None,
        include_claimed: bool = False,
        include_delayed: bool = False,
    ) -> Page:
        """Up to `limit` messages after `marker`, oldest first.

        A page is short only when no further message qualifies. The cost does not grow with messages
        that are waiting, claimed or expired.

        Args:
            marker: A marker of an earlier page, or the id of a message, deleted or not. Unknown or
                ill-formed: an empty page.
            without_client: Leave out messages posted under this client id.
        """

    @abstractmethod
    async def get(self, ref: QueueRef, ids: Sequence[str], *, now: datetime) -> list[Message]:
        """The messages that exist among `ids`, claimed and delayed ones too, in queue order."""

    @abstractmethod
    async def delete(
        self, ref: QueueRef, message_id: str, *, claim_id: str | None, now: datetime
    ) -> None:
        """Delete one message. A message that does not exist is no error, with any claim id.

        One that is delayed at `now` is cancelled: see `cancelled`.

        Raises:
            MessageIsClaimed: A live claim holds it, and `claim_id` is None or another live claim.
            ClaimNotHeld: `claim_id` is given, and no live claim holds the message, or `claim_id` is
                itself no live claim.
        """

    @abstractmethod
    async def delete_many(
        self,
        ref: QueueRef,
        ids: Sequence[str],
        *,
        claim_ids: Sequence[str] | None,
        now: datetime,
    ) -> None:
        """Delete the messages that exist among `ids`, all in one write; delayed ones are cancelled.

        Args:
            claim_ids: None deletes claimed messages too. Otherwise each named message must be free
                or under one of these claims.

        Raises:
            ClaimNotHeld: One is under another live claim; none is deleted.
        """

    @abstractmethod
    async def pop(self, ref: QueueRef, *, limit: int, now: datetime) -> list[Message]:
        """Remove up to `limit` visible messages, oldest first, and return them."""

    @abstractmethod
    async def purge(self, ref: QueueRef, *, now: datetime) -> None:
        """Remove all messages that are there now, claimed and delayed ones too; the queue stays.

        Those that are delayed at `now` are cancelled.
        """

    @abstractmethod
    async def cancelled(self, ref: QueueRef, due: Mapping[str, datetime]) -> Set[str]:
        """The ids of those messages that were deleted before their delay had ended.

        A deletion by id, a purge and the queue's deletion note that in the very write that removes the
        messages, and it is known for `CANCELLED_KEPT` after the delay would have ended.

        Args:
            due: By the ids of messages, the instant at which each one's delay ends.
        """

    @abstractmethod
    async def stats(self, ref: QueueRef, *, now: datetime) -> QueueStats:
        """Count the messages that have not expired.

        `oldest` and `newest` look at messages that are not delayed; they are None when there is none.
        """

    @abstractmethod
    async def stored_bytes(self, project: str, *, now: datetime) -> int:
        """The bytes of all bodies on the project's queues that have not expired.

        It reads every message of the project, beside other requests: it takes long, and is called seldom.
        """

    @abstractmethod
    async def internal_bytes(self, names: Sequence[str], *, now: datetime) -> int:
        """As `stored_bytes`, of the internal queues with these names; those that are absent have none."""

    @abstractmethod
    def watch(self, ref: QueueRef, *, exclusive: bool = False) -> Watch:
        """Begin to watch a queue; `exclusive` for callers that will claim, so that few race for one message."""
