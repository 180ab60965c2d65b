"""Copying the write-ahead log into the database, so that the next writes begin it anew.

As a rule a commit does it by itself, every 4 MB: that takes some milliseconds. A backup reads one state of
the database for as long as it takes, and later commits can't be copied meanwhile. A commit that copied
them all afterwards would hold up every post for seconds. So a thread copies them, on a connection of
its own, and the commits do the last part when there is little left.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

import apsw

from zaqar_notify.storage.sqlite.opening import CHECKPOINT_PAGES, connect

MOST_PAGES_IN_A_COMMIT = 4 * CHECKPOINT_PAGES
LOG_BYTES = 16 << 20
"""The size to which the file of the log is cut when it is begun anew."""
PAUSE_SECONDS = 0.2
"""The pause between two tries of the thread while a reader is in the way."""
QUICK_SECONDS = 0.1
MOST_TRIES = 5
"""The thread leaves the rest to a commit when there can't be much of it, or it gets no less."""

OK = apsw.SQLITE_OK


class Checkpoints:
    """Belongs to the connection that writes; its commits may be made by any thread."""

    def __init__(self, path: Path, writer: apsw.Connection) -> None:
        self._path = path
        self._copied = 0
        """Pages of the present log that are in the database."""
        self._may_finish = False
        self._wanted = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        writer.pragma("journal_size_limit", LOG_BYTES)
        writer.set_wal_hook(self._committed)

    def close(self) -> None:
        """Stop, before the writing connection is closed; its closing copies the rest."""
        self._closed.set()
        self._wanted.set()
        if self._thread is not None:
            self._thread.join()

    def _committed(self, writer: apsw.Connection, _database: str, pages: int) -> int:
        """After each commit, in its thread: the log has so many pages."""
        if pages < self._copied:
            self._copied = 0  # It was begun anew.
        left = pages - self._copied
        if left < CHECKPOINT_PAGES:
            return OK
        if left <= MOST_PAGES_IN_A_COMMIT or self._may_finish:
            self._may_finish = False
            self._copy(writer)
        elif self._thread is None:
            self._wanted.set()
            self._thread = threading.Thread(target=self._copy_all, name="checkpoint", daemon=True)
            self._thread.start()
        else:
            self._wanted.set()
        return OK

    def _copy(self, connection: apsw.Connection) -> bool:
        """Copy as much as the present readers allow; whether that was all.

        An error is met again by the next write, or the next try.
        """
        try:
            pages, copied = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.Error:
            return False
        self._copied = max(0, copied)
        return copied >= pages

    def _copy_all(self) -> None:
        """The thread: whenever it is wanted, until it is closed."""
        connection = connect(self._path, readonly=False)
        try:
            while not self._closed.is_set():
                self._wanted.wait()
                self._wanted.clear()
                self._catch_up(connection)
        finally:
            connection.close()

    def _catch_up(self, connection: apsw.Connection) -> None:
        tries = 0
        while tries < MOST_TRIES and not self._closed.is_set():
            began = time.monotonic()
            if not self._copy(connection):
                self._closed.wait(PAUSE_SECONDS)
                continue
            tries += 1
            if time.monotonic() - began < QUICK_SECONDS:
                break
        self._may_finish = True
