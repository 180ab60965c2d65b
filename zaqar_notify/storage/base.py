"""The contract of a message store. These docstrings are its specification; `tests/contract` asks it of every driver.

A message store keeps messages, claims, idempotency keys and the internal queues of its own deliveries. The
control store (`storage.control`) keeps queues' records and subscriptions, perhaps in another database. Of
those, a message store keeps the part that a write needs, in a *head* beside each queue's messages.

Rules for all methods:

- `now` is the caller's instant, and every rule about time is a comparison with it: a message has
  expired when `expires_at <= now`, is held by a claim while `now < claim expiry`, is delayed while
  `now < posted + delay`. Deletions on a driver's own account only reclaim space. Time does not
  go back: once a call with some `now` has been answered, calls with an earlier one may be answered
  as of that.
- A message is *visible* when it has not expired, its delay has passed, and no live claim holds it.
- Ids and markers are opaque, of `A-Z a-z 0-9 - _`, and assigned by the store. An ill-formed one
  names nothing.
- A write that returned is durable (the driver's heading names the conditions), and is seen by
  every read that starts afterwards. A write that raised `StorageUnavailable` may have happened.
- Cancelling a write leaves it done or not done, never half done.
- Writes that arrive together are committed together; one that is refused does not touch the others.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self, TypeAlias

import msgspec

from zaqar_notify.clock import Clock, SystemClock
from zaqar_notify.errors import ClaimDoesNotExist, IdempotencyKeyReused
from zaqar_notify.findings import Finding
from zaqar_notify.models import (
    Claim,
    DeadLetter,
    JsonObject,
    Leaving,
    Message,
    NewMessage,
    Page,
    Posted,
    QueueRef,
    QueueStats,
)
from zaqar_notify.storage.control import ControlStore
from zaqar_notify.storage.rekeying import Encrypted

CANCELLED_KEPT = timedelta(days=30)
"""For so long a store knows which messages were deleted before they were due: longer than a delay, and
than deliveries may stand still."""


class IdempotencyKey(msgspec.Struct, frozen=True):
    """A client's name for one post, with a digest of the posted messages; `former` are digests of the same
    messages as they may have been stored before keys of encryption changed."""

    key: str
    fingerprint: bytes
    keep_seconds: int
    former: tuple[bytes, ...] = ()

    def check(self, stored: bytes) -> None:
        """Compare the post with the one that was stored under the key.

        Raises:
            IdempotencyKeyReused: That was another post.
        """
        if stored != self.fingerprint and stored not in self.former:
            raise IdempotencyKeyReused(self.key)


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

        Asked only when the queue is subscribed to.

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


class Head(msgspec.Struct, frozen=True):
    """The part of a queue that a message store keeps beside the messages.

    `rules` are those keys of the record's metadata that posts and claims obey, as of `revision` of the
    record. No subscription of the queue lives longer than `subscribed_until`; None: there is none. `turn`
    changes when that is raised, and is another one in each life of the queue.
    """

    rules: JsonObject
    revision: int
    subscribed_until: datetime | None
    turn: int


class HeadMissing(Exception):
    """A write would put messages on a client's queue that has no head: nothing was written."""

    def __init__(self, ref: QueueRef) -> None:
        super().__init__(ref)
        self.ref = ref


