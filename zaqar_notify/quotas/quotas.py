"""The checks of quotas. A refusal is counted by the name of the quota, never by project."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from zaqar_notify.clock import Clock
from zaqar_notify.errors import QuotaExceeded, RateExceeded
from zaqar_notify.models import QueueRef
from zaqar_notify.quotas.estimates import Estimates
from zaqar_notify.quotas.known import KnownLimits, defaults_of
from zaqar_notify.quotas.rates import Rates
from zaqar_notify.rules.quotas import (
    QUEUES,
    STORED_BYTES,
    SUBSCRIPTIONS,
    SUBSCRIPTIONS_PER_QUEUE,
)
from zaqar_notify.settings import Settings
from zaqar_notify.storage.planes import Storage

Key = TypeVar("Key", bound=Hashable)

_REMEDIES = {
    QUEUES: "delete queues",
    SUBSCRIPTIONS: "delete subscriptions",
    SUBSCRIPTIONS_PER_QUEUE: "delete subscriptions of the queue",
    STORED_BYTES: "delete messages or let them expire (deliveries that wait or were given up count, too: they go "
    "when you delete their subscription)",
}

POLL_AGAIN_SECONDS = 1.0
"""When a project with too many long polls may try again."""


class Quotas:
    """The quotas of all projects, in one process."""

    def __init__(
        self,
        storage: Storage,
        settings: Settings,
        clock: Clock,
        *,
        rates: Rates,
        refusals: Counter[str],
    ) -> None:
        """`rates` are shared with other processes; `refusals` counts what is refused, by quota."""
        control = storage.control
        self.limits = KnownLimits(control.quotas, defaults_of(settings))
        self._refusals = refusals
        self._requests = rates.requests
        self._messages = rates.messages
        self._burst_seconds = settings.quota_burst_seconds
        self._polling: Counter[str] = Counter()
        self._bytes = Estimates[str](lambda project: storage.stored_bytes(project, now=clock.now()))
        self._message_bytes = Estimates[str](
            lambda project: storage.message_bytes(project, now=clock.now())
        )
        self._queues = Estimates[str](control.records.count_all)
        self._subscriptions = Estimates[str](
            lambda project: control.subscriptions.count(project, now=clock.now())
        )
        self._subscriptions_of_queue = Estimates[QueueRef](
            lambda ref: control.subscriptions.count(ref.project, ref.name, now=clock.now())
        )

    async def admit_request(self, project: str) -> None:
        """Count a request.

        Raises:
            RateExceeded: The project makes too many.
        """
        rate = (await self.limits.of(project)).requests_per_second
        burst = self._burst_seconds
        if rate and (wait := self._requests.take(project, 1, per_second=rate, burst_seconds=burst)):
            raise self._over_rate("requests_per_second", rate, wait)

    def admit_messages(self, project: str, count: int) -> None:
        """Count messages that are about to be posted.

        Raises:
            RateExceeded: The project posts too many.
        """
        # Its request was admitted by these limits a moment ago.
        rate = self.limits.last_known_of(project).messages_per_second
        burst = self._burst_seconds
        if rate and (
            wait := self._messages.take(project, count, per_second=rate, burst_seconds=burst)
        ):
            raise self._over_rate("messages_per_second", rate, wait)

    @asynccontextmanager
    async def poll(self, project: str) -> AsyncIterator[None]:
        """A long poll of the project waits.

        Raises:
            RateExceeded: As many wait as may.
        """
        most = self.limits.last_known_of(project).long_polls
        if most and self._polling[project] >= most:
            raise self._over_rate("long_polls", most, POLL_AGAIN_SECONDS)
        self._polling[project] += 1
        try:
            yield
        finally:
            self._polling[project] -= 1
            if not self._polling[project]:
                del self._polling[project]

    def new_bytes(self, project: str, size: int) -> Storing[str]:
        """Is entered while a post of so many bytes is stored."""
        return Storing(self, STORED_BYTES, self._bytes, project, project, size)

    def relayed_bytes(self, project: str, size: int) -> Storing[str]:
        """As `new_bytes`, for a delivery to a queue. Deliveries that wait don't count here: else they would take the
        room that they wait for."""
        return Storing(self, STORED_BYTES, self._message_bytes, project, project, size)

    @asynccontextmanager
    async def new_queue(self, project: str) -> AsyncIterator[None]:
        """A queue is made.

        Raises:
            QuotaExceeded: The project has as many as it may.
        """
        async with Storing(self, QUEUES, self._queues, project, project, 1) as refusal:
            if refusal is not None:
                raise refusal
            yield

    @asynccontextmanager
    async def new_subscription(
        self, ref: QueueRef, *, is_new: Callable[[], Awaitable[bool]]
    ) -> AsyncIterator[None]:
        """A subscription is stored; `is_new` is asked only where there are as many as may be.

        Raises:
            QuotaExceeded: It is new, and the project or the queue has as many as it may.
        """
        of_project = Storing(self, SUBSCRIPTIONS, self._subscriptions, ref.project, ref.project, 1)
        of_queue = Storing(
            self, SUBSCRIPTIONS_PER_QUEUE, self._subscriptions_of_queue, ref.project, ref, 1
        )
        async with of_project as refusal, of_queue as other:
            refused = refusal or other
            if refused is not None and await is_new():
                raise refused
            yield

    async def used(self, project: str) -> Mapping[str, int | None]:
        """The use of the project, by quota; None where it takes long to count."""
        return {
            QUEUES: await self._queues.look(project),
            SUBSCRIPTIONS: await self._subscriptions.look(project),
            STORED_BYTES: await self._bytes.look(project),
        }

    def exceeded(self, name: str, limit: int, used: int) -> QuotaExceeded:
        """Count a refusal."""
        self._refusals[name] += 1
        return QuotaExceeded(name, limit=limit, used=used, remedy=_REMEDIES[name])

    def polls(self, project: str) -> int:
        """Long polls of the project that wait."""
        return self._polling[project]

    def _over_rate(self, name: str, limit: int, wait_seconds: float) -> RateExceeded:
        """Count a refusal."""
        self._refusals[name] += 1
        return RateExceeded(name, limit, wait_seconds)


class Storing(Generic[Key]):
    """While an amount is stored that a quota bounds. Entering gives the refusal, or None if there is room."""

    __slots__ = ("_amount", "_estimates", "_is_counted", "_key", "_name", "_project", "_quotas")

    def __init__(
        self,
        quotas: Quotas,
        name: str,
        estimates: Estimates[Key],
        project: str,
        key: Key,
        amount: int,
    ) -> None:
        self._quotas = quotas
        self._name = name
        self._estimates = estimates
        self._project = project
        self._key = key
        self._amount = amount
        self._is_counted = False

    async def __aenter__(self) -> QuotaExceeded | None:
        limit: int = getattr(self._quotas.limits.last_known_of(self._project), self._name)
        if not limit:
            return None
        used = await self._estimates.excess(self._key, self._amount, limit)
        if used is not None:
            return self._quotas.exceeded(self._name, limit, used)
        self._is_counted = True
        return None

    async def __aexit__(self, *_: object) -> None:
        if self._is_counted:
            self._estimates.settle(self._key, self._amount)
