"""Reading the delivery log: the attempts of one subscription, or those of many, one subscription after the other.

One request reads a bounded number of logs and records: its page may be short, and its marker then says where
the next one goes on.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import datetime

import msgspec

from zaqar_notify.delivery.attempts import Attempt, Counts, read_attempts, read_counts
from zaqar_notify.models import TOPIC_MARK, Message, QueueRef, Verdict
from zaqar_notify.storage.control import SubscriptionPlace
from zaqar_notify.storage.internal import attempts_ref, counts_ref
from zaqar_notify.storage.planes import Storage

GROUPS_AT_ONCE = 100
"""Records that are read with one look at the store."""
LOGS_AT_ONCE = 200
"""Subscriptions whose log one request looks at."""
IDS_AT_ONCE = 1000

OUTCOMES: dict[str, tuple[Verdict, ...]] = {
    "delivered": (Verdict.DELIVERED,),
    "failed": (Verdict.TRY_LATER, Verdict.REFUSED, Verdict.GONE),
    **{verdict.value: (verdict,) for verdict in Verdict},
}
"""The words by which attempts can be asked for."""


class Wanted(msgspec.Struct, frozen=True):
    """The attempts that are asked for: None leaves a thing open. `since` is included, `until` is not."""

    delivery_id: str | None = None
    message_id: str | None = None
    verdicts: tuple[Verdict, ...] | None = None
    since: datetime | None = None
    until: datetime | None = None

    def fits(self, attempt: Attempt) -> bool:
        return (
            (self.delivery_id is None or attempt.delivery_id == self.delivery_id)
            and (self.message_id is None or attempt.message_id == self.message_id)
            and (self.verdicts is None or attempt.verdict in self.verdicts)
            and (self.since is None or attempt.at >= self.since)
            and (self.until is None or attempt.at < self.until)
        )


class Logged(msgspec.Struct, frozen=True):
    """An attempt, with its place in the log of its subscription."""

    id: str
    queue: QueueRef
    subscription_id: str
    attempt: Attempt


def _any(_queue: str) -> bool:
    return True


class Place(msgspec.Struct, frozen=True):
    """Where a reader is: behind an attempt of a subscription's log, or (with `attempt` empty) behind all of them."""

    queue: str
    subscription_id: str
    attempt: str = ""

    def is_in(self, place: SubscriptionPlace) -> bool:
        return place == (self.queue, self.subscription_id)

    @property
    def text(self) -> str:
        return f"{self.queue}:{self.subscription_id}:{self.attempt}"


_PLACE = re.compile(r"(~?[A-Za-z0-9_.-]{1,64}):([A-Za-z0-9_-]{1,64}):((?:[0-9a-f]{24}\.[0-9]{2})?)")


def read_place(text: str) -> Place | None:
    """The place of a marker; None: it is none."""
    match = _PLACE.fullmatch(text)
    return None if match is None else Place(*match.groups())


class Where(msgspec.Struct, frozen=True):
    """The logs that are looked at: those of a project, of one of its queues (by its stored name), or of one
    subscription. `may_see` says whether the caller may see a queue of this name.
    """

    project: str
    queue: str | None = None
    subscription_id: str | None = None
    may_see: Callable[[str], bool] = _any

    def has(self, place: SubscriptionPlace) -> bool:
        return (
            self.queue in (None, place.queue)
            and self.subscription_id in (None, place.id)
            and self.may_see(place.queue.removeprefix(TOPIC_MARK))
        )


class LogPage(msgspec.Struct, frozen=True):
    """`marker` is where the next page begins; None: there is none."""

    attempts: list[Logged]
    marker: str | None


