"""One crash test: clients at work while faults are made, then everything drained and checked."""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from tests.faults.checkers import check, counts
from tests.faults.history import Fault, History, Posted
from tests.faults.receiver import Inbox, Mailbox, Receiver
from tests.faults.wire import TIMEOUT_SECONDS, Wire
from tests.faults.workload import (
    CONSUMED,
    EVEN,
    OBSERVED,
    PARITY,
    RELAYED,
    THINK_SECONDS,
    Workload,
    parity_of,
    subscription_id,
)
from zaqar_notify.clock import new_id

LONG_SECONDS = 120
"""Runs that last so long let leases lapse, too."""

PROGRESS_SECONDS = 30
WITHOUT_KEYS = ("p1", "p4")
"""Producers on either queue whose posts have no idempotency key."""
PAUSED = "paused"
"""The webhook whose subscription is paused and resumed all the time."""
ORDERED = "ordered"
"""The webhook that gets its deliveries one after the other."""
WEBHOOKS = ("first", "second", PAUSED, ORDERED)
FILTERED = "filtered"
"""The webhook whose subscription has a filter policy: it gets messages with even numbers only."""
MAILBOX = "mail"
OBSERVERS = ("polling observer", "waiting observer")
"""By place how many seconds each waits for a page."""
ONLY_EVEN = {"_filter_policy": {PARITY: [EVEN]}}
RETRY_SOON = {"retries_with_no_delay": 5, "minimum_delay": 1, "minimum_delay_retries": 60}


