"""Moves that are asked for, followed, cancelled and ended.

A move is a message on the internal queue `moves`: the process that claims it carries it out, and when that process
dies, another one goes on. How far it is, is noted on a queue of its own, where the last message counts; the wish to
cancel it comes there, too. All of it is on the message store of the default pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from zaqar_notify.models import Message, NewMessage, QueueRef
from zaqar_notify.storage.base import MessageStore, ReadyPost
from zaqar_notify.storage.internal import MOVED_REF, MOVES_REF, moving_ref
from zaqar_notify.storage.moving.records import VERSION, Entry, Move, Progress, Wish

KEPT_SECONDS = 365 * 86_400
"""A move that can't go on for so long, because a store is away, is forgotten."""
SHOWN_SECONDS = 7 * 86_400
"""For so long it is shown how a move ended."""
LISTED = 1000
"""So many moves are listed at most."""


_WISH = msgspec.json.encode(Wish(cancel=True))


class Ended(msgspec.Struct, frozen=True):
    """A move that is over."""

    move: Move
    progress: Progress


async def ask(store: MessageStore, move: Move, *, now: datetime) -> None:
    """Store the move, for whatever process carries out moves."""
    await _post(store, MOVES_REF, msgspec.json.encode(move), KEPT_SECONDS, now)


async def under_way(store: MessageStore, *, now: datetime) -> Sequence[tuple[str, Move]]:
    """The moves that are not over, in the order in which they were asked for, with the ids of their messages."""
    found = await _page(store, MOVES_REF, LISTED, now)
    return [(message.id, msgspec.json.decode(message.body, type=Move)) for message in found]


async def ended(store: MessageStore, *, now: datetime) -> Sequence[Ended]:
    """The moves of the last days that are over, in the order in which they ended."""
    found = await _page(store, MOVED_REF, LISTED, now)
    return [msgspec.json.decode(message.body, type=Ended) for message in found]


async def note(store: MessageStore, move: Move, progress: Progress, *, now: datetime) -> None:
    """Note how far the move is, in place of what was noted before."""
    former = await _page(store, moving_ref(move.id), LISTED, now)
    await _post(store, moving_ref(move.id), msgspec.json.encode(progress), KEPT_SECONDS, now)
    gone = [message.id for message in former if isinstance(_entry(message), Progress)]
    if gone:
        await store.messages.delete_many(moving_ref(move.id), gone, claim_ids=None, now=now)


async def wish_to_cancel(store: MessageStore, move: Move, *, now: datetime) -> None:
    """Have the move cancelled, unless the queue is on the other pool by then."""
    await _post(store, moving_ref(move.id), _WISH, KEPT_SECONDS, now)


async def progress_of(store: MessageStore, move: Move, *, now: datetime) -> tuple[Progress, bool]:
    """How far the move is, and whether it is to be cancelled."""
    found = [_entry(message) for message in await _page(store, moving_ref(move.id), LISTED, now)]
    noted = [entry for entry in found if isinstance(entry, Progress)]
    return (noted[-1] if noted else Progress()), any(isinstance(each, Wish) for each in found)


async def end(
    store: MessageStore, message_id: str, move: Move, progress: Progress, *, now: datetime
) -> None:
    """The move is over: show for some days how it ended."""
    text = msgspec.json.encode(Ended(move, progress))
    if move.id not in {one.move.id for one in await ended(store, now=now)}:
        await _post(store, MOVED_REF, text, SHOWN_SECONDS, now)
    await store.heads.drop_internal([moving_ref(move.id)])
    await store.messages.delete_many(MOVES_REF, [message_id], claim_ids=None, now=now)


def is_readable(message: Message) -> bool:
    """Whether this release can carry out the move."""
    return bool(msgspec.json.decode(message.body)["version"] <= VERSION)


def read(message: Message) -> Move:
    return msgspec.json.decode(message.body, type=Move)


def _entry(message: Message) -> Entry:
    if message.body == _WISH:
        return Wish(cancel=True)
    return msgspec.json.decode(message.body, type=Progress)


async def _page(store: MessageStore, ref: QueueRef, limit: int, now: datetime) -> Sequence[Message]:
    page = await store.messages.page(
        ref, marker=None, limit=limit, now=now, include_claimed=True, include_delayed=True
    )
    return page.messages


async def _post(store: MessageStore, ref: QueueRef, body: bytes, ttl: int, now: datetime) -> None:
    post = ReadyPost([NewMessage(body, ttl)], client_id="")
    await store.messages.post(ref, post, now=now)
