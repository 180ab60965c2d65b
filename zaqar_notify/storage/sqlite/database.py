"""The file: opening it, reading it, and committing writes in batches.

A write is a function that runs its statements and returns its result. Writes that arrive while a
commit is under way go into the next batch together: one transaction, one fsync. Statements run on
the event loop, where they take microseconds and contend with no other thread; the
commit, which waits for the disk, runs in a thread of its own (docs/decisions/0001).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import apsw

from zaqar_notify.errors import (
    StorageDamaged,
    StorageFull,
    StorageUnavailable,
)
from zaqar_notify.storage.batch_delay import BatchDelay
from zaqar_notify.storage.sqlite.checkpointing import LOG_BYTES, Checkpoints
from zaqar_notify.storage.sqlite.failures import NO_ROOM, StorageErrors, is_full, storage_errors
from zaqar_notify.storage.sqlite.files import Files
from zaqar_notify.storage.sqlite.opening import connect, keep_log, open_file, prove
from zaqar_notify.storage.sqlite.pending import Pending, Write
from zaqar_notify.storage.sqlite.reserve import Grows, Reserve
from zaqar_notify.storage.sqlite.slow_reads import SlowReads

ENOUGH_WRITES = 8
BATCH_DELAY_SECONDS = 0.002
"""How batches of writes wait for callers (docs/decisions/0001)."""

LOCKED_SECONDS = 2.0
"""For so long writes wait when another program holds the file's lock."""
LOCK_PAUSE_SECONDS = 0.02
"""Between two looks whether it still does."""

T = TypeVar("T")
Row: TypeAlias = tuple[Any, ...]
Bindings: TypeAlias = tuple[Any, ...] | dict[str, Any]


logger = logging.getLogger(__name__)


