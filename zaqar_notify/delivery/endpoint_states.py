"""The states of endpoints that all processes share: which fail, until when they are left alone, and who probes them.

An *endpoint* stands for all subscriptions of a project with one subscriber URI. The states are a log: an internal
queue with a message for each change, which expires soon after it has lost its meaning. Each process reads the log in
its order, so all come to the same states. An endpoint that is *open* gets no attempt. After that it is *half-open*: one
process at a time may probe it. A process that wants to posts a bid; of bids at the same time the first in the log counts.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import blake2b
from typing import Literal, TypeAlias

import msgspec

from zaqar_notify.models import NewMessage
from zaqar_notify.storage.base import MessageStore
from zaqar_notify.storage.internal import ENDPOINTS_REF

State: TypeAlias = Literal["closed", "open", "half_open"]

MOST_STATES = 10_000
"""Of some 400 bytes each; the oldest are forgotten first. A process learns for itself what it has forgotten."""

KEPT_SECONDS = 300
"""How long an endpoint that could be probed is remembered when nothing is tried."""

READ_AT_ONCE = 1000


class Change(StrEnum):
    OPENED = "opened"
    """It failed: no attempt until `until`."""
    PROBED = "probed"
    """A bid: a process wants to probe it, and takes until `until` at most."""
    CLOSED = "closed"
    """It answers again."""
    PAUSED = "paused"
    """The receiver asked for no attempt until `until`."""


class Notice(msgspec.Struct, frozen=True):
    """A change of the state of one endpoint (`endpoint_key`). `by` is the process that made it, or the id of the bid."""

    change: Change
    endpoint: str
    by: str
    at: datetime
    until: datetime


class EndpointState(msgspec.Struct):
    """An endpoint that fails, or asked for a pause."""

    failing_since: datetime | None = None
    opened_at: datetime | None = None
    """When the last attempt failed that opened it; None: it does not fail."""
    open_until: datetime | None = None
    prober: str = ""
    probed_until: datetime | None = None
    paused_until: datetime | None = None

    def state(self, now: datetime) -> State:
        if self.open_until is None:
            return "closed"
        return "open" if now < self.open_until else "half_open"

    def is_paused(self, now: datetime) -> bool:
        return self.paused_until is not None and now < self.paused_until

    def is_over(self, now: datetime) -> bool:
        """Whether it tells nothing any more."""
        ends = [self.open_until, self.probed_until]
        last = max((each + _KEPT for each in ends if each is not None), default=now)
        return last <= now and not self.is_paused(now)


_KEPT = timedelta(seconds=KEPT_SECONDS)


def endpoint_key(project: str, subscriber: str) -> str:
    """Stands for an endpoint in the log, which has no subscriber's URI: these may be secret."""
    return blake2b(f"{project}\n{subscriber}".encode(), digest_size=16).hexdigest()


def notice_record(notice: Notice) -> NewMessage:
    kept = timedelta() if notice.change is Change.PAUSED else _KEPT
    ttl = max(1, round((notice.until + kept - notice.at).total_seconds()))
    return NewMessage(msgspec.json.encode(notice), ttl)


class EndpointStates:
    """The states as far as this process has read the log."""

    def __init__(self) -> None:
        self._states: OrderedDict[str, EndpointState] = OrderedDict()
        self._marker: str | None = None
        self._reading = asyncio.Lock()
        self._heed: Callable[[Notice], None] | None = None

    def when_read(self, heed: Callable[[Notice], None]) -> None:
        """Have it called with each notice that is read, once the states have it."""
        self._heed = heed

    def of(self, project: str, subscriber: str) -> EndpointState | None:
        """None: it does not fail, as far as is known."""
        return self.of_key(endpoint_key(project, subscriber)) if self._states else None

    def of_key(self, endpoint: str) -> EndpointState | None:
        return self._states.get(endpoint)

    def counts(self, now: datetime) -> Mapping[str, int]:
        """How many are open, half-open and paused."""
        counts = Counter(open=0, half_open=0, paused=0)
        for state in self._states.values():
            counts[state.state(now)] += 1
            counts["paused"] += state.is_paused(now)
        del counts["closed"]
        return counts

    async def look(self, store: MessageStore, *, now: datetime) -> None:
        """Read the log on the default pool's store to its end.

        Raises:
            StorageUnavailable: No answer came.
        """
        async with self._reading:
            while await self._read_page(store, now) == READ_AT_ONCE:
                pass
            self._forget_old(now)

    async def _read_page(self, store: MessageStore, now: datetime) -> int:
        page = await store.messages.page(
            ENDPOINTS_REF, marker=self._marker, limit=READ_AT_ONCE, now=now
        )
        self._marker = page.marker or self._marker
        for message in page.messages:
            # One that can't be read is a later release's.
            with suppress(msgspec.ValidationError):
                notice = msgspec.json.decode(message.body, type=Notice)
                self._take(notice)
                if self._heed is not None:
                    self._heed(notice)
        return len(page.messages)

    def _forget_old(self, now: datetime) -> None:
        """Forget the states that tell nothing any more."""
        for endpoint in [key for key, state in self._states.items() if state.is_over(now)]:
            del self._states[endpoint]

    def _take(self, notice: Notice) -> None:
        state = self._states.setdefault(notice.endpoint, EndpointState())
        self._states.move_to_end(notice.endpoint)
        match notice.change:
            case Change.OPENED:
                state.failing_since = state.failing_since or notice.at
                state.opened_at, state.open_until = notice.at, notice.until
                state.prober, state.probed_until = "", None
            case Change.PROBED:
                if state.probed_until is None or state.probed_until <= notice.at:
                    state.prober, state.probed_until = notice.by, notice.until
            case Change.PAUSED:
                state.paused_until = max(notice.until, state.paused_until or notice.until)
            case Change.CLOSED:
                if state.paused_until is None:
                    del self._states[notice.endpoint]
                else:
                    self._states[notice.endpoint] = EndpointState(paused_until=state.paused_until)
        if len(self._states) > MOST_STATES:
            self._states.popitem(last=False)
