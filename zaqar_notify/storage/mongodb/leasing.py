"""The free messages of a queue, in order, and leases on them.

One index serves: `due` is minus the instant at which a held message falls due, and 0 once it is
among the free. So the keys from -now on are first the messages that fell due, then the free ones, by position.
Messages that fell due are freed before anything else is looked at (docs/decisions/0002). That changes
`due` alone: `held_until` and the caller's own instant decide whether a hold is over.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

import msgspec
from pymongo import DESCENDING, UpdateMany

from zaqar_notify.clock import new_id
from zaqar_notify.storage.mongodb.connection import Collections, Document
from zaqar_notify.storage.mongodb.documents import FREE, readable, under_known_keys
from zaqar_notify.storage.mongodb.failures import rerun
from zaqar_notify.storage.mongodb.indexes import BY_CLAIM, BY_DUE, BY_ID
from zaqar_notify.storage.mongodb.queue_states import QueueState
from zaqar_notify.storage.sealing import Sealing
from zaqar_notify.storage.values import from_ms, to_ms

FREED_AT_ONCE = 500
"""Messages that fell due are freed in writes of this many, some milliseconds each."""

REMOVED_AT_ONCE = 500

PASSED_AT_ONCE = 500
"""Behind messages that can't be decrypted, a reader looks at so many: there may be many of them."""

REMOVAL_SECONDS = 60
"""A removal of several messages that takes longer gives them back."""

RELEASE: Document = {
    "$set": {"due": FREE, "held_until": 0},
    "$unset": {"claim": "", "claim_ttl": ""},
}
IN_ORDER = [("due", 1), ("_id", 1)]


class Lease(msgspec.Struct, frozen=True):
    """A hold in the making: by which claim, at which instant, to when. Milliseconds.

    Messages live at least until `kept_until`. With `most_claims`, those claimed that often already
    are not taken. A lease that is not counted raises no claim count.

    With `leaving`, the messages are on their way to that dead-letter queue from now on. Only a lease that
    `takes_leaving` also takes such messages.
    """

    claim_id: str
    ttl: int
    now: int
    ends_at: int
    kept_until: int
    most_claims: int | None = None
    is_counted: bool = True
    leaving: Document | None = None
    takes_leaving: bool = False

    @classmethod
    def begun(
        cls,
        claim_id: str,
        ttl: int,
        grace: int,
        now: datetime,
        *,
        is_counted: bool = True,
    ) -> Lease:
        start = to_ms(now)
        ends_at = start + ttl * 1000
        kept_until = ends_at + grace * 1000
        return cls(claim_id, ttl, start, ends_at, kept_until, is_counted=is_counted)

    def update(self) -> Document:
        change: Document = {
            "$set": self._hold(),
            "$max": {"expires_at": from_ms(self.kept_until)},
        }
        if self.is_counted:
            change["$inc"] = {"claim_count": 1}
        return change

    def renewal(self) -> Document:
        """The update of messages that a claim holds already."""
        return {"$set": self._span(), "$max": {"expires_at": from_ms(self.kept_until)}}

    def renewal_of_one(self) -> Document:
        """The update of one message, beside others that the claim holds: its `claim_ttl` is theirs, too."""
        kept: Document = {"$max": {"expires_at": from_ms(self.kept_until)}}
        if self.ttl == 0:
            return {**RELEASE, **kept}
        return {"$set": {"held_until": self.ends_at, "due": -self.ends_at}, **kept}

    def _hold(self) -> Document:
        hold: Document = {"claim": self.claim_id, **self._span()}
        return hold if self.leaving is None else {**hold, "leaving": self.leaving}

    def _span(self) -> Document:
        return {"claim_ttl": self.ttl, "held_until": self.ends_at, "due": -self.ends_at}

    def held(self, free: Document) -> Document:
        """A free message as the update leaves it."""
        return {
            **free,
            **self._hold(),
            "expires_at": max(free["expires_at"], from_ms(self.kept_until)),
            "claim_count": free["claim_count"] + self.is_counted,
        }

    def guard(self) -> Document:
        """The condition on a message that the lease may take."""
        visible: Document = {
            "held_until": {"$lte": self.now},
            "expires_at": {"$gt": from_ms(self.now)},
        }
        if self.most_claims is not None:
            visible["claim_count"] = {"$lt": self.most_claims}
        if not self.takes_leaving:
            # A message whose move was broken off goes where its copy may be.
            visible["leaving"] = None if self.leaving is None else {"$in": [None, self.leaving]}
        return visible


def removal(now: datetime) -> Lease:
    """A hold on messages that are about to be removed; it doesn't lengthen their lives."""
    lease = Lease.begun(new_id(), REMOVAL_SECONDS, 0, now, is_counted=False)
    return msgspec.structs.replace(lease, kept_until=0)


