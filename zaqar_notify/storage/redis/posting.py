"""Posts: one script stores the messages, the jobs and the answer to an idempotency key.

A script numbers the messages itself. Only a queue that is subscribed to has jobs, whose bodies have the ids of the
messages: for such a post this process proposes positions, and the script refuses them unless they are behind the
queue's last one.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from zaqar_notify.models import INTERNAL_PROJECT, NewMessage, Posted, QueueRef
from zaqar_notify.storage.base import HeadMissing, IdempotencyKey, Post
from zaqar_notify.storage.base.transfer import digest_of_key
from zaqar_notify.storage.ids import POSITIONS_PER_MS, new_salt, to_id
from zaqar_notify.storage.redis.batches import Batch, Batches, Operation
from zaqar_notify.storage.redis.heads import HeadState, KnownHeads
from zaqar_notify.storage.redis.parcels import Parcels
from zaqar_notify.storage.redis.records import to_record
from zaqar_notify.storage.redis.watches import RedisWatches
from zaqar_notify.storage.sealing import Sealing
from zaqar_notify.storage.values import instants_of, to_ms


class Posting:
    def __init__(
        self,
        batches: Batches,
        known: KnownHeads,
        parcels: Parcels,
        watches: RedisWatches,
        sealing: Sealing,
    ) -> None:
        self._batches = batches
        self._parcels = parcels
        self._known = known
        self._watches = watches
        self._sealing = sealing

    async def post(self, ref: QueueRef, post: Post, *, now: datetime) -> Posted:
        sealed, now_ms = self._sealing.sealed(ref, post), to_ms(now)
        if ref.project == INTERNAL_PROJECT:
            one = OnePost(self, ref, sealed, None, sealed.messages_for({}), now_ms, tries=0)
            return self._posted(one, await self._store(one))
        tries = 0
        while True:
            head = await self._known.get(ref)
            messages = await self._messages(ref, sealed, head, now_ms)
            if isinstance(messages, Posted):
                return messages
            if head is None:
                raise HeadMissing(ref)
            if messages is None:
                continue
            one = OnePost(self, ref, sealed, head, messages, now_ms, tries=tries)
            answer = await self._store(one)
            if answer[0] == "stale":
                self._known.learn(ref, answer)
            elif answer[0] == "behind":
                self._known.was_at(ref, answer[1] * POSITIONS_PER_MS + answer[2])
                tries += 1
            else:
                return self._posted(one, answer)

    async def _messages(
        self, ref: QueueRef, post: Post, head: HeadState | None, now: int
    ) -> Sequence[NewMessage] | Posted | None:
        """The messages by the head's rules, or what was answered before; None: the head has changed.

        Raises:
            Exception: That of the post, which its queue refuses.
        """
        try:
            messages = post.messages_for({} if head is None else head.rules)
            if head is not None:
                return messages
            return await self._answered(ref, post, now) or messages
        except Exception:  # Whatever the rules refuse, a repeated post is answered.
            answered = await self._answered(ref, post, now)
            if answered is not None:
                return answered
            fresh = await self._known.read(ref)
            if head is None or fresh is None or (fresh.turn, fresh.salt) == (head.turn, head.salt):
                raise
            return None

    async def _answered(self, ref: QueueRef, post: Post, now: int) -> Posted | None:
        key = post.idempotency_key
        if key is None:
            return None
        answer = await self._batches.ask(ref, "remembered", now, digest_of_key(ref, key.key).hex())
        return _remembered(key, answer) if answer[0] == "remembered" else None

    async def _store(self, one: OnePost) -> list[Any]:
        tag, _ = self._batches.keys.queue(one.ref)
        answer: list[Any] = await self._batches.write(tag, one.build)
        if any(self._batches.keys.tag_of(outbox) != tag for outbox, _ in one.jobs):
            await self._parcels.forward_if_possible(tag)
        return answer

    def _posted(self, one: OnePost, answer: Sequence[Any]) -> Posted:
        key = one.post.idempotency_key
        if answer[0] == "remembered" and key is not None:
            return _remembered(key, answer)
        _, ms, count, salt = answer
        first = ms * POSITIONS_PER_MS + count
        self._known.was_at(one.ref, first + len(one.messages) - 1)
        if one.post.is_kept:
            self._watches.came(one.ref, one.messages, one.now)
        for outbox, job in one.jobs:
            self._watches.came(outbox, [job], one.now)
        ids = _ids(first, len(one.messages), salt)
        return Posted(ids, owes_deliveries=bool(one.jobs))

    def propose(self, ref: QueueRef, count: int, tries: int) -> int:
        return self._known.propose(ref, count, tries=tries)

    def appended(
        self, batch: Batch, ref: QueueRef, message: NewMessage, client: str, now: int
    ) -> Operation:
        """A message that an operation appends to an internal queue, or sends there."""
        tag, queue = self._batches.keys.queue(ref)
        record = batch.record(to_record(ref, message, client, now))
        fixed = (ref.name, new_salt().hex(), _lives([message], now), record)
        return (batch.queue(queue), *fixed) if tag == batch.tag else (0, *fixed, queue)

    def queue_key(self, ref: QueueRef) -> str:
        return self._batches.keys.queue(ref)[1]


class OnePost:
    """A try to store a post. Its jobs are made when its batch is."""

    def __init__(
        self,
        posting: Posting,
        ref: QueueRef,
        post: Post,
        head: HeadState | None,
        messages: Sequence[NewMessage],
        now: int,
        *,
        tries: int,
    ) -> None:
        """Prepare it for a queue of this head; None: it is internal."""
        self.ref = ref
        self.post = post
        self.messages = messages
        self.now = now
        self.jobs: Sequence[tuple[QueueRef, NewMessage]] = ()
        self._posting = posting
        self._head = head
        self._tries = tries

    def build(self, batch: Batch) -> Operation:
        ref, head, now, key = self.ref, self._head, self.now, self.post.idempotency_key
        queue = batch.queue(self._posting.queue_key(ref))
        first = self._number(head)
        kept = self.messages if self.post.is_kept else ()
        at = batch.record(*(to_record(ref, one, self.post.client_id, now) for one in kept))
        jobs = [
            self._posting.appended(batch, outbox, job, ref.project, now)
            for outbox, job in self.jobs
        ]
        return (
            "post",
            queue,
            now,
            False if head else ref.name,
            head.turn if head else "",
            head.salt if head else new_salt().hex(),
            first // POSITIONS_PER_MS if first else False,
            first % POSITIONS_PER_MS,
            _lives(self.messages, now),
            at,
            digest_of_key(ref, key.key).hex() if key else False,
            key.fingerprint.hex() if key else "",
            key.keep_seconds * 1000 if key else 0,
            jobs,
            self.post.is_kept,
        )

    def _number(self, head: HeadState | None) -> int:
        """The first of the positions that the jobs need to know; 0: there are none."""
        if head is None or not (head.until > self.now or self.post.notifies_later):
            return 0
        count = len(self.messages)
        first = self._posting.propose(self.ref, count, self._tries)
        ids = _ids(first, count, head.salt)
        self.jobs = self.post.jobs(head.rules, ids, self.messages)
        return first


def _lives(messages: Sequence[NewMessage], now: int) -> list[int]:
    """For each message, in how many milliseconds it expires, and its delay ends."""
    all_instants = [instants_of(message, now) for message in messages]
    return [
        ms for one in all_instants for ms in (one.expires_at - now, max(0, one.held_until - now))
    ]


def _ids(first: int, count: int, salt: str) -> list[str]:
    end = bytes.fromhex(salt)
    return [to_id(position, end) for position in range(first, first + count)]


def _remembered(key: IdempotencyKey, answer: Sequence[Any]) -> Posted:
    """The former answer to the post of this key.

    Raises:
        IdempotencyKeyReused: That was another post.
    """
    _, fingerprint, first, count, salt = answer
    key.check(bytes.fromhex(fingerprint))
    return Posted(_ids(int(first, 16), count, salt), owes_deliveries=False)
