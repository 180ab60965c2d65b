"""A rate for each kind of log record: clients that cause one record each must not fill the disk."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections import Counter

WINDOW_SECONDS = 10.0
PER_PROJECT = 100
"""Records of one kind about one project in a window; those about none count as one more project's."""
PER_KIND = 1000

AUDIT = "audit"
"""The action of the records of the audit. All of them are written."""


class LogRate(logging.Filter):
    """Keeps a handler's records of each kind within a rate, and logs how many were left out.

    The kind is the record's action, or its logger when it has none. Debug records and those of the audit
    have no bound, since an operator switches them on to see each.
    """

    def __init__(self, handler: logging.Handler) -> None:
        super().__init__()
        self._handler = handler
        self._begin()
        atexit.register(self.tell)
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._ends_at = 0.0
        self._counts: Counter[tuple[str, str | None]] = Counter()
        self._left_out: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        kind = str(getattr(record, "action", record.name))
        if record.levelno <= logging.DEBUG or kind == AUDIT:
            return True
        project = str(getattr(record, "project", ""))
        with self._lock:
            now = time.monotonic()
            if now >= self._ends_at:
                self._counts.clear()
                self._ends_at = now + WINDOW_SECONDS
            if self._counts[kind, project] < PER_PROJECT and self._counts[kind, None] < PER_KIND:
                self._counts[kind, project] += 1
                self._counts[kind, None] += 1
                return True
            if not self._left_out:
                timer = threading.Timer(WINDOW_SECONDS, self.tell)
                timer.daemon = True
                timer.start()
            self._left_out[kind] += 1
        return False

    def tell(self) -> None:
        """Say how many records were left out since this was said last."""
        with self._lock:
            left_out, self._left_out = self._left_out, Counter()
        for kind, count in left_out.items():
            record = logging.makeLogRecord(
                {
                    "name": __name__,
                    "levelno": logging.WARNING,
                    "levelname": "WARNING",
                    "msg": "Records were left out: there were too many of one kind",
                    "action": "records_left_out",
                    "kind": kind,
                    "count": count,
                }
            )
            self._write(record)

    def _write(self, record: logging.LogRecord) -> None:
        """Past this filter."""
        self._handler.acquire()
        try:
            self._handler.emit(record)
        finally:
            self._handler.release()