class Leasing:
    def __init__(self, collections: Collections, sealing: Sealing) -> None:
        self._sealing = sealing
        self._messages = collections.messages
        self._quick = collections.quick_messages

    async def first_free(
        self,
        state: QueueState,
        now: int,
        *,
        limit: int,
        after: bytes | None = None,
        without_clients: Collection[str] = (),
    ) -> list[Document]:
        """The first messages among the free that can be decrypted, in order, with clear bodies."""
        wanted: Document = {"queue": state.id, "due": {"$gte": -now, "$lte": FREE}}
        if after is not None:
            wanted["_id"] = {"$gt": after}
        if without_clients:
            wanted["client"] = {"$nin": list(without_clients)}
        free: list[Document] = []
        looked_at = limit
        while True:
            found = await self._first(state.id, wanted, now, looked_at)
            clear = readable(found, state.ref, self._sealing)
            free += clear
            if len(clear) == len(found) or len(found) < looked_at or len(free) >= limit:
                return free[:limit]
            looked_at = max(limit, PASSED_AT_ONCE)
            wanted |= {"_id": {"$gt": found[-1]["_id"]}, **under_known_keys(self._sealing)}

    async def _first(self, queue: bytes, wanted: Document, now: int, limit: int) -> list[Document]:
        """The first messages among the free, in order. Those that have expired are removed, unless
        some come before one that has not."""
        instant = from_ms(now)
        while True:
            found = await self._messages.find(
                wanted,
                sort=IN_ORDER,
                limit=limit,
                batch_size=limit,
                hint=BY_DUE,
            ).to_list()
            if found and all(stored["expires_at"] <= instant for stored in found):
                await self._remove_expired_head(queue, wanted, now)
            elif found and found[0]["due"] != FREE:
                await self.free_what_fell_due(queue, now)
            else:
                return found

    async def free_what_fell_due(self, queue: bytes, now: int) -> None:
        """Each hold is freed once, so the cost belongs to the claim or the delay that made it."""
        while True:
            found = await self._messages.find(
                {"queue": queue, "due": {"$gte": -now, "$lt": FREE}},
                {"_id": 1},
                limit=FREED_AT_ONCE,
                batch_size=FREED_AT_ONCE,
                hint=BY_DUE,
            ).to_list()
            if found:
                await self._quick.update_many(
                    {
                        "queue": queue,
                        "_id": {"$in": [stored["_id"] for stored in found]},
                        "due": {"$gte": -now, "$lt": FREE},
                    },
                    {"$set": {"due": FREE}},
                    hint=BY_ID,
                )
            if len(found) < FREED_AT_ONCE:
                return

    async def _remove_expired_head(self, queue: bytes, wanted: Document, now: int) -> None:
        """As many as expired together are removed in a few writes, however few are asked for."""
        while True:
            found = await self._messages.find(
                wanted,
                {"expires_at": 1},
                sort=IN_ORDER,
                limit=REMOVED_AT_ONCE,
                batch_size=REMOVED_AT_ONCE,
                hint=BY_DUE,
            ).to_list()
            expired = [one["_id"] for one in found if one["expires_at"] <= from_ms(now)]
            if expired:
                await self.remove_expired(queue, expired, now)
            if len(expired) < REMOVED_AT_ONCE:
                return

    async def next_due(self, queue: bytes) -> int | None:
        """The earliest millisecond at which a held message falls due."""
        found = await self._messages.find_one(
            {"queue": queue, "due": {"$lt": FREE}},
            {"due": 1},
            sort=[("due", DESCENDING)],
            hint=BY_DUE,
        )
        return None if found is None else -found["due"]

    async def take(
        self,
        queue: bytes,
        wanted: Sequence[tuple[Lease, Sequence[Document]]],
        *,
        is_durable: bool = True,
    ) -> list[Document]:
        """Give each lease those of its messages that are still free; the messages won, in order.

        Leases that are not durable cost no wait for a journal. A fail-over may undo them.

        A message that another process took meanwhile stays with that process. If it has given the
        message back already, the returned claim count is behind by one.
        """
        updates = [
            UpdateMany(
                {
                    "queue": queue,
                    "_id": {"$in": [stored["_id"] for stored in share]},
                    **lease.guard(),
                },
                lease.update(),
                hint=BY_ID,
            )
            for lease, share in wanted
        ]
        # A second run leaves the messages of the first one alone, since they are held now.
        messages = self._messages if is_durable else self._quick
        result = await rerun(lambda: messages.bulk_write(updates, ordered=False))
        if result.modified_count == sum(len(share) for _, share in wanted):
            return [lease.held(stored) for lease, share in wanted for stored in share]
        return await self._messages.find(
            {
                "queue": queue,
                "_id": {"$in": [stored["_id"] for _, share in wanted for stored in share]},
                "claim": {"$in": [lease.claim_id for lease, _ in wanted]},
            },
            sort=[("_id", 1)],
            hint=BY_ID,
        ).to_list()

    async def give_back(self, queue: bytes, lease: Lease) -> None:
        """Free the messages that the lease has taken."""
        held = {"queue": queue, "claim": lease.claim_id}
        await rerun(lambda: self._messages.update_many(held, RELEASE, hint=BY_CLAIM))

    async def remove_expired(self, queue: bytes, ids: Sequence[bytes], now: int) -> None:
        await rerun(
            lambda: self._messages.delete_many(
                {
                    "queue": queue,
                    "_id": {"$in": list(ids)},
                    "expires_at": {"$lte": from_ms(now)},
                },
                hint=BY_ID,
            )
        )
