"""A delivery office for tests: a store, a sink that records, and engines that come and go."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import ClassVar

from tests.clock import ManualClock
from tests.kinds import KINDS
from tests.partitions import partition
from workers.build import assemble
from workers.doorbell import LocalDoorbell
from workers.engine import Engine, Sinks
from zaqar_notify.clock import new_id
from zaqar_notify.delivery import (
    FanOut,
    OwedDelivery,
    Undelivered,
    fan_out_jobs,
    read_undelivered,
    read_work,
)
from zaqar_notify.delivery.kinds import Sink
from zaqar_notify.metrics import DeliveryCounts
from zaqar_notify.models import (
    Delivery,
    JsonObject,
    Message,
    NewMessage,
    Outcome,
    QueueRef,
    Subscription,
    Verdict,
)
from zaqar_notify.rules.pacing import ORDERED_FOR
from zaqar_notify.service import Service
from zaqar_notify.settings import Settings
from zaqar_notify.storage.base import Post
from zaqar_notify.storage.internal import outbox_ref, retry_ref, undelivered_ref
from zaqar_notify.storage.planes import Storage
from zaqar_notify.subscriptions import renewal

QUEUE = QueueRef("project1", "orders")
OUTBOX = outbox_ref(partition())
RETRY = retry_ref(partition())

DELIVERED = Outcome(Verdict.DELIVERED, status=200)
TRY_LATER = Outcome(Verdict.TRY_LATER, status=503, detail="busy")
REFUSED = Outcome(Verdict.REFUSED, status=404, detail="not here")
GONE = Outcome(Verdict.GONE, status=410)

AT_ONCE: JsonObject = {"_retry_policy": {"retries_with_no_delay": 3}}
"""Options of a subscription whose failed deliveries are tried again without a wait, as Zaqar does."""

DEADLINE_SECONDS = 20.0
"""Of every wait in these tests; a good run takes a fraction of a second."""

Answer = Callable[[Delivery], Awaitable[Outcome]]


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until the condition holds."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0)


async def until_stored(condition: Callable[[], Awaitable[bool]]) -> None:
    """Let the loop run until the store shows that the condition holds."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not await condition():  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0)


class RecordingSink(Sink):
    """Delivers at once, or by the subscriber's answer; counts the attempts under way."""

    schemes: ClassVar[tuple[str, ...]] = ("http",)

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self.answers: dict[str, Answer] = {}
        self.most_under_way = 0
        self.most_under_way_to: Counter[str] = Counter()
        self._under_way: Counter[str] = Counter()
        self.is_closed = False

    async def deliver(self, delivery: Delivery) -> Outcome:
        subscriber = delivery.subscription.subscriber
        self.deliveries.append(delivery)
        self._under_way[subscriber] += 1
        self.most_under_way = max(self.most_under_way, self._under_way.total())
        self.most_under_way_to |= self._under_way
        try:
            answer = self.answers.get(subscriber)
            return DELIVERED if answer is None else await answer(delivery)
        finally:
            self._under_way[subscriber] -= 1

    async def received(self, count: int) -> None:
        """Wait until so many tries have begun."""
        await until(lambda: len(self.deliveries) >= count)

    def bodies(self, subscriber: str) -> list[bytes]:
        return [each.message.body for each in self.to(subscriber)]

    def to(self, subscriber: str) -> list[Delivery]:
        return [each for each in self.deliveries if each.subscription.subscriber == subscriber]

    async def close(self) -> None:
        self.is_closed = True


class OneSink:
    """The same sink for every `http:` subscriber, and none for others."""

    def __init__(self, sink: RecordingSink) -> None:
        self._sink = sink

    @property
    def troubles(self) -> dict[str, int]:
        return {}

    def for_subscriber(self, uri: str) -> Sink | None:
        return self._sink if uri.startswith("http:") else None

    async def close(self) -> None:
        await self._sink.close()


def always(outcome: Outcome) -> Answer:
    async def answer(_delivery: Delivery) -> Outcome:
        return outcome

    return answer


class Hanging:
    """An answer that comes when the test lets it."""

    def __init__(self, outcome: Outcome = DELIVERED) -> None:
        self.let_go = asyncio.Event()
        self._outcome = outcome

    async def __call__(self, _delivery: Delivery) -> Outcome:
        await self.let_go.wait()
        return self._outcome


