"""The file: opening it, reading it, and committing writes in groups.

A write is a function that runs its statements and returns its result. Writes that arrive while a
commit is under way go into the next group together: one transaction, one fsync. Statements run on
the event loop, where they take microseconds and contend with nobody for the interpreter; the
commit, which waits for the disk, runs in a thread of its own (docs/decisions/0001).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

import apsw

from zaqar_notify.errors import StartRefused, StorageUnavailable
from zaqar_notify.storage.gathering import Gathering

SCHEMA_VERSION = 1
MAGIC = b"SQLite format 3\0"
APPLICATION_ID = 0x5A51524E  # "ZQRN", shown by file(1)
SAFE_SQLITE = 3_051_003
"""Versions before it can corrupt a WAL database when a checkpoint meets a writer."""

CHECKPOINT_PAGES = 1000
"""4 MB of WAL. A commit that makes the file grow costs twice one that writes over it, so a short file,
soon full, is better than a long one; a hot page is still copied only once per hundreds of commits."""

ENOUGH_WRITES = 8
GATHER_SECONDS = 0.002
"""How groups of writes wait for callers (docs/decisions/0001)."""

CACHE_KIB = 64 * 1024
MMAP_BYTES = 1 << 30

T = TypeVar("T")
Row: TypeAlias = tuple[Any, ...]
Bindings: TypeAlias = tuple[Any, ...] | dict[str, Any]
Write: TypeAlias = Callable[[apsw.Connection], T]


@contextlib.contextmanager
def storage_errors() -> Iterator[None]:
    """Turn SQLite's failures into ours, keeping the cause."""
    try:
        yield
    except apsw.FullError as error:
        raise StorageUnavailable("The disk that holds the database is full") from error
    except (apsw.ConnectionClosedError, apsw.CursorClosedError) as error:
        raise StorageUnavailable("The store is closed") from error
    except apsw.Error as error:
        raise StorageUnavailable(f"SQLite: {error}") from error


class Database:
    """One SQLite file with its writer and its readers. Make it with `open`, in the running loop."""

    def __init__(self, path: Path, lock: int, writer: apsw.Connection) -> None:
        self._lock = lock
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._writer = writer
        self._reader = _connect(path, readonly=True)
        self._waiting: deque[_Pending[Any]] = deque()
        self._alone: deque[_Pending[Any]] = deque()
        self._group: list[_Pending[Any]] = []
        self._busy = False
        self._gathering = Gathering(seconds=GATHER_SECONDS, enough=ENOUGH_WRITES)
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._commits: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._committer = threading.Thread(target=self._commit_all, name="commit", daemon=True)
        self._committer.start()
        self.after_commit: list[Callable[[], None]] = []
        """What a write wants done once it is durable; it appends while it runs."""
        self.after_end: list[Callable[[bool], None]] = []
        """Told of each transaction's end: True committed, False rolled back."""

    @classmethod
    def open(cls, path: Path) -> Database:
        """Open or create the file, and own it.

        Raises:
            StartRefused: It can't be opened, is in use, or is of a later version.
        """
        if _sqlite_version() < SAFE_SQLITE:
            raise StartRefused(
                f"SQLite {apsw.sqlite_lib_version()} can corrupt a database in use; install apsw 3.54 or later"
            )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = _lock(path)
            _make_private(path)
        except OSError as error:
            raise StartRefused(
                f"The data directory {path.parent} can't be used: {error.strerror}"
            ) from error
        try:
            _check_magic(path)
            writer = _connect(path, readonly=False)
            _migrate(writer, path)
        except apsw.Error as error:
            os.close(lock)
            raise StartRefused(f"{path} can't be opened as a database: {error}") from error
        except StartRefused:
            os.close(lock)
            raise
        return cls(path, lock, writer)

    def read(self, statement: str, bindings: Bindings = ()) -> apsw.Cursor:
        """Rows of a short, indexed query, as they are asked for.

        Errors arise while iterating, too, so wrap the loop in `storage_errors`. Close (or exhaust) the
        cursor soon: it pins a snapshot.
        """
        with storage_errors():
            return self._reader.execute(statement, bindings)

    def read_one(self, statement: str, bindings: tuple[object, ...] = ()) -> Row | None:
        with storage_errors():
            return next(self._reader.execute(statement, bindings), None)

    async def read_slowly(self, query: Callable[[apsw.Connection], T]) -> T:
        """Run a query that reads much in a thread, on a connection of its own."""

        def run() -> T:
            with storage_errors():
                reader = _connect(self._path, readonly=True)
                try:
                    return query(reader)
                finally:
                    reader.close()

        self.check_open()
        result: T = await asyncio.to_thread(run)
        return result

    async def write(self, write: Write[T]) -> T:
        """Run `write` in the next group and wait until it is durable.

        `write` may run twice (a group that failed is repeated one by one), so it changes nothing
        but the database and what it leaves to `after_commit`. A `NotifyError` that it raises
        refuses it alone.
        """
        self.check_open()
        future: asyncio.Future[T] = self._loop.create_future()
        pending = _Pending(write, future)
        self._waiting.append(pending)
        self._gathering.came()
        if not self._busy:
            self._busy = True
            self._idle.clear()
            self._gather()
        return await future

    def check_open(self) -> None:
        if self._closed:
            raise StorageUnavailable("The store is closed")

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await self._idle.wait()
        self._commits.put(False)
        self._committer.join()
        self._reader.close()
        self._writer.close()
        os.close(self._lock)

    def _gather(self) -> None:
        """Begin the next group: soon, or when the callers that were just answered are back."""
        if self._alone:
            self._loop.call_soon(self._next_group)
        else:
            self._gathering.begin(self._next_group)

    def _next_group(self) -> None:
        """Run the statements of everything that waits, and hand the commit to the thread."""
        if self._alone:
            group = [self._alone.popleft()]
        else:
            group = list(self._waiting)
            self._waiting.clear()
        group = [pending for pending in group if not pending.future.cancelled()]
        if not group:
            self._rest()
            return
        try:
            self._group = self._run(group)
        except apsw.Error as error:
            self._roll_back(group, error)
            return
        self._commits.put(True)

    def _run(self, group: list[_Pending[Any]]) -> list[_Pending[Any]]:
        """Run the group's statements; return those to be told of the commit."""
        self._writer.execute("BEGIN IMMEDIATE")
        done = []
        for pending in group:
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
        group, self._group = self._group, []
        if error is not None:
            self._roll_back(group, error)
            return
        actions = self._ended(committed=True)
        for pending in group:
            pending.settle()
        self._rest(answered=len(group))
        for action in actions:
            action()

    def _roll_back(self, group: list[_Pending[Any]], error: apsw.Error) -> None:
        """Undo the group. One write alone fails with the error; of several, each is tried alone."""
        if self._writer.in_transaction:
            self._writer.execute("ROLLBACK")
        self._ended(committed=False)
        if len(group) == 1:
            group[0].fail(error)
        else:
            self._alone.extend(group)
        self._rest()

    def _ended(self, *, committed: bool) -> list[Callable[[], None]]:
        """Tell those who keep state of their own; what the writes wanted done after the commit."""
        for listener in self.after_end:
            listener(committed)
        actions, self.after_commit = self.after_commit, []
        return actions

    def _rest(self, answered: int = 0) -> None:
        """Go on with what arrived meanwhile, or fall idle."""
        self._gathering.answered(answered, waiting=len(self._waiting))
        if self._waiting or self._alone:
            self._gather()
            return
        self._busy = False
        self._idle.set()


