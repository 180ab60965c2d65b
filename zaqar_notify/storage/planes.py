"""The control store and the message store as one, and the order of the steps that change both.

No write spans the two stores, so each step leaves a state that the next caller, or the sweep, completes:

1. *A post or claim* is one write of the message store. It reads the queue's head there, and nothing else.
2. *A first post*, once its rules have refused nothing, makes the record, then the head, then stores the
   messages.
3. *A change of a record* is written unapplied. Then the head is brought to its revision, and the record is
   said to be applied; only then is the caller answered. The sweep applies what a process left unapplied.
4. *A deletion* drops the head, with the messages, at a revision above the record's. Then it removes the
   record if that has not changed meanwhile; else it begins again. A head is made anew only at a later
   revision, so a process that was paused in step 2 or 3 brings nothing back.
5. *A subscription* raises `subscribed_until` of the head before it is stored, so that it is notified even
   if the process ends; and again after it is stored, in case another caller lowered it in between.
6. *A subscription that is over* is lowered away, unless the head was raised meanwhile. Then its internal
   queues go, then its row.

Too late an instant in `subscribed_until` costs unneeded jobs. It is too early only while a subscription is
not acknowledged yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence, Set
from contextlib import nullcontext
from datetime import datetime

from zaqar_notify.clock import Clock
from zaqar_notify.findings import Finding
from zaqar_notify.models import Claim, Posted, QueueRef
from zaqar_notify.rules.encryption import NO_KEYS, Keyring
from zaqar_notify.storage.base import (
    Carry,
    DeadLetterRule,
    HeadMissing,
    MessageStore,
    Post,
    within_the_store,
)
from zaqar_notify.storage.control import ControlStore
from zaqar_notify.storage.internal import queues_of_subscription
from zaqar_notify.storage.letters import Letters
from zaqar_notify.storage.membership import Alone, Membership
from zaqar_notify.storage.moving.gates import Gates, OwnGates, SharedGates
from zaqar_notify.storage.moving.members import Members
from zaqar_notify.storage.open_pools import OpenPools
from zaqar_notify.storage.places import Places
from zaqar_notify.storage.queues import Queues
from zaqar_notify.storage.rekeying import Encrypted, findings, key_ids
from zaqar_notify.storage.restoring import Restored, agree, diagnose
from zaqar_notify.storage.steps import Admission, Dropped, Planes
from zaqar_notify.storage.stores import diagnose_pools
from zaqar_notify.storage.subscriptions import Subscriptions

SUBSCRIPTIONS_PER_COUNT = 1000


class Storage:
    """The store, for service functions and workers. Made by `storage.registry.open_storage`."""

    def __init__(
        self,
        control: ControlStore,
        store: MessageStore,
        *,
        open_pools: OpenPools,
        keys: Keyring = NO_KEYS,
        own_identities: Set[str] = frozenset(),
    ) -> None:
        """`store` is the message store of the default pool; `open_pools` has those of all."""
        self.own_identities = own_identities
        """Of the stores that the settings name: they can't be registered as pools."""
        self.control = control
        self.store = store
        self.open_pools = open_pools
        self.pools = open_pools.stores
        """The message stores that answer, by the names of their pools."""
        members = Members(control, open_pools) if open_pools.is_shared else None
        self.membership: Membership = members or Alone()
        self.places = Places(control, open_pools, self.membership)
        self.gates: Gates = OwnGates(self.places)
        """By which a move lets a queue stand still."""
        if members is not None:
            members.places = self.places
            self.gates = SharedGates(self.pools)
        self.at = self.places.at
        self.watch = self.places.watch
        self.pool_of = self.places.pool_of
        self.keys = keys
        self._planes = Planes(control, self.pools, self.places)
        self.queues = Queues(self._planes)
        self.subscriptions = Subscriptions(self._planes)
        # Of the default pool. A client's queue may be on another store: see `at`.
        self.heads = store.heads
        self.messages = store.messages
        self.claims = store.claims
        self.read_clock = store.read_clock
        self.take_turn = store.take_turn

    @property
    def clock(self) -> Clock:
        """As `MessageStore.clock`."""
        return self.store.clock

    @clock.setter
    def clock(self, clock: Clock) -> None:
        for store in self.pools.values():
            store.clock = clock

    def when_dropped(self, tell: Dropped) -> None:
        """Have `tell` called from now on when a subscription is removed for which deliveries waited."""
        self._planes.tell_dropped = tell

    async def post(
        self, ref: QueueRef, post: Post, *, now: datetime, admit: Admission = nullcontext
    ) -> Posted:
        """As `Messages.post`; a queue that is absent is created, unless the post is refused, or `admit` refuses
        a new queue."""
        while True:
            try:
                async with self.at(ref) as store:
                    return await store.messages.post(ref, post, now=now)
            except HeadMissing as missing:
                await self._planes.make_head(missing.ref, now, admit)

    async def claim(
        self,
        ref: QueueRef,
        *,
        claim_id: str,
        ttl: int,
        grace: int,
        limit: int,
        now: datetime,
        dead_letter: DeadLetterRule | None = None,
        carrier: Carry = within_the_store,
        without_clients: Collection[str] = (),
    ) -> Claim | None:
        """As `Claims.create`; a dead-letter queue that is absent is created.

        Args:
            carrier: Of dead letters to a queue of another pool.
        """
        subscribed: dict[QueueRef, bool] = {}
        while True:
            letters = Letters(self.places, ref, carrier, subscribed)
            try:
                async with self.at(ref) as store:
                    with letters:
                        return await store.claims.create(
                            ref,
                            claim_id=claim_id,
                            ttl=ttl,
                            grace=grace,
                            limit=limit,
                            now=now,
                            dead_letter=dead_letter,
                            carry=letters.carry,
                            without_clients=without_clients,
                        )
            except HeadMissing as missing:
                await self._planes.make_letters_head(missing.ref, ref, now)
                subscribed[missing.ref] = await self._is_subscribed_beside(ref, missing.ref, now)

    async def _is_subscribed_beside(self, source: QueueRef, ref: QueueRef, now: datetime) -> bool:
        """Whether a dead-letter queue has subscribers, if it is on the pool of its source."""
        if self.pool_of(ref) != self.pool_of(source):
            return False
        async with self.at(ref) as store:
            head = await store.heads.get(ref)
        until = None if head is None else head.subscribed_until
        return until is not None and until > now

    async def stored_bytes(self, project: str, *, now: datetime) -> int:
        """The bytes of all bodies that are kept for the project, whether for its clients or for its subscriptions."""
        return sum(
            await asyncio.gather(
                self.message_bytes(project, now=now), self._bytes_of_subscriptions(project, now)
            )
        )

    async def message_bytes(self, project: str, *, now: datetime) -> int:
        """As `Messages.stored_bytes`, in all pools.

        Raises:
            StorageUnavailable: Some gave no answer, or is away.
        """
        self.pools.check_all()
        stores = self.pools.values()
        return sum([await store.messages.stored_bytes(project, now=now) for store in stores])

    async def _bytes_of_subscriptions(self, project: str, now: datetime) -> int:
        """The bytes on the internal queues that the project's subscriptions have for themselves."""
        ids, total, last = self.control.subscriptions.ids, 0, None
        while True:
            found = await ids(project, after=last, limit=SUBSCRIPTIONS_PER_COUNT)
            names = [ref.name for _, each in found for ref in queues_of_subscription(each)]
            for store in self.pools.values() if names else ():
                total += await store.messages.internal_bytes(names, now=now)
            if len(found) < SUBSCRIPTIONS_PER_COUNT:
                return total
            last = found[-1]

    async def ping(self) -> None:
        """Ask the control store and the default pool for an answer.

        Raises:
            StorageUnavailable: One gave none.
        """
        await self.store.ping()
        if self.control is not self.store.control:
            await self.control.ping()

    async def prove(self) -> None:
        """As `MessageStore.prove`, of the default pool, and ask the control store for an answer.

        A pool that is away makes its own queues unavailable, and no others.
        """
        await self.store.prove()
        if self.control is not self.store.control:
            await self.control.ping()

    async def restored(
        self, *, now: datetime, progress: Callable[[int], None] = lambda compared: None
    ) -> Restored:
        """As `MessageStore.restored`, of each; and make the stores agree, if one of them was restored alone.

        It may be broken off, repeated, and run beside other callers. `progress` is told now and then
        how many queues were compared.
        """
        self.pools.check_all()
        ahead = sum([await store.restored() for store in self.pools.values()])
        return await agree(self._planes, ahead=ahead, now=now, progress=progress)

    async def diagnose(self) -> list[Finding]:
        """Findings of all stores, and of whether they belong together, for an operator."""
        return [
            *await self.store.diagnose(),
            *await diagnose_pools(self.pools),
            *await self.control.diagnose(),
            *await diagnose(self._planes),
            *findings(await key_ids(self.encrypted), self.keys),
        ]

    @property
    def encrypted(self) -> Sequence[Encrypted]:
        """The encrypted things of all stores that answer, by kind."""
        return [*(store.encrypted for store in self.pools.values()), *self.control.encrypted]

    async def sweep(self, *, now: datetime, limit: int) -> int:
        """As `MessageStore.sweep`, and apply changes of records that a process left unapplied."""
        done = [await self._planes.apply_left(limit)]
        if self.open_pools.is_any:
            done.append(await self._planes.forget_unused(now, limit))
        for pool, store in self.pools.items():
            with self.pools.tolerated(pool):
                done.append(await store.sweep(now=now, limit=limit))
        return max(done)

    def stop_waiting(self) -> None:
        """As `MessageStore.stop_waiting`, of each message store."""
        self.places.stop_waiting()
        for store in self.pools.values():
            store.stop_waiting()

    async def close(self) -> None:
        """Finish the writes under way, then let go of all stores. Idempotent."""
        await self.membership.close()
        await self.open_pools.close()
        await self.store.close()
        await self.control.close()
