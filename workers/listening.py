"""How a worker listens to the broker: whatever the broker answers, the worker lives on.

Celery ends a worker at an answer that it does not expect: `READONLY` after a fail-over, `OOM`, `NOPERM`,
a key of another type, an item that is no message. Started again, the worker gets the same answer. Here
each of them means that the broker is unavailable: the worker connects anew, after a pause that grows.
Its engine delivers meanwhile, because it finds due work by itself.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from celery.bootsteps import Blueprint
from celery.worker.consumer import Consumer
from celery.worker.state import maybe_shutdown

logger = logging.getLogger(__name__)
celery = logging.getLogger("celery.worker.consumer.consumer")

LONGEST_PAUSE_SECONDS = 5.0
"""Between two tries to listen; the second pause is a second, and each is twice the one before."""

ITEM_PAUSE_SECONDS = 0.25
"""After an item that is no ring. It is gone, so the next try can do better; many cost little."""

STEADY_SECONDS = 10.0
"""After so long without a failure, the broker counts as available again."""

STOP_LOOK_SECONDS = 0.2
"""How often a pause looks whether the worker is to stop."""


UNREADABLE = (ValueError, LookupError, TypeError, AttributeError)
"""Errors that kombu raises for an item that it did not write."""


class BrokerUnavailable(Exception):
    """The broker gave no answer, or one that the worker can't use."""


class Patience:
    """How long to wait before the next try to listen. Times are of a monotonic clock, seconds."""

    def __init__(self) -> None:
        self._failures = 0
        self._began_at = 0.0
        self.pause_seconds = 0.0
        """Before the next try. The first follows at once: most connections are lost for a moment only."""

    @property
    def is_broken(self) -> bool:
        return self._failures > 0

    def begins(self, now: float) -> None:
        """A try begins."""
        self._began_at = now

    def failed(self, now: float) -> None:
        if now - self._began_at >= STEADY_SECONDS:
            self._failures = 0
        self._failures += 1
        longer = min(LONGEST_PAUSE_SECONDS, 2.0 ** (self._failures - 2))
        self.pause_seconds = longer if self._failures > 1 else 0.0

    def met_an_item(self) -> None:
        """The broker gave an item that is no ring."""
        self.pause_seconds = ITEM_PAUSE_SECONDS

    def is_over(self, now: float) -> bool:
        """Whether an outage has ended; said once for each."""
        if not self._failures or now - self._began_at < STEADY_SECONDS:
            return False
        self._failures = 0
        return True


class Steps(Blueprint):
    """Connecting and listening, with one error for all that may go wrong."""

    name = Consumer.Blueprint.name
    default_steps = Consumer.Blueprint.default_steps

    def shutdown(self, parent: Any) -> None:
        self.send_all(parent, "shutdown")

    def start(self, parent: Any) -> None:
        _pause(parent.patience.pause_seconds)
        parent.patience.begins(time.monotonic())
        try:
            super().start(parent)
        except UNREADABLE as error:
            parent.patience.met_an_item()
            _log_item(error)
            raise BrokerUnavailable(f"an item was no ring: {type(error).__name__}") from error
        except Exception as error:  # The kinds that Celery's own loop does not know end the worker.
            if not parent.patience.is_broken:
                _log_broken(error)
            parent.patience.failed(time.monotonic())
            raise BrokerUnavailable(_what(error)) from error


class Listener(Consumer):
    """Celery's consumer, which takes every failure for a lost connection."""

    Blueprint = Steps

    def __init__(self, *args: Any, **options: Any) -> None:
        self.patience = Patience()
        super().__init__(*args, **options)
        self.connection_errors: tuple[type[Exception], ...] = (BrokerUnavailable,)

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """It is told already, once for an outage."""

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """As Celery does, which would say so at each try."""
        celery.disabled = True
        try:
            super().on_connection_error_after_connected(exc)
        finally:
            celery.disabled = False

    def note_time(self) -> None:
        """Say that the broker is available again, once it has been for a while."""
        if self.patience.is_over(time.monotonic()):
            logger.info("The broker answers again", extra={"action": "broker_available"})


def _pause(seconds: float) -> None:
    """Wait before the next try to reach the broker; raises when the worker is to stop.

    Celery's signal handlers set a flag and wake no thread, so a pause looks at the flag. It delays no
    delivery: the engine finds due work by itself meanwhile.
    """
    ends_at = time.monotonic() + seconds
    while (left := ends_at - time.monotonic()) > 0:
        time.sleep(min(left, STOP_LOOK_SECONDS))
        maybe_shutdown()


def _log_item(error: Exception) -> None:
    logger.warning(
        "The broker's list held an item that is no ring; it is dropped",
        # The error's text may quote the item, which another program wrote.
        extra={"action": "ring_unreadable", "error": type(error).__name__},
    )


def _log_broken(error: Exception) -> None:
    logger.warning(
        "The broker gives no answer that can be used; this worker looks for due work by itself",
        extra={"action": "broker_unavailable", "error": _what(error)},
    )


def _what(error: Exception) -> str:
    """The error's kind with the broker's own words."""
    return f"{type(error).__name__}: {error}"[:200]