class _Pending(Generic[T]):
    """One write that waits for its group, and whoever waits for it."""

    __slots__ = ("_failure", "_result", "_write", "future")

    def __init__(self, write: Write[T], future: asyncio.Future[T]) -> None:
        self.future = future
        self._write = write
        self._result: T | None = None
        self._failure: Exception | None = None

    def run(self, writer: apsw.Connection) -> bool:
        """Run the statements; False when the write was refused."""
        self._failure = None
        try:
            self._result = self._write(writer)
        except apsw.Error:
            raise
        except Exception as failure:  # A fault of one write is its caller's, not the group's.
            self._failure = failure
            return False
        return True

    def settle(self) -> None:
        """The transaction is durable: give the caller the result, or the refusal."""
        if self.future.done():
            return
        if self._failure is not None:
            self.future.set_exception(self._failure)
        else:
            self.future.set_result(self._result)  # type: ignore[arg-type]

    def fail(self, error: apsw.Error) -> None:
        """The transaction was undone, and this write was alone in it."""
        if self.future.done():
            return
        try:
            with storage_errors():
                raise self._failure or error
        except Exception as failure:  # Whatever it is, it is the caller's answer.
            self.future.set_exception(failure)


def _sqlite_version() -> int:
    major, minor, patch = (int(part) for part in apsw.sqlite_lib_version().split("."))
    return major * 1_000_000 + minor * 1_000 + patch


def _lock(path: Path) -> int:
    """Take the lock beside the file; it is the kernel's to give back when the process ends."""
    descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        owner = os.pread(descriptor, 20, 0).decode() or "unknown"
        os.close(descriptor)
        raise StartRefused(
            f"{path} is in use by another process (pid {owner}); stop that one, or choose another data directory"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


def _check_magic(path: Path) -> None:
    """SQLite takes a file of a few bytes for an empty database; whoever cut it off should know."""
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise StartRefused(f"{path} is not a database, or what is left of one")


def _make_private(path: Path) -> None:
    """Create the file for its owner alone; SQLite gives the files beside it the same mode."""
    if not path.exists():
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _connect(path: Path, *, readonly: bool) -> apsw.Connection:
    connection = apsw.Connection(str(path), statementcachesize=256)
    connection.set_busy_timeout(1000)
    connection.pragma("synchronous", "full")
    connection.pragma("cache_size", -CACHE_KIB)
    connection.pragma("mmap_size", MMAP_BYTES)
    if readonly:
        connection.pragma("query_only", True)
        # Checkpoints are the writer's: two connections at it was what older versions got wrong.
        connection.wal_autocheckpoint(0)
    else:
        connection.pragma("journal_mode", "wal")
        connection.wal_autocheckpoint(CHECKPOINT_PAGES)
    return connection


def _migrate(writer: apsw.Connection, path: Path) -> None:
    version = writer.pragma("user_version")
    if version == SCHEMA_VERSION:
        return
    if version != 0:
        raise StartRefused(
            f"{path} is of schema version {version}; this release knows version {SCHEMA_VERSION}"
        )
    if writer.execute("SELECT count(*) FROM sqlite_schema").get:
        raise StartRefused(f"{path} is a database of something else")
    schema = resources.files("zaqar_notify.storage.sqlite").joinpath("schema.sql").read_text()
    with writer:
        writer.execute(schema)
        writer.pragma("application_id", APPLICATION_ID)
        writer.pragma("user_version", SCHEMA_VERSION)
