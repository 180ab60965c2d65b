"""The cluster's doorbell: it tells the workers through the broker that deliveries are due.

One thread does all work with the broker. A request leaves a note for the thread and goes on, so a
slow or missing broker does not slow the request. A partition is noted once until its ring is sent,
and the thread gathers notes for a moment. So faster posting does not send more rings.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import Any

from celery import Celery

from zaqar_notify.operations.broker import (
    DRAIN,
    LOOK_AGAIN_SECONDS,
    MAX_WAITING,
    QUEUE,
    drain_arguments,
)
from zaqar_notify.storage.internal import Partition

OFTEN_PER_SECOND = 100
GATHER_SECONDS = 0.05
"""Pause between rings while this host wants more than `OFTEN_PER_SECOND`. The workers are busy
then, and each ring costs a millisecond."""

WORTH_GATHERING = 3
"""Rings that must be wanted during a pause. A client that posts after each delivery wants one ring,
and the pause would only delay it."""
FEWEST_SKIPS, MOST_SKIPS = 16, 256
"""Rings that are sent at once after a pause that gathered too few."""

SOON_SECONDS = LOOK_AGAIN_SECONDS - 0.002
"""If its work is stored so soon after a ring, the worker's second look finds it, and no other ring is needed."""

PAUSE_SECONDS = 1.0
"""Pause before the broker is tried again."""

ANSWER_SECONDS = 1
"""Limit for each answer of the broker, also for the last ring before the stop."""

logger = logging.getLogger(__name__)