class ClientPost(Post):
    """A post as the API makes it."""

    client_id = "client"

    def __init__(
        self, messages: Sequence[NewMessage], settings: Settings, ref: QueueRef = QUEUE
    ) -> None:
        self._messages = messages
        self._settings = settings
        self._ref = ref
        self.notifies_later = any(message.not_before for message in messages)

    def messages_for(self, rules: JsonObject) -> Sequence[NewMessage]:
        return self._messages

    def jobs(
        self, rules: JsonObject, ids: Sequence[str], messages: Sequence[NewMessage]
    ) -> Sequence[tuple[QueueRef, NewMessage]]:
        ordered_for = rules.get(ORDERED_FOR, ())
        return fan_out_jobs(
            self._ref, ids, messages, settings=self._settings, ordered_for=ordered_for
        )


class Office:
    def __init__(self, storage: Storage, clock: ManualClock, settings: Settings) -> None:
        self.storage = storage
        self.clock = clock
        self.settings = settings
        self.sink = RecordingSink()
        self.doorbell = LocalDoorbell()
        """Of the last engine."""
        self.counts = DeliveryCounts()
        """The same."""

    def engine(self, storage: Storage | None = None) -> Engine:
        return self.engine_with(OneSink(self.sink), storage)

    def engine_with(self, sinks: Sinks, storage: Storage | None = None) -> Engine:
        self.doorbell = LocalDoorbell()
        service = Service(storage or self.storage, self.settings, self.clock, self.doorbell, KINDS)
        self.counts = service.metrics.deliveries
        return assemble(service, self.doorbell, sinks, random=lambda: 0.0)

    @contextlib.asynccontextmanager
    async def open(self, *, drain_seconds: float = DEADLINE_SECONDS) -> AsyncIterator[Engine]:
        """An engine that runs meanwhile; at the end it has finished its work in hand."""
        engine = self.engine()
        run = asyncio.create_task(engine.run())
        try:
            yield engine
        finally:
            await engine.drain(drain_seconds)
            await run

    async def work_off(self) -> None:
        """Run an engine until nothing that is due is left."""
        async with self.open():
            await self.settled()

    async def settled(self) -> None:
        """Wait until nothing that is due is left in the outbox and the retry queue."""

        async def nothing_is_due() -> bool:
            return not await self._has_due(OUTBOX) and not await self._has_due(RETRY)

        await until_stored(nothing_is_due)

    async def subscribe(
        self,
        subscriber: str,
        *,
        options: JsonObject | None = None,
        ttl: int = 86400,
        confirmed: bool = False,
        queue: QueueRef = QUEUE,
    ) -> Subscription:
        now = self.clock.now()
        subscription = Subscription(
            id=new_id(),
            queue=queue,
            subscriber=subscriber,
            ttl=ttl,
            options=AT_ONCE if options is None else options,
            created_at=now,
            expires_at=now + timedelta(seconds=ttl),
            confirmed=confirmed,
        )
        return await self.storage.subscriptions.create(
            subscription, renew=renewal(subscription), now=now
        )

    async def post(
        self,
        *bodies: bytes,
        delay: int = 0,
        not_before: datetime | None = None,
        queue: QueueRef = QUEUE,
    ) -> list[str]:
        messages = [
            NewMessage(body=body, ttl=3600, delay=delay, not_before=not_before) for body in bodies
        ]
        return await self.post_messages(messages, queue=queue)

    async def post_messages(
        self, messages: Sequence[NewMessage], *, queue: QueueRef = QUEUE
    ) -> list[str]:
        posted = await self.storage.post(
            queue, ClientPost(messages, self.settings, queue), now=self.clock.now()
        )
        return posted.ids

    async def all_in(self, ref: QueueRef) -> list[Message]:
        """The messages of an internal queue, due or not, claimed or not."""
        page = await self.storage.messages.page(
            ref,
            marker=None,
            limit=20_000,
            now=self.clock.now(),
            include_claimed=True,
            include_delayed=True,
        )
        return page.messages

    async def owed_deliveries(self) -> list[OwedDelivery]:
        """The retry queue's deliveries, due or not."""
        return await self.works_in(RETRY)

    async def works_in(self, ref: QueueRef) -> list[OwedDelivery]:
        """The deliveries on an internal queue, due or not."""
        works = [read_work(message.body) for message in await self.all_in(ref)]
        return [work for work in works if isinstance(work, OwedDelivery)]

    async def owed_jobs(self) -> list[FanOut]:
        works = [read_work(message.body) for message in await self.all_in(OUTBOX)]
        return [work for work in works if isinstance(work, FanOut)]

    async def undelivered(self, subscription: Subscription) -> list[Undelivered]:
        messages = await self.all_in(undelivered_ref(subscription.id))
        return [read_undelivered(message.body) for message in messages]

    async def _has_due(self, ref: QueueRef) -> bool:
        page = await self.storage.messages.page(
            ref, marker=None, limit=1, now=self.clock.now(), include_claimed=True
        )
        return bool(page.messages)
