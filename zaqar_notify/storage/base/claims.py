"""Claims: leases over messages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence, Set
from datetime import datetime
from typing import TypeAlias

import msgspec

from zaqar_notify.errors import ClaimDoesNotExist
from zaqar_notify.models import Claim, DeadLetter, JsonObject, Leaving, NewMessage, QueueRef

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
"""The carrier to a dead-letter queue; None when the queue is on the same message store. It raises HeadMissing if that
is not known: the claim raises that, too."""


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
        is_durable: bool = True,
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
            is_durable: False for a caller to whom a message may come twice: a fail-over may undo the lease, until
                it is renewed. The messages themselves are as durable as ever.

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