class BrokerDoorbell:
    """A `Doorbell` that rings through the broker, until `close`."""

    def __init__(self, app: Celery, *, processes: int = 1) -> None:
        """Start the thread; `processes` of this host share its requests."""
        self._app = app
        self._noted: set[Partition] = set()
        self._rung_soon: dict[Partition, float] = {}
        """When partitions were rung for whose work was not stored yet."""
        self._notes: queue.SimpleQueue[Partition | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._line: _Line | None = None
        self._pace = Pace(OFTEN_PER_SECOND / processes)
        self.is_heard = True
        """Whether the broker took the last ring."""
        self.counts: Counter[str] = Counter(sent=0, spared=0, dropped=0)
        """Counts since the start: rings `sent`, rings `spared` because enough wait already, and
        rings `dropped` because the broker gave no answer."""
        self._thread = threading.Thread(target=self._ring_on, name="doorbell", daemon=True)
        self._thread.start()

    def ring(self, partition: Partition) -> None:
        self._pace.wanted += 1
        rung_at = self._rung_soon.pop(partition, None)
        if rung_at is None or time.monotonic() > rung_at + SOON_SECONDS:
            self._note(partition)

    def ring_soon(self, partition: Partition) -> None:
        """A ring takes some milliseconds, and so does a store that makes a post durable. While rings are gathered,
        it would be one more."""
        if not self._pace.is_busy and partition not in self._noted:
            self._rung_soon[partition] = time.monotonic()
            self._note(partition)

    def _note(self, partition: Partition) -> None:
        if partition not in self._noted:
            self._noted.add(partition)
            self._notes.put(partition)

    def close(self) -> None:
        """Send the noted rings, if the broker answers at once, and stop. Idempotent."""
        self._closing.set()
        self._notes.put(None)
        self._thread.join(2 * ANSWER_SECONDS)

    def _ring_on(self) -> None:
        while partitions := self._next():
            if self._send(partitions):
                self._pace.wait(self._closing)
                continue
            if self._closing.is_set():
                break
            for partition in partitions:
                self._rung_soon.pop(partition, None)
                self._note(partition)
            self._closing.wait(PAUSE_SECONDS)
        self._hang_up()

    def _next(self) -> list[Partition]:
        """Wait for notes and take them all; an empty list means that the doorbell is closed."""
        partitions: list[Partition] = []
        while (note := self._notes.get()) is not None:
            # A later ring is noted again: this one may be sent before that work is stored.
            self._noted.discard(note)
            partitions.append(note)
            if self._notes.empty():
                return partitions
        self._notes.put(None)
        return partitions

    def _send(self, partitions: list[Partition]) -> bool:
        try:
            if self._line is None:
                self._line = _Line(self._app)
            for partition in partitions:
                self.counts["sent" if self._line.ring(partition) else "spared"] += 1
        except Exception as error:  # The thread must survive every error of a broker's library.
            self._hang_up()
            self.counts["dropped"] += len(partitions)
            self._note_broken(error)
            return False
        self._note_mended()
        return True

    def _hang_up(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.close()

    def _note_broken(self, error: Exception) -> None:
        if self.is_heard:
            logger.warning(
                "The broker gives no answer; workers look for due work by themselves",
                extra={"action": "broker_unavailable", "error": type(error).__name__},
            )
        self.is_heard = False

    def _note_mended(self) -> None:
        if not self.is_heard:
            logger.info("The broker answers again", extra={"action": "broker_available"})
        self.is_heard = True


class Pace:
    """The pauses between rings. Requests count wanted rings; the doorbell's thread waits."""

    def __init__(self, often_per_second: float) -> None:
        self.wanted = 0
        self._often_per_second = often_per_second
        self._seen = 0
        self._since = time.monotonic()
        self._skips = 0
        self._next_skips = FEWEST_SKIPS
        self.is_busy = False
        """Whether rings were wanted often when the last one was sent."""

    def wait(self, closing: threading.Event) -> None:
        """Pause, if rings are wanted often and recent pauses gathered enough of them."""
        self.is_busy = self._is_wanted_often()
        if not self.is_busy:
            return
        if self._skips:
            self._skips -= 1
            return
        before = self.wanted
        closing.wait(GATHER_SECONDS)
        if self.wanted - before >= WORTH_GATHERING:
            self._next_skips = FEWEST_SKIPS
        else:
            self._skips = self._next_skips
            self._next_skips = min(2 * self._next_skips, MOST_SKIPS)

    def _is_wanted_often(self) -> bool:
        now = time.monotonic()
        seconds = now - self._since
        is_often = self.wanted - self._seen > self._often_per_second * max(seconds, GATHER_SECONDS)
        if seconds > GATHER_SECONDS:
            self._seen, self._since = self.wanted, now
        return is_often


class _Line:
    """A connection to the broker. Each step takes `ANSWER_SECONDS` at most."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._connection = app.connection_for_write(transport_options=_bounds(app))
        try:
            self._connection.ensure_connection(max_retries=0, timeout=ANSWER_SECONDS)
            channel = self._connection.channel()
            self._queue = app.amqp.queues[QUEUE].bind(channel)
            self._producer = app.amqp.Producer(channel, auto_declare=False)
        except BaseException:
            self.close()
            raise

    def ring(self, partition: Partition) -> bool:
        """Send a ring, unless enough rings wait at the broker; False: not sent."""
        # With slow workers, or none, rings would pile up in the broker's memory. A declaration of
        # the queue counts them, and creates the queue again after a flush.
        declared: Any = self._queue.queue_declare()
        if declared.message_count >= MAX_WAITING:
            return False
        self._app.send_task(
            DRAIN,
            args=drain_arguments(partition),
            producer=self._producer,
            declare=[],
            retry=False,
        )
        return True

    def close(self) -> None:
        with suppress(Exception):  # The connection may be broken already.
            self._connection.release()


def _bounds(app: Celery) -> dict[str, Any]:
    if app.conf["broker_url"].startswith("amqp"):
        return {"read_timeout": ANSWER_SECONDS, "write_timeout": ANSWER_SECONDS}
    return {
        "socket_timeout": ANSWER_SECONDS,
        "socket_connect_timeout": ANSWER_SECONDS,
        "retry_on_timeout": False,
    }
