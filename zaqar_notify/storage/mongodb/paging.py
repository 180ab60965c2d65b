"""Pages and reads of messages by id."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from zaqar_notify.models import Message, Page, QueueRef
from zaqar_notify.storage.batching import BatchItem, KeyedBatcher
from zaqar_notify.storage.ids import to_position
from zaqar_notify.storage.mongodb.connection import Collections, Document
from zaqar_notify.storage.mongodb.documents import (
    FREE,
    distinct,
    is_of,
    opened,
    place,
    position_of,
    readable,
    to_id,
    to_message,
    under_known_keys,
)
from zaqar_notify.storage.mongodb.failures import storage_errors
from zaqar_notify.storage.mongodb.indexes import BY_DUE, BY_ID, BY_MOVED_ID
from zaqar_notify.storage.mongodb.leasing import IN_ORDER, PASSED_AT_ONCE, Leasing
from zaqar_notify.storage.mongodb.queue_states import LOOK_SECONDS, QueueState, QueueStates
from zaqar_notify.storage.sealing import Sealing
from zaqar_notify.storage.values import to_ms

READERS_TOGETHER = 1000
DUE_LOOK_SECONDS = 1.0
"""A page begun at a marker frees messages that fell due behind it; so often it frees all others, too."""
DUE_LOOKS_KEPT = 10_000

NOTHING = Page([], None)


class PageRequest(msgspec.Struct, frozen=True):
    """The arguments of a page. Callers with equal arguments share one read."""

    ref: QueueRef
    marker: str | None
    limit: int
    without_client: str | None
    include_claimed: bool
    include_delayed: bool


class Paging:
    def __init__(
        self, collections: Collections, states: QueueStates, leasing: Leasing, sealing: Sealing
    ) -> None:
        self._sealing = sealing
        self._messages = collections.messages
        self._states = states
        self._leasing = leasing
        self._pages: KeyedBatcher[PageRequest, datetime, Page] = KeyedBatcher(
            self._share_page, most=READERS_TOGETHER
        )
        self._due_looks: dict[bytes, float] = {}

    async def close(self) -> None:
        await self._pages.close()

    async def page(self, request: PageRequest, now: datetime) -> Page:
        return await self._pages.call(request, now)

    async def _share_page(
        self, request: PageRequest, items: Sequence[BatchItem[datetime, Page]]
    ) -> None:
        """Read the page once for all callers that asked for it at the same time."""
        page = await self._page(request, max(item.request for item in items))
        for item in items:
            item.resolve(page)

    async def _page(self, request: PageRequest, now: datetime) -> Page:
        now_ms = to_ms(now)
        end: int | None = None
        while True:
            state = await self._states.get(request.ref)
            if state is None:
                return NOTHING
            end = state.end if end is None else end
            with storage_errors():
                found = await self._read(request, state, now)
            if len(found) == request.limit or not state.hides_some or state.readable_to >= end:
                break
            # Another process's post, begun before one that was acknowledged, is still under way.
            await asyncio.sleep(LOOK_SECONDS)
        if not found:
            return NOTHING
        last = to_id(state.id, position_of(found[-1]))
        return Page([to_message(stored, now_ms) for stored in found], last)

    async def _read(self, request: PageRequest, state: QueueState, now: datetime) -> list[Document]:
        """The page, as far as the state lets read, without messages that can't be decrypted."""
        marker, limit = request.marker, request.limit
        start = 0 if marker is None else await self._after(state.id, marker)
        if start is None:
            return []
        conditions: Document = {"queue": state.id, "expires_at": {"$gt": now}}
        if request.without_client is not None:
            conditions["client"] = {"$ne": request.without_client}
        page: list[Document] = []
        looked_at = limit
        while True:
            conditions["_id"] = _between(state, start)
            found = await self._look(request, conditions, looked_at, to_ms(now))
            clear = readable(found, request.ref, self._sealing)
            page += clear
            if len(clear) == len(found) or len(found) < looked_at or len(page) >= limit:
                return page[:limit]
            start = position_of(found[-1]) + 1
            looked_at = max(limit, PASSED_AT_ONCE)
            conditions |= under_known_keys(self._sealing)

    async def _look(
        self, request: PageRequest, conditions: Document, limit: int, now: int
    ) -> list[Document]:
        if request.include_claimed or request.include_delayed:
            states = _states(now, claimed=request.include_claimed, delayed=request.include_delayed)
            return await self._in_order({**conditions, **states}, limit)
        return await self._free_in_order(conditions["queue"], conditions, limit, now)

    async def _after(self, queue: bytes, marker: str) -> int | None:
        """The position behind a marker; None: it is no marker."""
        position = to_position(marker)
        if position is None:
            return None
        if not is_of(queue, marker):
            moved = await self._messages.find_one(
                {"queue": queue, "moved_id": marker}, {"_id": 1}, hint=BY_MOVED_ID
            )
            if moved is not None:
                position = position_of(moved)
        return position + 1

    async def _in_order(self, conditions: Document, limit: int) -> list[Document]:
        return await self._messages.find(
            conditions, sort=[("_id", 1)], limit=limit, batch_size=limit, hint=BY_ID
        ).to_list()

    async def _free_in_order(
        self, queue: bytes, conditions: Document, limit: int, now: int
    ) -> list[Document]:
        free = {
            **conditions,
            "due": {"$gte": -now, "$lte": FREE},
            "held_until": {"$lte": now},
        }
        if conditions["_id"]["$gte"] > place(queue, 0):
            await self._look_for_due(queue, now)
        while True:
            found = await self._messages.find(
                free, sort=IN_ORDER, limit=limit, batch_size=limit, hint=BY_DUE
            ).to_list()
            if not found or found[0]["due"] == FREE:
                return found
            await self._leasing.free_what_fell_due(queue, now)

    async def _look_for_due(self, queue: bytes, now: int) -> None:
        """Free messages that fell due before the marker, so that they do not pile up."""
        present = asyncio.get_running_loop().time()
        if present < self._due_looks.get(queue, 0.0) + DUE_LOOK_SECONDS:
            return
        if len(self._due_looks) >= DUE_LOOKS_KEPT:
            self._due_looks.clear()
        self._due_looks[queue] = present
        await self._leasing.free_what_fell_due(queue, now)

    async def get(self, ref: QueueRef, ids: Sequence[str], *, now: datetime) -> list[Message]:
        state = await self._states.get(ref)
        if state is None:
            return []
        with storage_errors():
            found = await self.find(state.id, ids, {"expires_at": {"$gt": now}})
        now_ms = to_ms(now)
        return [to_message(opened(stored, ref, self._sealing), now_ms) for stored in found]

    async def find(
        self,
        queue: bytes,
        ids: Iterable[str],
        condition: Document,
        fields: Document | None = None,
    ) -> list[Document]:
        """The messages of those ids that meet the condition, in order; None: with all fields."""
        own, foreign = places_of(queue, ids)
        found: list[Document] = []
        if own:
            found = await self._messages.find(
                {"queue": queue, "_id": {"$in": own}, "due": {"$exists": True}, **condition},
                fields,
                hint=BY_ID,
            ).to_list()
        if foreign:
            found += await self._messages.find(
                {"queue": queue, "moved_id": {"$in": foreign}, **condition},
                fields,
                hint=BY_MOVED_ID,
            ).to_list()
        found.sort(key=_by_position)
        return found


def places_of(queue: bytes, ids: Iterable[str]) -> tuple[list[bytes], list[str]]:
    """Where the queue's own messages of these ids are, and the ids that are of other queues."""
    own: list[bytes] = []
    foreign: list[str] = []
    for message_id in distinct(ids):
        position = to_position(message_id)
        if position is None:
            continue
        if is_of(queue, message_id):
            own.append(place(queue, position))
        else:
            foreign.append(message_id)
    return own, foreign


def _between(state: QueueState, start: int) -> Document:
    """From a position on, as far as the queue can be read."""
    end = place(state.id, state.readable_to)
    return {"$gte": place(state.id, start), "$lt": end}


def _states(now: int, *, claimed: bool, delayed: bool) -> Document:
    """Of which states a page that includes held messages is."""
    if claimed and delayed:
        return {"due": {"$exists": True}}
    held = {"claim": {"$exists": claimed}}
    return {"due": {"$exists": True}, "$or": [{"held_until": {"$lte": now}}, held]}


def _by_position(stored: Document) -> bytes:
    where: bytes = stored["_id"]
    return where
