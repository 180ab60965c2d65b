"""Messages are encoded by hand, by the head of their queue at their reservation."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from datetime import timedelta

import bson
import pytest
from bson.codec_options import CodecOptions

from tests.clock import START
from tests.contract.steps import GivenPost, everything, new_message, post, subscribe
from zaqar_notify.errors import ValidationFailed
from zaqar_notify.metadata import DEFAULT_TTL
from zaqar_notify.models import JsonObject, NewMessage, Posted, QueueRef
from zaqar_notify.storage.mongodb.documents import new_documents, place
from zaqar_notify.storage.mongodb.watches import MongoWatches
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.values import to_ms

QUEUE_ID = secrets.token_bytes(12)
POSITION = 1 << 60
TOGETHER = 8
REFUSES = 0
"""The ttl of a queue that takes nothing."""


class ByMetadata(GivenPost):
    """A message with its queue's ttl."""

    def __init__(self) -> None:
        super().__init__([])

    def messages_for(self, rules: JsonObject) -> Sequence[NewMessage]:
        ttl = rules.get(DEFAULT_TTL, 60)
        if ttl == REFUSES:
            raise ValidationFailed("The queue takes nothing")
        return [new_message("any", ttl=ttl)]


@pytest.mark.parametrize("body", [b'""', b'"\xc3\xa9"', b'"' + b"x" * 70_000 + b'"'])
@pytest.mark.parametrize("delay", [0, 30])
@pytest.mark.parametrize("checksum", [None, "MD5:0123"])
def test_an_encoded_message_is_what_the_library_would_encode(
    body: bytes, delay: int, checksum: str | None
) -> None:
    message = NewMessage(body=body, ttl=300, delay=delay, checksum=checksum)
    held_until = to_ms(START) + 30_000 if delay else 0

    [document] = new_documents([message], QUEUE_ID, POSITION, client_id="ünï", now=START)

    expected = {
        "_id": place(QUEUE_ID, POSITION),
        "queue": QUEUE_ID,
        "due": -held_until,
        "held_until": held_until,
        "claim_count": 0,
        "client": "ünï",
        "ttl": 300,
        "posted_at": START,
        "expires_at": START + timedelta(seconds=300),
        "body": body,
    } | ({} if checksum is None else {"checksum": checksum})
    assert document.raw == bson.encode(expected)


def test_messages_of_one_post_keep_what_is_their_own() -> None:
    messages = [
        NewMessage(body=b"1", ttl=60),
        NewMessage(body=b"2", ttl=60, delay=5),
        NewMessage(body=b"3", ttl=90),
        NewMessage(body=b"4", ttl=60, checksum="SHA256:4"),
        NewMessage(body=b"5", ttl=60),
    ]

    documents: list[JsonObject] = [
        bson.decode(one.raw, CodecOptions(tz_aware=True))
        for one in new_documents(messages, QUEUE_ID, POSITION, client_id="c", now=START)
    ]

    now = to_ms(START)
    assert [one["_id"] for one in documents] == [
        place(QUEUE_ID, POSITION + number) for number in range(len(messages))
    ]
    assert [
        (one["body"], one["ttl"], one["held_until"], one.get("checksum")) for one in documents
    ] == [
        (b"1", 60, 0, None),
        (b"2", 60, now + 5000, None),
        (b"3", 90, 0, None),
        (b"4", 60, 0, "SHA256:4"),
        (b"5", 60, 0, None),
    ]
    assert [(one["expires_at"] - START).seconds for one in documents] == [60, 60, 90, 60, 60]


@pytest.mark.parametrize(
    ("before", "now", "stored"),
    [
        pytest.param(100, 200, [100] * TOGETHER + [200] * TOGETHER, id="other-ttl"),
        pytest.param(REFUSES, 200, [200] * TOGETHER, id="refused-before"),
        pytest.param(100, REFUSES, [100] * TOGETHER, id="refuses-now"),
    ],
)
async def test_posts_go_by_what_their_queue_says_now_and_not_by_what_the_batch_before_saw(
    storage: Storage,
    other_storage: Storage,
    queue: QueueRef,
    before: int,
    now: int,
    stored: list[int],
) -> None:
    await storage.queues.create(queue, metadata={DEFAULT_TTL: before}, now=START)
    await post_together(storage, queue)

    await other_storage.queues.update(queue, lambda _: {DEFAULT_TTL: now})
    await post_together(storage, queue)

    assert [message.ttl for message in await everything(storage, queue)] == stored


async def test_a_queue_that_came_back_since_the_batch_before_has_its_own_messages(
    storage: Storage, other_storage: Storage, queue: QueueRef
) -> None:
    await storage.queues.create(queue, metadata={DEFAULT_TTL: 100}, now=START)
    await post_together(storage, queue)

    await other_storage.queues.delete(queue, now=START)
    await other_storage.queues.create(queue, metadata={DEFAULT_TTL: 100}, now=START)
    posted = await post_together(storage, queue)

    found = [message.id for message in await everything(other_storage, queue)]
    assert sorted(found) == sorted(one.ids[0] for one in posted)


async def test_who_waits_is_told_when_a_delayed_message_falls_due(
    storage: Storage, queue: QueueRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[QueueRef, int]] = []
    monkeypatch.setattr(MongoWatches, "held", lambda _, ref, due: told.append((ref, due)))

    await asyncio.gather(
        *(post(storage, queue, bodies=["late"], delay=delay) for delay in (90, 60, 75, 0))
    )

    assert min(due for ref, due in told if ref == queue) == to_ms(START) + 60_000


async def test_a_waiting_engine_is_told_how_many_jobs_are_there_and_when_the_delayed_fall_due(
    storage: Storage, queue: QueueRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = QueueRef("", "outbox")
    told: list[tuple[QueueRef, int]] = []
    came: list[tuple[QueueRef, int]] = []
    monkeypatch.setattr(MongoWatches, "held", lambda _, ref, due: told.append((ref, due)))
    monkeypatch.setattr(MongoWatches, "came", lambda _, ref, visible: came.append((ref, visible)))

    class DelayedJobs(GivenPost):
        def jobs(self, *_: object) -> list[tuple[QueueRef, NewMessage]]:
            return [(outbox, new_message("job", delay=delay)) for delay in (0, 90, 60)]

    await subscribe(storage, queue)
    await storage.post(queue, DelayedJobs([new_message("a")]), now=START)

    assert (came, told) == ([(outbox, 1)], [(outbox, to_ms(START) + 60_000)])


async def post_together(
    storage: Storage, queue: QueueRef, posts: Sequence[GivenPost] = ()
) -> list[Posted]:
    """Post so many that they are one batch; returns the answers of those that were not refused."""
    answers = await asyncio.gather(
        *(
            storage.post(queue, one, now=START)
            for one in posts or [ByMetadata() for _ in range(TOGETHER)]
        ),
        return_exceptions=True,
    )
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, ValidationFailed):
            raise answer
    return [answer for answer in answers if isinstance(answer, Posted)]
