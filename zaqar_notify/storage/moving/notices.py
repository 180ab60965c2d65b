"""Words between a move and the processes that use a pool: messages of internal queues on the pool's own store."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TypeVar

import msgspec

from zaqar_notify.models import NewMessage, QueueRef
from zaqar_notify.storage.base import MessageStore, ReadyPost
from zaqar_notify.storage.internal import ANSWERS_REF, MEMBERS_REF, NOTICES_REF

LIVES_SECONDS = 15
"""A process that has said so is waited for, for so long."""
NOTICE_SECONDS = 60
"""A notice is there for so long. A process that sleeps for longer has lost its lease before."""
READ_AT_ONCE = 1000


class Kind(StrEnum):
    ANNOUNCED = "announced"
    """A queue is about to stand still: notices are looked for often from now on."""
    STILL = "still"
    """The queue stands still."""
    OPEN = "open"
    """Operations go on, on `pool`."""


class Notice(msgspec.Struct, frozen=True):
    """About a queue that is on `pool` now."""

    kind: Kind
    project: str
    queue: str
    pool: str
    attempt: str

    @property
    def ref(self) -> QueueRef:
        return QueueRef(self.project, self.queue)


class Lives(msgspec.Struct, frozen=True):
    """A process uses the pool, or does so no more."""

    member: str
    lives: bool = True


class Answer(msgspec.Struct, frozen=True):
    """A process has heeded a notice: it has no operation on a queue under way that is to stand still."""

    attempt: str
    member: str
    kind: Kind


T = TypeVar("T")


async def tell(store: MessageStore, notice: Notice) -> None:
    await _post(store, NOTICES_REF, notice, NOTICE_SECONDS)


async def live(store: MessageStore, member: str, *, lives: bool = True) -> None:
    await _post(store, MEMBERS_REF, Lives(member, lives), LIVES_SECONDS)


async def answer(store: MessageStore, notice: Notice, member: str) -> None:
    await _post(store, ANSWERS_REF, Answer(notice.attempt, member, notice.kind), NOTICE_SECONDS)


async def notices(store: MessageStore, marker: str | None) -> tuple[Sequence[Notice], str | None]:
    """The notices behind a marker, and the marker behind them."""
    return await _read(store, NOTICES_REF, marker, Notice)


async def members(store: MessageStore) -> set[str]:
    """The processes that use the pool."""
    found, _ = await _read(store, MEMBERS_REF, None, Lives)
    last = {each.member: each.lives for each in found}
    return {member for member, lives in last.items() if lives}


async def answered(store: MessageStore, attempt: str, kind: Kind) -> set[str]:
    """The processes that have given this answer."""
    found, _ = await _read(store, ANSWERS_REF, None, Answer)
    return {each.member for each in found if each.kind is kind and each.attempt == attempt}


async def _read(
    store: MessageStore, ref: QueueRef, marker: str | None, kind: type[T]
) -> tuple[list[T], str | None]:
    found: list[T] = []
    while True:
        page = await store.messages.page(
            ref, marker=marker, limit=READ_AT_ONCE, now=store.clock.now()
        )
        found += [msgspec.json.decode(message.body, type=kind) for message in page.messages]
        marker = page.marker or marker
        if len(page.messages) < READ_AT_ONCE:
            return found, marker


async def _post(store: MessageStore, ref: QueueRef, what: msgspec.Struct, ttl: int) -> None:
    post = ReadyPost([NewMessage(msgspec.json.encode(what), ttl)], client_id="")
    await store.messages.post(ref, post, now=store.clock.now())