async def look(
    storage: Storage,
    where: Where,
    wanted: Wanted,
    *,
    after: Place | None,
    limit: int,
    now: datetime,
) -> LogPage:
    """Up to `limit` attempts, in order of queue and subscription, and of time within one.

    Looks at `LOGS_AT_ONCE` logs at most.
    """
    found: list[Logged] = []
    end, looked = after, 0
    async for place in places(storage, where, after=after, now=now):
        if looked == LOGS_AT_ONCE:
            return LogPage(found, None if end is None else end.text)
        looked += 1
        queue = QueueRef(where.project, place.queue)
        begin = after.attempt if after is not None and after.is_in(place) else ""
        async for logged in attempts_of(storage, queue, place.id, after=begin, now=now):
            if wanted.fits(logged.attempt):
                found.append(logged)
                end = Place(place.queue, place.id, logged.id)
                if len(found) == limit:
                    return LogPage(found, end.text)
        if not found:
            end = Place(place.queue, place.id)
    return LogPage(found, end.text if found and end is not None else None)


async def places(
    storage: Storage, where: Where, *, after: Place | None, now: datetime
) -> AsyncIterator[SubscriptionPlace]:
    """Subscriptions in order of queue and id, from the place on: its own first, unless its log was read to the end.

    Each is one that the project has: a client may have named any.
    """
    if where.queue is not None and where.subscription_id is not None:
        only = SubscriptionPlace(where.queue, where.subscription_id)
        if where.has(only) and await _exists(storage, where.project, only, now):
            yield only
        return
    last = SubscriptionPlace(where.queue, "") if where.queue is not None else None
    if after is not None:
        last = SubscriptionPlace(after.queue, after.subscription_id)
        is_begun = bool(after.attempt) and where.has(last)
        if is_begun and await _exists(storage, where.project, last, now):
            yield last
    while True:
        found = await storage.control.subscriptions.ids(
            where.project, after=last, limit=IDS_AT_ONCE
        )
        for place in found:
            if where.queue not in (None, place.queue):
                return
            if where.has(place):
                yield place
        if len(found) < IDS_AT_ONCE:
            return
        last = found[-1]


async def _exists(storage: Storage, project: str, place: SubscriptionPlace, now: datetime) -> bool:
    queue = QueueRef(project, place.queue)
    return await storage.subscriptions.get(queue, place.id, now=now) is not None


async def attempts_of(
    storage: Storage, queue: QueueRef, subscription_id: str, *, after: str = "", now: datetime
) -> AsyncIterator[Logged]:
    """The attempts of one subscription behind the one with the id `after`, oldest first."""
    ref = attempts_ref(subscription_id)
    marker = after.partition(".")[0] or None
    if marker is not None:
        async with storage.at(queue) as store:
            begun = await store.messages.get(ref, [marker], now=now)
        for logged in _logged(begun, queue, subscription_id):
            if logged.id > after:
                yield logged
    while True:
        async with storage.at(queue) as store:
            page = await store.messages.page(ref, marker=marker, limit=GROUPS_AT_ONCE, now=now)
        for logged in _logged(page.messages, queue, subscription_id):
            yield logged
        if page.marker is None:
            return
        marker = page.marker


async def numbers_of(
    storage: Storage, queue: QueueRef, subscription_id: str, *, now: datetime
) -> list[Counts]:
    """The numbers of all processes about one subscription."""
    bodies: list[bytes] = []
    marker: str | None = None
    while True:
        async with storage.at(queue) as store:
            page = await store.messages.page(
                counts_ref(subscription_id), marker=marker, limit=GROUPS_AT_ONCE, now=now
            )
        bodies += [message.body for message in page.messages]
        if page.marker is None:
            return read_counts(bodies)
        marker = page.marker


async def left_out(storage: Storage, attempts: Sequence[Logged], *, now: datetime) -> int:
    """How many attempts the logs of these attempts' subscriptions did not keep."""
    owners = {(each.queue, each.subscription_id) for each in attempts}
    numbers = [await numbers_of(storage, *owner, now=now) for owner in sorted(owners)]
    return sum(counts.left_out for each in numbers for counts in each)


def _logged(messages: Sequence[Message], queue: QueueRef, subscription_id: str) -> Iterator[Logged]:
    for message in messages:
        try:
            attempts = read_attempts(message.body, queue.project)
        except ValueError:  # Of a later release that writes others.
            continue
        for number, attempt in enumerate(attempts):
            yield Logged(f"{message.id}.{number:02}", queue, subscription_id, attempt)
