"""Bulk work that clients order: replays of a subscription's deliveries, and redrives of a dead-letter queue.

Its state is a message on an internal queue of its project, on the message store of the default pool; the last message
of an id counts. The job that goes on with it is in the outbox, so its lease makes one worker in the cluster do it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from zaqar_notify.delivery.partitions import partition_of
from zaqar_notify.delivery.records import (
    VERSION,
    BulkJob,
    InternalMessage,
    InternalPost,
    internal_message,
)
from zaqar_notify.models import Message, NewMessage, QueueRef
from zaqar_notify.rules.tokens import covers
from zaqar_notify.settings import Settings
from zaqar_notify.storage.base import IdempotencyKey, MessageStore
from zaqar_notify.storage.internal import bulk_ref, outbox_ref

KEPT_SECONDS = 365 * 86_400
SHOWN_SECONDS = 7 * 86_400
"""For so long it is shown how bulk work ended."""
MOST_SHOWN = 200
"""Of one project; the oldest of those that have ended give way."""
READ_AT_ONCE = 1000

STEP_SECONDS = 86_400
"""For so long a step can be repeated after a crash."""

REQUEST_LASTS = timedelta(minutes=1)
"""For so long a job waits for the state that the request is about to store."""


class Kind(StrEnum):
    REPLAY = "replay"
    REDRIVE = "redrive"


class State(StrEnum):
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"


class Outcome(StrEnum):
    """Which deliveries a replay takes."""

    UNDELIVERED = "undelivered"
    """Those that were given up."""
    DELIVERED = "delivered"
    """All messages that are on the queue, whatever became of their deliveries."""
    ANY = "any"


class Selection(msgspec.Struct, frozen=True, omit_defaults=True):
    """The deliveries that a replay takes. `since` and `until` are about when a message was posted, or given up."""

    outcome: Outcome = Outcome.UNDELIVERED
    delivery_ids: frozenset[str] = frozenset()
    message_ids: frozenset[str] = frozenset()
    since: datetime | None = None
    until: datetime | None = None

    def takes(self, delivery_id: str, message_id: str, at: datetime) -> bool:
        """Whether it takes a delivery whose message was posted, or which was given up, at that instant."""
        is_named = delivery_id in self.delivery_ids or message_id in self.message_ids
        if (self.delivery_ids or self.message_ids) and not is_named:
            return False
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)


class Bulk(msgspec.Struct, frozen=True, omit_defaults=True):
    """A replay, or a redrive of `queue`, and how far it is.

    `total` is the number of things to look at, as it was counted at the start; None: not yet. Of them `seen` were
    looked at and `moved` taken; `left` stay where they are, because it is not known where they came from. `marker` is the
    place behind those that were looked at in the part `part`; `held` are the claims on those that are left. `queues` is
    the pattern that confines the client that asked. Since `idle_since` there was nothing to take.
    """

    id: str
    kind: Kind
    project: str
    queue: str
    per_second: int
    asked_at: datetime
    subscription_id: str = ""
    target: str = ""
    selection: Selection = Selection()
    state: State = State.RUNNING
    reason: str = ""
    total: int | None = None
    seen: int = 0
    moved: int = 0
    left: int = 0
    part: int = 0
    marker: str | None = None
    held: tuple[str, ...] = ()
    queues: str | None = None
    idle_since: datetime | None = None
    ended_at: datetime | None = None

    def is_like(self, other: Bulk) -> bool:
        """Whether both were ordered with the same values."""
        return _ordered(self) == _ordered(other)

    def ended(self, state: State, now: datetime, reason: str = "") -> Bulk:
        return replace(self, state=state, reason=reason, held=(), ended_at=now)

    def may_reach(self, queue: str) -> bool:
        """Whether the client that asked may post there."""
        return self.queues is None or covers(self.queues, queue)

    @property
    def ref(self) -> QueueRef:
        return QueueRef(self.project, self.queue)

    @property
    def is_over(self) -> bool:
        return self.state is not State.RUNNING


def _ordered(bulk: Bulk) -> tuple[object, ...]:
    return bulk.kind, bulk.subscription_id, bulk.target, bulk.per_second, bulk.selection


class _Cancel(msgspec.Struct, frozen=True, tag_field="entry", tag="cancel"):
    id: str


class _Noted(msgspec.Struct, frozen=True, tag_field="entry", tag="noted"):
    bulk: Bulk


_entry: msgspec.json.Decoder[_Cancel | _Noted] = msgspec.json.Decoder(_Cancel | _Noted)


def bulk_job(bulk: Bulk, settings: Settings) -> InternalMessage:
    """The job that begins with it."""
    job = BulkJob(VERSION, bulk.project, bulk.queue, bulk.id, bulk.asked_at)
    return again(job, settings, delay=0)


def again(job: BulkJob, settings: Settings, *, delay: int) -> InternalMessage:
    """The job that goes on with it in `delay` seconds."""
    queue = QueueRef(job.project, job.queue)
    outbox = outbox_ref(partition_of(queue, settings.delivery_partitions))
    return internal_message(outbox, job, delay=delay)


def step_key(bulk: Bulk, what: str) -> IdempotencyKey:
    """The key of a record that a step stores: repeated after a crash, it stores nothing more."""
    # No client's key has a space.
    return IdempotencyKey(f"{bulk.kind} {bulk.id} {what}", b"step", STEP_SECONDS)


def id_of(project: str, queue: str, name: str) -> str:
    """The id of the bulk work that a client ordered under a name of its own: ordered twice, it is done once."""
    return hashlib.sha256("\0".join((project, queue, name)).encode()).hexdigest()[:32]


async def known(store: MessageStore, project: str, *, now: datetime) -> Sequence[Bulk]:
    """All of the project, in the order in which they were asked for."""
    entries = [_read(message) for message in await _messages(store, project, now)]
    last = {entry.bulk.id: entry.bulk for entry in entries if isinstance(entry, _Noted)}
    return sorted(last.values(), key=lambda bulk: (bulk.asked_at, bulk.id))


async def find(
    store: MessageStore, project: str, bulk_id: str, *, now: datetime
) -> tuple[Bulk | None, bool]:
    """One of the project, and whether it is to be cancelled."""
    entries = [_read(message) for message in await _messages(store, project, now)]
    noted = [each.bulk for each in entries if isinstance(each, _Noted) and each.bulk.id == bulk_id]
    is_cancelled = any(isinstance(each, _Cancel) and each.id == bulk_id for each in entries)
    return (noted[-1] if noted else None), is_cancelled


async def note(store: MessageStore, bulk: Bulk, *, now: datetime) -> bool:
    """Note how far it is, in place of what was noted before. Whether it is to be cancelled."""
    found = [(message.id, _read(message)) for message in await _messages(store, bulk.project, now)]
    ttl = SHOWN_SECONDS if bulk.is_over else KEPT_SECONDS
    await _post(store, bulk.project, _Noted(bulk), ttl, now)
    former = [message_id for message_id, entry in found if _is_former(entry, bulk)]
    await _delete(store, bulk.project, former, now)
    return any(isinstance(entry, _Cancel) and entry.id == bulk.id for _, entry in found)


async def cancel(store: MessageStore, bulk: Bulk, *, now: datetime) -> None:
    """Have it end: what was done stays done."""
    await _post(store, bulk.project, _Cancel(bulk.id), KEPT_SECONDS, now)


async def forget_oldest(store: MessageStore, project: str, *, now: datetime) -> None:
    """Let the oldest of those that have ended give way, where there are many."""
    found = await known(store, project, now=now)
    over = [bulk.id for bulk in found if bulk.is_over]
    surplus = {*over[: max(0, len(found) - MOST_SHOWN)]}
    gone = [
        message.id
        for message in (await _messages(store, project, now) if surplus else ())
        if isinstance(entry := _read(message), _Noted) and entry.bulk.id in surplus
    ]
    await _delete(store, project, gone, now)


def _is_former(entry: _Cancel | _Noted, bulk: Bulk) -> bool:
    if isinstance(entry, _Noted):
        return entry.bulk.id == bulk.id
    return bulk.is_over and entry.id == bulk.id


def _read(message: Message) -> _Cancel | _Noted:
    return _entry.decode(message.body)


async def _messages(store: MessageStore, project: str, now: datetime) -> Sequence[Message]:
    page = await store.messages.page(bulk_ref(project), marker=None, limit=READ_AT_ONCE, now=now)
    return page.messages


async def _post(
    store: MessageStore, project: str, entry: _Cancel | _Noted, ttl: int, now: datetime
) -> None:
    post = InternalPost([NewMessage(msgspec.json.encode(entry), ttl)], project=project)
    await store.messages.post(bulk_ref(project), post, now=now)


async def _delete(store: MessageStore, project: str, ids: Collection[str], now: datetime) -> None:
    if ids:
        await store.messages.delete_many(bulk_ref(project), [*ids], claim_ids=None, now=now)
