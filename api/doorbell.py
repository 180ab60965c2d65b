"""The cluster's doorbell: tells the workers through the broker that deliveries are owed.

All that concerns the broker happens in a thread of its own. A request leaves a note for it and goes
on; whether the broker answers, is slow or away makes no difference to it. A partition is noted once
until its ring is sent, and notes are gathered for a moment, so posting faster does not ring more.
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

from zaqar_notify.operations.broker import DRAIN, MAX_WAITING, QUEUE, drain_arguments
from zaqar_notify.storage.internal import Partition

OFTEN_PER_SECOND = 100
GATHER_SECONDS = 0.05
"""Between rings when they are wanted more often than that on this host: the workers are at work already
then, and a ring costs all of us a millisecond."""

WORTH_GATHERING = 3
"""So many must be wanted meanwhile. A client that posts when its last message has arrived wants one, and
would only wait for it."""
FEWEST_SKIPS, MOST_SKIPS = 16, 256
"""Rings that are sent at once after waiting was not worth it."""

PAUSE_SECONDS = 1.0
"""Before the broker is tried again."""

ANSWER_SECONDS = 1
"""How long the broker is waited for; also at the end, when a last ring may be on its way."""

logger = logging.getLogger(__name__)


class BrokerDoorbell:
    """A `Doorbell`; open from the start, until `close`."""

    def __init__(self, app: Celery, *, processes: int = 1) -> None:
        """Begin to ring; so many processes of this host share its requests."""
        self._app = app
        self._noted: set[Partition] = set()
        self._notes: queue.SimpleQueue[Partition | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._line: _Line | None = None
        self._pace = Pace(OFTEN_PER_SECOND / processes)
        self.is_heard = True
        """Whether the broker took the last ring."""
        self.counts: Counter[str] = Counter(sent=0, spared=0, dropped=0)
        """Since the start: `sent` rings, `spared` ones (enough wait already), and tries `dropped`
        because the broker gave no answer."""
        self._thread = threading.Thread(target=self._ring_on, name="doorbell", daemon=True)
        self._thread.start()

    def ring(self, partition: Partition) -> None:
        self._pace.wanted += 1
        if partition not in self._noted:
            self._noted.add(partition)
            self._notes.put(partition)

    def close(self) -> None:
        """Send what is noted, if the broker answers at once, and stop. Idempotent."""
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
                self.ring(partition)
            self._closing.wait(PAUSE_SECONDS)
        self._hang_up()

    def _next(self) -> list[Partition]:
        """Wait for notes and take them all; none are left, and none will come, when it is empty."""
        partitions: list[Partition] = []
        while (note := self._notes.get()) is not None:
            # From now on a ring is noted anew: this one may be sent before its work is there.
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
        except Exception as error:  # Whatever a broker's library raises: the thread must go on.
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
    """How soon one ring follows another. Others count what is wanted; the doorbell's thread waits."""

    def __init__(self, often_per_second: float) -> None:
        self.wanted = 0
        self._often_per_second = often_per_second
        self._seen = 0
        self._since = time.monotonic()
        self._skips = 0
        self._next_skips = FEWEST_SKIPS

    def wait(self, closing: threading.Event) -> None:
        """Let rings gather, if they are wanted often, and as long as that is worth it."""
        if not self._is_wanted_often():
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
        """Send a ring, unless enough of them wait; whether it was sent."""
        # Without workers, or with slow ones, rings would pile up in the broker's memory. Declaring
        # the queue counts them, and makes it anew after a flush.
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
        with suppress(Exception):  # It may be broken already, in any way.
            self._connection.release()


def _bounds(app: Celery) -> dict[str, Any]:
    if app.conf["broker_url"].startswith("amqp"):
        return {"read_timeout": ANSWER_SECONDS, "write_timeout": ANSWER_SECONDS}
    return {
        "socket_timeout": ANSWER_SECONDS,
        "socket_connect_timeout": ANSWER_SECONDS,
        "retry_on_timeout": False,
    }