class Heads(ABC):
    """The queues of a message store. An internal queue has a head from its first message on."""

    @abstractmethod
    async def get(self, ref: QueueRef) -> Head | None:
        """The head; None when the queue has none, or was dropped."""

    @abstractmethod
    async def put(
        self, ref: QueueRef, rules: JsonObject, *, revision: int, subscribed_until: datetime | None
    ) -> bool:
        """Make the head, or bring it to a later revision; that raises `subscribed_until`, never lowers it.

        Nothing changes when the head is of this revision or a later one, or was dropped at one.

        Returns:
            Whether the head is of `revision` now, with these rules.
        """

    @abstractmethod
    async def revision(self, ref: QueueRef) -> int:
        """The revision that the head has, or was dropped at within the last day; 0 when unknown."""

    @abstractmethod
    async def drop(self, ref: QueueRef, *, revision: int, now: datetime) -> None:
        """Remove the queue with its messages and claims, and remember for a day `revision`, or a later one it had.

        Messages that are delayed at `now` are cancelled: see `Messages.cancelled`. Positions are never
        used twice: a marker from before the deletion hides nothing posted later.
        """

    @abstractmethod
    async def drop_internal(self, refs: Sequence[QueueRef]) -> None:
        """Remove internal queues with all that is on them; nothing is remembered or cancelled."""

    @abstractmethod
    async def internal(self, *, after: str, limit: int) -> Sequence[str]:
        """Names of internal queues, bytewise ascending, after the name `after`."""

    @abstractmethod
    async def of_clients(self, *, after: QueueRef | None, limit: int) -> Sequence[QueueRef]:
        """Clients' queues that have a head, by project and name, bytewise ascending, after the queue `after`."""

    @abstractmethod
    async def count_internal(self, *, prefix: str) -> int:
        """How many messages are on the internal queues with names that begin with `prefix`.

        Claimed and delayed ones count; those that have expired and are not swept yet may count. The
        cost grows with the messages that are counted.
        """

    @abstractmethod
    async def raise_subscribed(self, ref: QueueRef, until: datetime) -> bool:
        """Let the queue be subscribed to until then, at least.

        Posts that begin after the return write jobs; those that were under way are stored by then.

        Returns:
            False when there is no head.
        """

    @abstractmethod
    async def lower_subscribed(self, ref: QueueRef, until: datetime | None, *, turn: int) -> bool:
        """Let the queue be subscribed to until then, not longer.

        Returns:
            False when the head's turn is another one: nothing changed.
        """


class Messages(ABC):
    """Messages of queues, in the order of their posts."""

    @abstractmethod
    async def post(self, ref: QueueRef, post: Post, *, now: datetime) -> Posted:
        """Append messages in order; all of them or none.

        In the same atomic write: when the queue is subscribed to at `now`, its jobs are appended to
        their internal queues, with the queue's project as their client; when there is an idempotency
        key, the answer is remembered under project, queue and key for `keep_seconds`. A message becomes visible
        `delay` seconds after `now` and expires `ttl` seconds after it. One with an `origin` has its id and
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
        messages, and it is known for `CANCELLED_KEPT` from then on.

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
    def watch(self, ref: QueueRef, *, exclusive: bool = False) -> Watch:
        """Begin to watch a queue; `exclusive` for callers that will claim, so that few race for one message."""


FREED_AT_START_CLAIMS = 3
"""A job that kills its process again and again does so at the pace of its leases, not of restarts. Other
jobs in hand at that time are not taken for such a job within seconds."""

DeadLetterRule: TypeAlias = Callable[[JsonObject], DeadLetter | None]
"""Of a queue's rules."""


class Carrier(msgspec.Struct, frozen=True):
    """Takes dead letters to a queue of another message store, by a job each on the internal queue `outbox`."""

    outbox: QueueRef
    job: Callable[[Leaving], NewMessage]


Carry: TypeAlias = Callable[[DeadLetter], Carrier | None]
"""The carrier to a dead-letter queue; None when the queue is on the same message store."""


def within_the_store(to: DeadLetter) -> None:
    """Of callers whose dead-letter queues are on the same message store."""


