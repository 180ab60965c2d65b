"""Poison jobs: no worker could finish them. An operator lists them, gives them back, or removes them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

import msgspec

from zaqar_notify.delivery.partitions import partition_of
from zaqar_notify.delivery.records import OWED_TTL_SECONDS, InternalPost
from zaqar_notify.models import DeadLetter, Message, NewMessage, QueueRef
from zaqar_notify.settings import Settings
from zaqar_notify.storage.base import MessageStore
from zaqar_notify.storage.internal import POISON_REF, outbox_ref, retry_ref

PAGE = 100

MIN_POISON_CLAIMS = 10
POISON_SECONDS = 600
"""A job counts as poison after ten claims at least, and as many as leases have lapsed in ten minutes: by
then as many workers have died of it or let it lapse. Fewer would condemn jobs that were only in hand
each time when a worker was killed for other reasons, ten times within a minute or two."""


class PutAside(msgspec.Struct, frozen=True):
    """A job without its messages. The texts are empty where it can't be read."""

    id: str
    job: str
    project: str
    queue: str
    subscription_id: str
    bytes: int
    posted_at: datetime


class _JobHeader(msgspec.Struct):
    """The fields that a job of any version has."""

    job: str = ""
    project: str = ""
    queue: str = ""
    subscription_id: str = ""


_job_header = msgspec.json.Decoder(_JobHeader)


def poison_rule(lease_seconds: int) -> DeadLetter:
    """When workers with leases of this length put a job aside."""
    claims = max(MIN_POISON_CLAIMS, -(-POISON_SECONDS // lease_seconds))
    return DeadLetter(POISON_REF, claims, ttl=None)


async def put_aside(
    store: MessageStore, *, job: str | None, now: datetime
) -> AsyncIterator[tuple[PutAside, Message]]:
    """All of a message store, oldest first, or the one with the id `job`."""
    marker: str | None = None
    while True:
        page = await store.messages.page(
            POISON_REF, marker=marker, limit=PAGE, now=now, include_claimed=True
        )
        for message in page.messages:
            if job in {None, message.id}:
                yield _described(message), message
        if len(page.messages) < PAGE:
            return
        marker = page.marker


async def give_back(
    store: MessageStore, what: PutAside, message: Message, *, settings: Settings, now: datetime
) -> bool:
    """Let the workers of its store try it again; False: it can't be read, so its queue is not known.

    Broken off in between, it is in both places, and its deliveries may come twice.
    """
    if not what.queue:
        return False
    partition = partition_of(QueueRef(what.project, what.queue), settings.delivery_partitions)
    ref = retry_ref(partition) if what.job == "deliver" else outbox_ref(partition)
    again = NewMessage(body=message.body, ttl=OWED_TTL_SECONDS)
    await store.messages.post(ref, InternalPost([again]), now=now)
    await drop(store, message, now=now)
    return True


async def drop(store: MessageStore, message: Message, *, now: datetime) -> None:
    await store.messages.delete_many(POISON_REF, [message.id], claim_ids=None, now=now)


def _described(message: Message) -> PutAside:
    try:
        head = _job_header.decode(message.body)
    except msgspec.DecodeError:
        head = _JobHeader()
    return PutAside(
        message.id,
        head.job,
        head.project,
        head.queue,
        head.subscription_id,
        len(message.body),
        message.posted_at,
    )
