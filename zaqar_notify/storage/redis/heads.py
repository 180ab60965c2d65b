"""Heads of queues, and what a process remembers of them.

A script compares the remembered turn and salt with the stored ones, so a head that was changed meanwhile only
costs another round trip.
"""

from __future__ import annotations

import asyncio
import heapq
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from zaqar_notify.models import INTERNAL_PROJECT, JsonObject, QueueRef
from zaqar_notify.storage.base import Head, Heads
from zaqar_notify.storage.ids import POSITIONS_PER_MS, new_salt
from zaqar_notify.storage.redis.batches import Batch, Batches, Operation
from zaqar_notify.storage.redis.keys import member_of, ref_of
from zaqar_notify.storage.values import from_json, from_ms, to_json, to_ms

REMEMBERED = 10_000
COUNTED_AT_ONCE = 1000
AFTER_ALL = "\x7f"
"""Behind every name, since names are ASCII."""


class HeadState(msgspec.Struct, frozen=True):
    """A head as it was read. `until` in ms, or 0; `turn` and `salt` are another pair after each change."""

    rules: JsonObject
    revision: int
    until: int
    turn: str
    salt: str


class KnownHeads:
    """The heads that this process remembers, and the last position that it knows of each queue."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self._known: dict[QueueRef, HeadState] = {}
        self._last: dict[QueueRef, int] = {}

    async def get(self, ref: QueueRef) -> HeadState | None:
        """The head as this process remembers it, or as it is."""
        return self._known.get(ref) or await self.read(ref)

    async def read(self, ref: QueueRef) -> HeadState | None:
        return self.learn(ref, await self._batches.ask(ref, "head"))

    def learn(self, ref: QueueRef, answer: Sequence[Any]) -> HeadState | None:
        """Remember the head in a script's answer; None: there is none."""
        if not answer[1]:
            self._known.pop(ref, None)
            return None
        _, rules, revision, until, turn, salt, ms, count = answer
        state = HeadState(from_json(rules), revision, until, turn, salt)
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        self._known[ref] = state
        self.was_at(ref, ms * POSITIONS_PER_MS + count)
        return state

    def forget(self, ref: QueueRef) -> None:
        self._known.pop(ref, None)

    def was_at(self, ref: QueueRef, last: int) -> None:
        """Note a position that the queue has used."""
        if len(self._last) >= REMEMBERED:
            self._last.clear()
        self._last[ref] = max(last, self._last.get(ref, 0))

    def propose(self, ref: QueueRef, count: int, *, tries: int) -> int:
        """The first of `count` positions that are probably behind the queue's last one when they come there.

        With each try it is further ahead of the server's clock: another process was faster each time.
        """
        present = (self._batches.present_ms() + tries * tries) * POSITIONS_PER_MS
        first = max(present, self._last.get(ref, 0) + 1)
        self.was_at(ref, first + count - 1)
        return first


class RedisHeads(Heads):
    def __init__(self, batches: Batches, known: KnownHeads) -> None:
        self._batches = batches
        self._known = known

    async def get(self, ref: QueueRef) -> Head | None:
        state = await self._known.read(ref)
        if state is None:
            return None
        until = from_ms(state.until) if state.until else None
        return Head(state.rules, state.revision, until, int(state.turn))

    async def put(
        self, ref: QueueRef, rules: JsonObject, *, revision: int, subscribed_until: datetime | None
    ) -> bool:
        until = 0 if subscribed_until is None else to_ms(subscribed_until)
        # Turns of one life are never those of another; the scripts count up to 2^53.
        turn = str(secrets.randbits(48))
        fixed = (to_json(rules), revision, until, turn, new_salt().hex(), member_of(ref))
        return await self._is_done(ref, "put", *fixed)

    async def revision(self, ref: QueueRef) -> int:
        revision: int = await self._batches.ask(ref, "revision", type_=int)
        return revision

    async def drop(self, ref: QueueRef, *, revision: int, now: datetime) -> None:
        await self._is_done(ref, "drop", to_ms(now), member_of(ref), revision)

    async def drop_internal(self, refs: Sequence[QueueRef]) -> None:
        await asyncio.gather(*(self._is_done(ref, "drop_internal", ref.name) for ref in refs))

    async def internal(self, *, after: str, limit: int) -> Sequence[str]:
        return await self._names("internal", f"({after}", "+", limit)

    async def of_clients(self, *, after: QueueRef | None, limit: int) -> Sequence[QueueRef]:
        first = "-" if after is None else f"({member_of(after)}"
        return [ref_of(member) for member in await self._names("clients", first, "+", limit)]

    async def count_internal(self, *, prefix: str) -> int:
        names = await self._names("internal", f"[{prefix}", f"({prefix}{AFTER_ALL}", -1)
        by_tag: dict[int, list[str]] = {}
        for name in names:
            tag, queue = self._batches.keys.queue(QueueRef(INTERNAL_PROJECT, name))
            by_tag.setdefault(tag, []).append(queue)
        counts = [
            self._batches.read(tag, _counting(queues[first : first + COUNTED_AT_ONCE]), int)
            for tag, queues in by_tag.items()
            for first in range(0, len(queues), COUNTED_AT_ONCE)
        ]
        return sum(await asyncio.gather(*counts))

    async def raise_subscribed(self, ref: QueueRef, until: datetime) -> bool:
        return await self._is_done(ref, "raise", to_ms(until))

    async def lower_subscribed(self, ref: QueueRef, until: datetime | None, *, turn: int) -> bool:
        return await self._is_done(ref, "lower", 0 if until is None else to_ms(until), str(turn))

    async def _is_done(self, ref: QueueRef, name: str, *arguments: object) -> bool:
        [done] = await self._batches.tell(ref, name, *arguments)
        self._known.forget(ref)
        return bool(done)

    async def of_project(self, project: str) -> Sequence[QueueRef]:
        """The clients' queues of one project."""
        names = await self._names("clients", f"[{project}\0", f"({project}\1", -1)
        return [ref_of(member) for member in names]

    async def _names(self, kind: str, first: str, last: str, limit: int) -> list[str]:
        """Names of queues in their order, from all tags."""

        def build(batch: Batch) -> Operation:
            return ("names", 0, kind, first, last, limit)

        tags = range(self._batches.keys.tags)
        parts = await asyncio.gather(*(self._batches.read(tag, build, list[str]) for tag in tags))
        names = list(heapq.merge(*parts, key=str.encode))
        return names if limit < 0 else names[:limit]


def _counting(queues: Sequence[str]) -> Any:
    return lambda batch: ("counts", 0, queues)