class Trial:
    """Clients, subscribers, and the history of their observations.

    Args:
        seed: Of every choice. The timing of processes is not repeated with it.
        seconds: Under load and faults.
        think_seconds: The longest pause of a client between two requests.
        timeout_seconds: For how long clients wait for an answer.
    """

    def __init__(
        self,
        seed: int,
        seconds: float,
        *,
        think_seconds: float = THINK_SECONDS,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        print(f"\nseed {seed}, {seconds:g} s under load", flush=True)
        self._seed = seed
        is_long = seconds >= LONG_SECONDS
        self.project = f"project-{new_id()}"
        self.operator = str(uuid.uuid4())
        """The id of a client that is none of the workload's."""
        self.history = History()
        self.chance = random.Random(seed)
        self.seconds = seconds
        self._drain_seconds = 150 if is_long else 60
        self._timeout_seconds = timeout_seconds
        self._workload = Workload(
            self.history, self.chance, lapses=is_long, think_seconds=think_seconds
        )
        self._inbox = Inbox(self.history, self.chance)
        self._receiver = Receiver(self._inbox)
        self._mailbox = Mailbox(self._inbox)
        self._began_at = time.monotonic()
        self._paused_id = ""

    @property
    def is_over(self) -> bool:
        """Whether there has been load for long enough."""
        return time.monotonic() > self._began_at + self.seconds

    @property
    def environ(self) -> dict[str, str]:
        """The settings that the service needs."""
        return {
            # The work of a killed process is done again once its lease has ended.
            "ZAQAR_DELIVERY_LEASE_SECONDS": "3",
            "ZAQAR_MESSAGE_DELETE_WITH_CLAIM_ID": "true",
            "ZAQAR_SMTP_HOST": "127.0.0.1",
            "ZAQAR_SMTP_PORT": str(self._mailbox.port),
            "ZAQAR_SMTP_SENDER": "notify@example.org",
        }

    def record(self, kind: str, *, pause_seconds: float = 0) -> None:
        """Note that a fault is about to be made."""
        self.history.record(Fault(kind, time.monotonic(), pause_seconds))

    @asynccontextmanager
    async def kept_when_it_fails(self, logs: Callable[[], Iterable[Path]]) -> AsyncIterator[None]:
        """Save history and logs where no later run removes them, and say so."""
        try:
            yield
        except BaseException:
            self._save(logs())
            raise

    def _save(self, logs: Iterable[Path]) -> None:
        directory = Path(tempfile.mkdtemp(prefix=f"zaqar-faults-{self._seed}-"))
        history = directory / "history.jsonl"
        self.history.write(history)
        print(f"seed {self._seed}: history, with logs beside it, in {history}", flush=True)
        for number, log in enumerate(logs):
            shutil.copyfile(log, directory / f"{number}-{log.name}")

    async def run(self, urls: Sequence[str], make_faults: Callable[[], Awaitable[None]]) -> None:
        """Let clients work at these addresses until `make_faults` returns; then check.

        Raises:
            AssertionError: A promise was broken; the first complaints.
        """
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            self._receiver.serving(),
            self._mailbox.serving(),
            aiohttp.ClientSession(connector=connector) as session,
        ):
            wires = self._wires(session, urls)
            await self._subscribe(wires[0])
            self._began_at = time.monotonic()
            await self._load(wires, make_faults)
            await self._drain(wires[0])
        self._report(wires)
        assert self.history.of(Fault), "Nothing was killed: give it more seconds"
        complaints = check(
            self.history,
            observed=OBSERVED,
            observers=OBSERVERS,
            consumed=CONSUMED,
            relayed=RELAYED,
            subscribers=[*WEBHOOKS, MAILBOX],
            filtered=FILTERED,
            ordered=[ORDERED],
        )
        assert not complaints, "\n".join([f"{len(complaints)} complaints:", *complaints[:20]])

    def _wires(self, session: aiohttp.ClientSession, urls: Sequence[str]) -> list[Wire]:
        """Clients, spread over the addresses."""
        return [
            Wire(
                session,
                [*urls[number % len(urls) :], *urls[: number % len(urls)]],
                self.project,
                timeout_seconds=self._timeout_seconds,
            )
            for number in range(10)
        ]

    async def _subscribe(self, wire: Wire) -> None:
        filtered = self._receiver.uri(FILTERED)
        webhooks = (*map(self._receiver.uri, WEBHOOKS), filtered)
        for uri in (*webhooks, self._mailbox.uri(MAILBOX), f"queue:{RELAYED}"):
            options: dict[str, object] = {"_retry_policy": RETRY_SOON}
            if uri == filtered:
                options |= ONLY_EVEN
            if uri == self._receiver.uri(ORDERED):
                options["_ordered"] = True
            answer = await wire.ask(
                "POST",
                f"/v2/queues/{OBSERVED}/subscriptions",
                {"subscriber": uri, "ttl": 86400, "options": options},
                expected={201},
            )
            if uri == self._receiver.uri(PAUSED):
                self._paused_id = subscription_id(answer.body)

    async def _load(self, wires: list[Wire], make_faults: Callable[[], Awaitable[None]]) -> None:
        """Everybody at work until all that was posted has been looked at."""
        workload = self._workload
        async with asyncio.TaskGroup() as others:
            progress = others.create_task(self._tell_progress())
            for number, observer in enumerate(OBSERVERS):
                others.create_task(workload.observe(wires[number], observer, wait=number))
            others.create_task(workload.consume(wires[2], "polling consumer", wait=0))
            others.create_task(workload.consume(wires[3], "waiting consumer", wait=1))
            others.create_task(workload.consume(wires[4], "other waiting consumer", wait=1))
            async with asyncio.TaskGroup() as producers:
                for number, queue in enumerate((OBSERVED, OBSERVED, OBSERVED, CONSUMED, CONSUMED)):
                    wire, name = wires[5 + number], f"p{number}"
                    has_keys = name not in WITHOUT_KEYS
                    producers.create_task(workload.produce(wire, queue, name, has_keys=has_keys))
                producers.create_task(workload.pause_and_resume(wires[0], self._paused_id))
                await make_faults()
                workload.stop()
            workload.posts_are_over()
            progress.cancel()

    async def _tell_progress(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            seconds = time.monotonic() - self._began_at
            faults = Counter(fault.kind for fault in self.history.of(Fault))
            made = ", ".join(f"{kind} {number}" for kind, number in sorted(faults.items()))
            messages = sum(len(post.keys) for post in self.history.of(Posted))
            print(f"{seconds:6.0f} s: {messages} messages acknowledged; {made}", flush=True)

    async def _drain(self, wire: Wire) -> None:
        """Let everything come to its end, and record the messages that are left."""
        workload, within_seconds = self._workload, self._drain_seconds
        await workload.consume_the_rest(wire, within_seconds=within_seconds)
        posts = self.history.of(Posted)
        owed = {key for post in posts if post.queue == OBSERVED for key in post.keys}
        even = {key for key in owed if parity_of(key) == EVEN}
        # The checkers find deliveries that do not come in time.
        await asyncio.gather(
            *(
                self._inbox.has_taken(subscriber, owed, within_seconds=within_seconds)
                for subscriber in (*WEBHOOKS, MAILBOX)
            ),
            self._inbox.has_taken(FILTERED, even, within_seconds=within_seconds),
            workload.has_total(
                wire,
                RELAYED,
                await workload.total(wire, OBSERVED),
                within_seconds=within_seconds,
            ),
        )
        for queue in (OBSERVED, CONSUMED, RELAYED):
            await workload.take_stock(wire, queue)

    def _report(self, wires: Sequence[Wire]) -> None:
        numbers = counts(self.history)
        numbers["claims nobody was told of"] = self._workload.adopted_claims
        numbers["answers of 503"] = sum(wire.answers_of_503 for wire in wires)
        for name, number in numbers.items():
            print(f"{number:8} {name}")