class Claims(ABC):
    """Leases over messages.

    A store that serves a single process knows, when it is opened, that the claims on internal queues
    are those of a process that is gone. It frees their messages, except for messages that were claimed
    more than `FREED_AT_START_CLAIMS` times. Those wait for the end of their lease.
    """

    @abstractmethod
    async def create(
        self,
        ref: QueueRef,
        *,
        claim_id: str,
        ttl: int,
        grace: int,
        limit: int,
        now: datetime,
        dead_letter: DeadLetterRule | None = None,
        carry: Carry = within_the_store,
        without_clients: Collection[str] = (),
    ) -> Claim | None:
        """Lease up to `limit` visible messages, oldest first.

        Of two callers, neither ever receives a message that the other holds; a caller may receive
        fewer than exist. Each message's `claim_count` goes up by one. A message whose expiry is
        before claim expiry + `grace` is extended to that; its shown `ttl` stays as posted.

        `dead_letter` is asked for its rule with the queue's present rules. With one, a visible message
        that was claimed `max_claim_count` times already is not leased but appended to that queue, in
        the same write: free, same id, body and posting instant, claim count 0, expiring its (new) ttl
        after `now`. Where `carry` gives a carrier, its job is appended to its outbox in place of the message,
        with the queue's project as client.

        Args:
            ttl: Length of the lease, seconds. A lease of 0 ends at once: its messages are counted, returned
                and visible.
            grace: Seconds of life past the lease for a message that would expire before.
            without_clients: Messages that these clients posted are passed over. When they are many,
                an older message of another's that comes free again may be found a little later.

        Returns:
            The claim, or None when it would hold nothing.

        Raises:
            HeadMissing: A message would go to a dead-letter queue without a head.
        """

    @abstractmethod
    async def get(self, ref: QueueRef, claim_id: str, *, now: datetime) -> Claim | None:
        """The claim with the messages it holds, in order; None when expired, released, or empty."""

    async def renew(
        self, ref: QueueRef, claim_id: str, *, ttl: int, grace: int, now: datetime
    ) -> None:
        """Let the lease end `ttl` seconds after `now`, messages extended as by `create`.

        Claim counts stay.

        Raises:
            ClaimDoesNotExist: It has expired, was released, or holds nothing.
        """
        if not await self.renew_many(ref, [claim_id], ttl=ttl, grace=grace, now=now):
            raise ClaimDoesNotExist(ref.name, claim_id)

    @abstractmethod
    async def renew_many(
        self, ref: QueueRef, claim_ids: Sequence[str], *, ttl: int, grace: int, now: datetime
    ) -> Set[str]:
        """Renew those of the leases that are live, all in one write.

        Returns:
            Which were renewed. The others have expired, were released, or hold nothing.
        """

    @abstractmethod
    async def renew_message(
        self,
        ref: QueueRef,
        claim_id: str,
        message_id: str,
        *,
        ttl: int,
        grace: int,
        now: datetime,
    ) -> None:
        """Let the lease of one message that the claim holds end `ttl` seconds after `now`.

        The claim's other messages keep their leases. The claim lives as long as the last of them; its
        shown `ttl` stays, and so do claim counts. The message is extended as by `create`. With a ttl
        of 0 it is visible at once.

        Raises:
            ClaimNotHeld: No live claim of that id holds the message.
        """

    @abstractmethod
    async def release(
        self, ref: QueueRef, claim_id: str, *, now: datetime, counted: bool = True
    ) -> None:
        """Make the claim's messages visible at once. No error if there is no such claim.

        Args:
            counted: False takes back the claim's raise of `claim_count`, for a claim that
                never reached its caller.
        """


class MessageStore(ABC):
    """A message store that is open."""

    heads: Heads
    messages: Messages
    claims: Claims
    encrypted: Encrypted
    """Of the messages, those that are encrypted."""

    control: ControlStore | None = None
    """The control store in the same database, if the driver has one."""

    clock: Clock = SystemClock()
    """The clock of the callers' `now`; watches use it, too, for the ends of delays and claims. A store of
    one process brings its own clock; `store_clock` sets it for a store of several processes."""

    async def read_clock(self) -> datetime | None:
        """The store's own clock, read once between the call and its return.

        Returns:
            None when it has no clock but this host's.

        Raises:
            StorageUnavailable: It gave no answer.
        """
        return None

    async def diagnose(self) -> list[Finding]:
        """Findings for an operator, beyond whether the store answers: versions, promises,
        indexes. Changes nothing; takes seconds at most.

        Raises:
            StorageUnavailable: It gave no answer.
        """
        return []

    async def take_turn(self, duty: str, *, seconds: float, now: datetime) -> bool:
        """Whether the caller gets a periodic duty; it then has the duty for that time.

        Of all processes on the store one is told so at a time. A store that serves a single process
        may leave this out.

        Raises:
            StorageUnavailable: It gave no answer.
        """
        return True

    async def restored(self) -> int:
        """Give out no id that was given out before, and none before a marker, though this is an older
        state of the store: it was put back from a backup.

        A store that sees to that at every start may leave this out.

        Returns:
            How many queues it concerned.

        Raises:
            StorageUnavailable: It gave no answer; some queues may be left.
        """
        return 0

    @abstractmethod
    async def ping(self) -> None:
        """Ask the store for an answer.

        Raises:
            StorageUnavailable: It gave none.
        """

    @abstractmethod
    async def prove(self) -> None:
        """Make a small write that no reader sees, and wait until it is acknowledged as a post would be.

        Raises:
            StorageUnavailable: It was not.
        """

    @abstractmethod
    async def sweep(self, *, now: datetime, limit: int) -> int:
        """Reclaim the space of up to `limit` expired rows of each kind.

        Returns:
            How many were removed; fewer than `limit` when there is nothing left to do.
        """

    @abstractmethod
    def stop_waiting(self) -> None:
        """Wake every watch for good: the process is about to stop."""

    @abstractmethod
    async def close(self) -> None:
        """Finish the writes under way, then let go of the store. Idempotent."""