class Database:
    """One SQLite file with its writer and its readers. Make it with `open`, in the running loop."""

    def __init__(self, path: Path, lock: int, writer: apsw.Connection) -> None:
        self._lock = lock
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._writer = writer
        self._reader = connect(path, readonly=True)
        for connection in (writer, self._reader):
            # A statement that waits for a lock would hold up the whole process.
            connection.set_busy_timeout(0)
        self._checkpoints = Checkpoints(path, writer)
        self._files = Files(path, log_bytes=LOG_BYTES)
        self._reserve = Reserve(path)
        self._slow_reads = SlowReads()
        self._damage: str | None = None
        self.errors = StorageErrors(self._note)
        """Around reads: SQLite's failures become ours; a damaged file stops all writes."""
        self._locked_since: float | None = None
        self._waiting: deque[Pending[Any]] = deque()
        self._alone: deque[Pending[Any]] = deque()
        self._batch: list[Pending[Any]] = []
        self._busy = False
        self._batch_delay = BatchDelay(seconds=BATCH_DELAY_SECONDS, enough=ENOUGH_WRITES)
        self._closed = False
        self._idle = asyncio.Event()
        """Set once the last batch of a store that is being closed has ended."""
        self._commits: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._committer = threading.Thread(target=self._commit_all, name="commit", daemon=True)
        self._committer.start()
        self.after_commit: list[Callable[[], None]] = []
        """Callbacks of the present writes, run once they are durable; a write appends them while it runs."""
        self.after_end: list[Callable[[bool], None]] = []
        """Told of each transaction's end: True committed, False rolled back."""

    @classmethod
    def open(cls, path: Path) -> Database:
        """Open or create the file, and own it.

        Raises:
            StartRefused: It can't be used; the sentence gives the reason and a remedy.
        """
        lock, writer = open_file(path)
        return cls(path, lock, writer)

    def read(self, statement: str, bindings: Bindings = ()) -> apsw.Cursor:
        """Rows of a short, indexed query, as they are asked for.

        Errors arise while iterating, too, so wrap the loop in `errors`. Close (or exhaust) the
        cursor soon: it pins a snapshot.
        """
        with self.errors:
            return self._reader.execute(statement, bindings)

    def read_one(self, statement: str, bindings: tuple[object, ...] = ()) -> Row | None:
        with self.errors:
            return next(self._reader.execute(statement, bindings), None)

    def read_value(self, statement: str, bindings: tuple[object, ...] = ()) -> Any:
        """The first column of the first row; None when there is none."""
        row = self.read_one(statement, bindings)
        return None if row is None else row[0]

    async def read_slowly(self, project: str, query: Callable[[apsw.Connection], T]) -> T:
        """Run a query that reads much in a thread, on a connection of its own; one of each project at once."""

        def run() -> T:
            with storage_errors:
                reader = connect(self._path, readonly=True)
                try:
                    return query(reader)
                finally:
                    reader.close()

        async with self._slow_reads.turn(project):
            self.check_open()
            result: T = await asyncio.to_thread(run)
            return result

    async def write(self, write: Write[T], *, grows: Grows = Grows.NOT) -> T:
        """Run `write` in the next batch and wait until it is durable.

        While room is short, a write that `grows` the file is refused with `StorageFull`.

        `write` may run twice (a batch that failed is repeated one by one), so it changes nothing
        but the database and `after_commit`. A `NotifyError` that it raises
        refuses it alone.
        """
        self.check_open()
        future: asyncio.Future[T] = self._loop.create_future()
        pending = Pending(write, future, grows)
        self._waiting.append(pending)
        self._batch_delay.arrived()
        if not self._busy:
            self._busy = True
            self._plan_batch()
        return await future

    async def prove(self) -> None:
        """Make a write that changes nothing, and wait until it is durable."""
        await self.write(prove)

    def check_open(self) -> None:
        if self._closed:
            raise StorageUnavailable("The store is closed")

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._busy:
            await self._idle.wait()
        self._commits.put(False)
        self._committer.join()
        self._checkpoints.close()
        self._reader.close()
        if self._damage is not None:
            keep_log(self._writer)
        self._writer.close()
        os.close(self._lock)

    def _plan_batch(self) -> None:
        """Begin the next batch: soon, or when the callers that were just answered are back."""
        if self._alone:
            self._loop.call_soon(self._next_batch)
        else:
            self._batch_delay.start(self._next_batch)

    def _next_batch(self) -> None:
        """Run the statements of everything that waits, and hand the commit to the thread."""
        is_repeated = bool(self._alone)
        if is_repeated:
            batch = [self._alone.popleft()]
        else:
            batch = list(self._waiting)
            self._waiting.clear()
        batch = [pending for pending in batch if not pending.future.cancelled()]
        if self._reserve.is_released:
            batch = self._admitted(batch, is_repeated=is_repeated)
        if not batch:
            self._rest()
            return
        try:
            self._check()
            with self.errors:
                if not self._begin(batch):
                    return
        except StorageUnavailable as error:
            self._fail(batch, error)
            return
        try:
            self._batch = self._run(batch)
        except apsw.Error as error:
            self._roll_back(batch, error)
            return
        self._commits.put(True)

    def _check(self) -> None:
        """Whether a later start will find the present writes."""
        if self._damage is not None:
            raise StorageDamaged(self._damage)
        self._files.check_before()

    def _note(self, damage: StorageDamaged) -> None:
        """From now on nothing is written: a tree that is half unreadable gets no better by it."""
        if self._damage is None:
            self._damage = str(damage)
            logger.error(
                "The database can't be read; the store takes no more writes",
                extra={"action": "storage_damaged", "error": self._damage},
            )

    def _admitted(self, batch: list[Pending[Any]], *, is_repeated: bool) -> list[Pending[Any]]:
        """Those for which there is room while it is short; the others are refused."""
        room = self._room()
        if not is_repeated:  # It is to have the room that was let go of for it.
            self._reserve.make_again(room)
        admitted = []
        for pending in batch:
            if self._reserve.admits(pending.grows, room):
                admitted.append(pending)
            else:
                pending.fail(StorageFull(NO_ROOM))
        return admitted

    def _room(self) -> int:
        """Bytes that are free on the disk, and in the database."""
        try:
            pages: int = self._reader.pragma("freelist_count")
            page_bytes: int = self._reader.pragma("page_size")
        except apsw.Error:
            pages = page_bytes = 0
        return self._reserve.free_bytes() + pages * page_bytes

    def _begin(self, batch: list[Pending[Any]]) -> bool:
        """Begin a transaction; False: another program holds the lock, and the batch waits a little."""
        try:
            self._writer.execute("BEGIN IMMEDIATE")
        except apsw.BusyError:
            now = self._loop.time()
            if self._locked_since is None:
                self._locked_since = now
            if now - self._locked_since >= LOCKED_SECONDS:
                raise
            self._waiting.extendleft(reversed(batch))
            self._loop.call_later(LOCK_PAUSE_SECONDS, self._next_batch)
            return False
        self._locked_since = None
        return True

    def _run(self, batch: list[Pending[Any]]) -> list[Pending[Any]]:
        """Run the batch's statements; return those to be told of the commit."""
        done = []
        for pending in batch:
            before = self._writer.total_changes()
            if not pending.run(self._writer) and self._writer.total_changes() != before:
                # It had written already; only a transaction of its own can undo that.
                raise apsw.AbortError("refused half-way")
            done.append(pending)
        return done

    def _commit_all(self) -> None:
        """The thread: one commit per token, until told to stop."""
        while self._commits.get():
            error: apsw.Error | None = None
            try:
                self._writer.execute("COMMIT")
            except apsw.Error as failure:
                error = failure
            self._loop.call_soon_threadsafe(self._committed, error)

    def _committed(self, error: apsw.Error | None) -> None:
        batch, self._batch = self._batch, []
        if error is not None:
            self._roll_back(batch, error)
            return
        try:
            # Not in the thread: there each look would wait for the interpreter's lock.
            self._files.check_after()
        except StorageDamaged as damage:
            self._ended(committed=False)
            self._fail(batch, damage)
            return
        actions = self._ended(committed=True)
        for pending in batch:
            pending.committed()
        self._rest(answered=len(batch))
        for action in actions:
            action()

    def _roll_back(self, batch: list[Pending[Any]], error: apsw.Error) -> None:
        """Undo the batch. One write alone fails with the error; of several, each is tried alone.

        On a full disk they have the reserve's room then, or are refused.
        """
        is_without_room = is_full(error, self._writer)
        if self._writer.in_transaction:
            with contextlib.suppress(apsw.Error):
                self._writer.execute("ROLLBACK")
        self._ended(committed=False)
        if len(batch) > 1 or (is_without_room and self._reserve.release()):
            self._alone.extend(batch)
        elif is_without_room:
            batch[0].fail(StorageFull(NO_ROOM))
        else:
            with contextlib.suppress(StorageUnavailable), self.errors:
                raise error
            batch[0].fail(error)
        self._rest()

    def _fail(self, batch: list[Pending[Any]], error: StorageUnavailable) -> None:
        """Fail every write of the batch: the store takes no writes now."""
        for pending in batch:
            pending.fail(error)
        self._rest()

    def _ended(self, *, committed: bool) -> list[Callable[[], None]]:
        """Call the listeners of `after_end`; return the callbacks of the writes in the transaction."""
        for listener in self.after_end:
            listener(committed)
        actions, self.after_commit = self.after_commit, []
        return actions

    def _rest(self, answered: int = 0) -> None:
        """Plan a batch of the writes that arrived meanwhile, or fall idle."""
        self._batch_delay.answered(answered, waiting=len(self._waiting))
        if self._waiting or self._alone:
            self._plan_batch()
            return
        self._busy = False
        if self._closed:
            self._idle.set()
