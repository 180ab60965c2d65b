"""Messages, in the order of their positions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from datetime import datetime

from zaqar_notify.errors import ClaimNotHeld, MessageIsClaimed
from zaqar_notify.models import (
    INTERNAL_PROJECT,
    Message,
    OldestNewest,
    Page,
    Posted,
    QueueRef,
    QueueStats,
)
from zaqar_notify.storage.base import Messages, Post, Watch
from zaqar_notify.storage.ids import life_of, new_salt, to_position
from zaqar_notify.storage.redis.batches import Batches
from zaqar_notify.storage.redis.heads import KnownHeads, RedisHeads
from zaqar_notify.storage.redis.posting import Posting
from zaqar_notify.storage.redis.records import (
    Row,
    StoredMessage,
    opened,
    opened_or_refused,
    stored,
    to_message,
)
from zaqar_notify.storage.redis.scanning import Scan, Scanning
from zaqar_notify.storage.redis.watches import RedisWatches
from zaqar_notify.storage.sealing import Sealing
from zaqar_notify.storage.values import from_ms, to_ms

_AN_ID = re.compile(r"[0-9a-f]{16}(?:[0-9a-f]{8})?", re.ASCII)
"""Of this store; the shorter ones are of messages that came from an old store of another kind."""
Rows = tuple[str, str, list[Row], str]


class RedisMessages(Messages):
    def __init__(
        self,
        batches: Batches,
        heads: RedisHeads,
        known: KnownHeads,
        posting: Posting,
        watches: RedisWatches,
        scanning: Scanning,
        sealing: Sealing,
    ) -> None:
        self._batches = batches
        self._heads = heads
        self._known = known
        self._watches = watches
        self._scanning = scanning
        self._sealing = sealing
        self._posting = posting

    async def post(self, ref: QueueRef, post: Post, *, now: datetime) -> Posted:
        return await self._posting.post(ref, post, now=now)

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
        if marker is not None and not _AN_ID.fullmatch(marker):
            return Page([], None)
        position: str | bool = ""
        if marker is not None:
            position = to_position(marker) is not None and marker[:16]
        now_ms, found, salt, state = to_ms(now), list[StoredMessage](), "", list[int]()
        word, marked = "again", marker or ""
        while word != "done" and len(found) < limit:
            wanted = limit - len(found)
            rest = (without_client or "", include_claimed, include_delayed)
            arguments = (now_ms, position, marked, wanted, *rest)
            word, last, rows, salt, state = await self._batches.ask(
                ref, "page", *arguments, type_=tuple[str, str, list[Row], str, list[int]]
            )
            clear = (opened(one, ref, self._sealing) for one in map(stored, rows))
            found += [one for one in clear if one is not None]
            if word == "more":
                position, marked = last, ""
        self._watches.saw(ref, state)
        messages = [to_message(one, salt, now_ms) for one in found]
        return Page(messages, found[-1].position + salt if found else None)

    async def get(self, ref: QueueRef, ids: Sequence[str], *, now: datetime) -> list[Message]:
        known = [one for one in ids if _AN_ID.fullmatch(one)]
        if not known:
            return []
        now_ms = to_ms(now)
        rows, salt = await self._batches.ask(ref, "get", now_ms, known, type_=tuple[list[Row], str])
        clear = (opened_or_refused(one, ref, self._sealing) for one in map(stored, rows))
        return [to_message(one, salt, now_ms) for one in clear]

    async def delete(
        self, ref: QueueRef, message_id: str, *, claim_id: str | None, now: datetime
    ) -> None:
        claims = None if claim_id is None else [claim_id]
        word, *_ = await self._delete(ref, [message_id], claims, "one", now)
        if word == "claimed":
            raise MessageIsClaimed(message_id)
        if word == "unheld":
            raise ClaimNotHeld(str(claim_id), message_id)

    async def delete_many(
        self,
        ref: QueueRef,
        ids: Sequence[str],
        *,
        claim_ids: Sequence[str] | None,
        now: datetime,
    ) -> None:
        how = "any" if claim_ids is None else "some"
        word, *which = await self._delete(ref, ids, claim_ids, how, now)
        if word == "unheld":
            raise ClaimNotHeld(", ".join(claim_ids or ()), which[0])

    async def _delete(
        self,
        ref: QueueRef,
        ids: Sequence[str],
        claims: Sequence[str] | None,
        how: str,
        now: datetime,
    ) -> list[str]:
        known = [one for one in ids if _AN_ID.fullmatch(one)]
        if not known:
            return ["done"]
        named = False if claims is None else list(claims)
        answer: list[str] = await self._batches.tell(ref, "delete", to_ms(now), known, named, how)
        return answer

    async def pop(self, ref: QueueRef, *, limit: int, now: datetime) -> list[Message]:
        now_ms, scan = to_ms(now), self._scanning.begin(ref, ())
        while True:
            arguments = (now_ms, limit, scan.after, self._scanning.key_ids, scan.skipped)
            word, last, rows, salt = await self._batches.tell(ref, "pop", *arguments, type_=Rows)
            popped = [stored(row) for row in rows]
            if word == "sealed":
                popped = await self._take_readable(ref, popped, scan, now_ms)
                if not popped:
                    continue
            if word in ("again", "passed"):
                scan.goes_on(last, word)
            elif popped:
                scan.end(popped[0].position)
                return [to_message(one, salt, now_ms) for one in popped]
            elif not scan.goes_on_from_the_head():
                return []

    async def _take_readable(
        self, ref: QueueRef, found: Sequence[StoredMessage], scan: Scan, now: int
    ) -> list[StoredMessage]:
        """Remove those that can be read, unless others took them meanwhile; the rest stay, and are passed over."""
        clear = {one.position: opened(one, ref, self._sealing) for one in found}
        scan.skipped += [position for position, one in clear.items() if one is None]
        readable = {position: one for position, one in clear.items() if one is not None}
        taken = await self._batches.tell(ref, "take", now, [*readable])
        return [readable[position] for position in taken]

    async def purge(self, ref: QueueRef, *, now: datetime) -> None:
        await self._batches.tell(ref, "purge", to_ms(now), new_salt().hex())
        self._known.forget(ref)

    async def cancelled(self, ref: QueueRef, due: Mapping[str, datetime]) -> Set[str]:
        if not due:
            return set()
        wanted = list({*due, *map(life_of, due)})
        noted = await self._batches.ask(ref, "cancelled", wanted)
        at = {
            what: int(when) for what, when in zip(wanted, noted, strict=True) if when is not False
        }
        return {
            message_id
            for message_id, instant in due.items()
            if message_id in at or at.get(life_of(message_id), to_ms(instant)) < to_ms(instant)
        }

    async def stats(self, ref: QueueRef, *, now: datetime) -> QueueStats:
        answer, is_complete = tuple[bool, str, int, int, list[Row]], False
        while not is_complete:
            is_complete, salt, claimed, free, ends = await self._batches.ask(
                ref, "stats", to_ms(now), type_=answer
            )
        shown = [
            OldestNewest(one.id(salt), from_ms(one.record.posted_at)) for one in map(stored, ends)
        ]
        oldest, newest = shown or (None, None)
        return QueueStats(claimed=claimed, free=free, oldest=oldest, newest=newest)

    async def stored_bytes(self, project: str, *, now: datetime) -> int:
        refs = await self._heads.of_project(project)
        return sum([await self._bytes_on(ref, to_ms(now)) for ref in refs])

    async def internal_bytes(self, names: Sequence[str], *, now: datetime) -> int:
        refs = [QueueRef(INTERNAL_PROJECT, name) for name in names]
        return sum([await self._bytes_on(ref, to_ms(now)) for ref in refs])

    async def _bytes_on(self, ref: QueueRef, now: int) -> int:
        some: int
        total, offset = 0, 0
        while True:
            some, offset = await self._batches.ask(ref, "bytes", now, offset)
            total += some
            if not offset:
                return total

    def watch(self, ref: QueueRef, *, exclusive: bool = False) -> Watch:
        return self._watches.watch(ref, exclusive=exclusive)
