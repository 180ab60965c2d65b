"""The places that deliveries of a paced subscription keep on its own queue until their next attempt.

A delivery that failed stays where it is, so that none behind it overtakes it, and a batch stays together. The number
of the next attempt and its instant are records of their own (`delivery.records.Place`), so they outlive this process.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial

import msgspec

from workers.store import Asked, RetryingStore
from zaqar_notify.clock import Clock
from zaqar_notify.delivery import place_record, read_work
from zaqar_notify.delivery.records import InternalPost, Place
from zaqar_notify.models import QueueRef, Subscription
from zaqar_notify.storage.base import MessageStore
from zaqar_notify.storage.internal import places_ref

MOST_PLACES = 100
"""Requests of one subscription that wait for their next attempt and keep their places. While there are so many, no
other one begins."""

_READ_AT_ONCE = 10 * MOST_PLACES


class Kept(msgspec.Struct, frozen=True):
    """A place as it is stored, under the id of its own record."""

    id: str
    place: Place


class Places:
    def __init__(self, store: RetryingStore, *, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def all(self, subscription: Subscription, on: QueueRef) -> list[Kept]:
        """Those on this own queue, the oldest first; of several about a record the last one. Former ones are removed."""
        ref = places_ref(subscription.id)
        page = await self._asked(subscription).until_answered(partial(self._page, ref))
        last: dict[str, Kept] = {}
        former: list[str] = []
        for message in page:
            place = _read(message[1])
            if place is None or place.on != on.name:
                continue
            if (before := last.pop(place.records[0], None)) is not None:
                former.append(before.id)
            last[place.records[0]] = Kept(message[0], place)
        await self.forget(subscription, *former)
        return list(last.values())

    async def keep(
        self,
        subscription: Subscription,
        on: QueueRef,
        records: Sequence[str],
        *,
        attempt: int,
        due_at: datetime,
    ) -> str:
        """Store a place; its id."""
        ref, message = place_record(subscription, on, records, attempt=attempt, due_at=due_at)
        post = InternalPost([message], project=subscription.queue.project)
        posted = await self._asked(subscription).until_answered(
            lambda store: store.messages.post(ref, post, now=self._clock.now())
        )
        return posted.ids[0]

    async def forget(self, subscription: Subscription, *ids: str) -> None:
        if ids:
            ref = places_ref(subscription.id)
            await self._asked(subscription).until_answered(
                lambda store: store.messages.delete_many(
                    ref, ids, claim_ids=None, now=self._clock.now()
                )
            )

    def _asked(self, subscription: Subscription) -> Asked:
        return self._store.at(subscription.queue)

    async def _page(self, ref: QueueRef, store: MessageStore) -> list[tuple[str, bytes]]:
        page = await store.messages.page(
            ref, marker=None, limit=_READ_AT_ONCE, now=self._clock.now()
        )
        return [(message.id, message.body) for message in page.messages]


def _read(body: bytes) -> Place | None:
    """None: it is damaged, or of a later release; the deliveries are then tried as if they were new."""
    try:
        work = read_work(body)
    except ValueError:
        return None
    return work if isinstance(work, Place) else None
