"""Opening the file: its lock, the checks that it is ours and sound, and the making of a new one.

A start refuses a path with the remains of a store. An empty database in its place would take posts, and
the loss of the old messages would be noticed late.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import closing
from pathlib import Path

import apsw

from zaqar_notify.errors import StartRefused
from zaqar_notify.files import sync_directory
from zaqar_notify.storage.sqlite.failures import is_full
from zaqar_notify.storage.sqlite.migrations import migrate
from zaqar_notify.storage.sqlite.recognizing import FOREIGN, is_foreign, remains
from zaqar_notify.storage.sqlite.reserve import reserve_of

SAFE_SQLITE = 3_051_003
"""Versions before it can corrupt a WAL database when a checkpoint meets a writer."""

CHECKPOINT_PAGES = 1000
"""4 MB of WAL. A commit that makes the file grow costs twice one that writes over it, so a short file,
soon full, is better than a long one; a hot page is still copied only once per hundreds of commits."""

CACHE_KIB = 64 * 1024

CHECK_SECONDS = 1.0
"""How long a start looks into the file's soundness; that is some hundred megabytes."""

_STEPS = 10_000
"""Of SQLite's machine between looks at the time."""

RESTORE = "set the directory aside, and restore the last backup"
GIVE = "give it and the files beside it to the service's user"


def open_file(path: Path) -> tuple[int, apsw.Connection]:
    """Own the file, made when absent: the lock's descriptor, and the connection that writes.

    Raises:
        StartRefused: It can't be used; the sentence gives the reason and a remedy.
    """
    if _sqlite_version() < SAFE_SQLITE:
        raise StartRefused(
            f"SQLite {apsw.sqlite_lib_version()} can corrupt a database in use; install apsw 3.54 or later"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable_directory(path, error) from error
    # Before anything is written beside it: it may be another program's.
    _refuse_unknown(path)
    try:
        lock = _lock(path)
    except OSError as error:
        raise _unusable_directory(path, error) from error
    try:
        return lock, _open(path)
    except BaseException:
        os.close(lock)
        raise


def _unusable_directory(path: Path, error: OSError) -> StartRefused:
    return StartRefused(f"The data directory {path.parent} can't be used: {error.strerror}")


def _open(path: Path) -> apsw.Connection:
    try:
        if not path.exists():
            _create(path)
        writer = _connect_writer(path)
    except apsw.Error as error:
        raise _refusal(path, error) from error
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        keep_log(writer)
        _refuse_damage(writer, path)
        migrate(writer, path)
        _refuse_unwritable(writer, path)
        keep_log(writer, kept=False)
    except apsw.Error as error:
        writer.close()
        raise _refusal(path, error) from error
    except BaseException:
        writer.close()
        raise
    return writer


def _connect_writer(path: Path) -> apsw.Connection:
    """On a full disk the log and its index have the room that is kept for such a day."""
    try:
        return connect(path, readonly=False)
    except (apsw.FullError, apsw.IOError, apsw.CantOpenError):
        if not reserve_of(path).exists():
            raise
        reserve_of(path).unlink()
        return connect(path, readonly=False)


def _refusal(path: Path, error: apsw.Error) -> StartRefused:
    remedy = RESTORE
    if isinstance(error, apsw.BusyError):
        remedy = "another program holds its lock: end that one's transaction"
    elif isinstance(error, apsw.CantOpenError | apsw.PermissionsError | apsw.ReadOnlyError):
        remedy = GIVE
    elif isinstance(error, apsw.FullError):
        remedy = "make room on its disk"
    return StartRefused(f"{path} can't be opened as a database: {error}; {remedy}")


def connect(path: Path, *, readonly: bool) -> apsw.Connection:
    connection = apsw.Connection(str(path), statementcachesize=256)
    connection.set_busy_timeout(1000)
    connection.pragma("synchronous", "full")
    connection.pragma("cache_size", -CACHE_KIB)
    # Not mapped into memory: a cut-off part or a bad sector would end the process by SIGBUS.
    connection.pragma("mmap_size", 0)
    if readonly:
        connection.pragma("query_only", True)
        # Only the writer makes checkpoints: older versions were wrong to let two connections do it.
        connection.wal_autocheckpoint(0)
    else:
        connection.pragma("journal_mode", "wal")
        connection.wal_autocheckpoint(CHECKPOINT_PAGES)
    return connection


def keep_log(connection: apsw.Connection, *, kept: bool = True) -> None:
    """Whether the write-ahead log stays as it is when the connection is closed.

    The log of a damaged file is not to be copied into it and removed: it may hold the latest posts of
    the whole file, which is put back afterwards.
    """
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, int(kept))


def _refuse_unknown(path: Path) -> None:
    """Refuse a file that SQLite would take for a new database, or write to although it is not ours."""
    try:
        left = remains(path)
        if left is not None:
            raise StartRefused(f"{left}; {RESTORE}, or remove it to begin with nothing")
        if is_foreign(path):
            raise StartRefused(f"{path} {FOREIGN}; choose another data directory")
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> StartRefused:
    return StartRefused(f"{path} can't be opened: {error.strerror}; {GIVE}")


def _create(path: Path) -> None:
    """Make it under another name, so that it is there as a whole or not at all; its owner's alone.

    SQLite gives the files beside it the same mode.
    """
    new = Path(f"{path}.new")
    for part in (new, Path(f"{new}-journal")):
        part.unlink(missing_ok=True)
    os.close(os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with closing(apsw.Connection(str(new))) as connection:
        connection.pragma("synchronous", "full")
        migrate(connection, new)
    new.rename(path)
    sync_directory(path.parent)


def _refuse_damage(writer: apsw.Connection, path: Path) -> None:
    verdict = soundness(writer, seconds=CHECK_SECONDS)
    if verdict not in ("ok", None):
        raise StartRefused(f"{path} is damaged ({verdict}); {RESTORE}")


def soundness(connection: apsw.Connection, *, seconds: float) -> str | None:
    """SQLite's check of the file: "ok", the first fault in one line, or None when it takes longer."""
    deadline = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
    try:
        verdict: str = connection.execute("PRAGMA quick_check(1)").get
    except apsw.InterruptError:
        return None
    finally:
        connection.set_progress_handler(None)
    return verdict.removeprefix("*** in database main ***\n").replace("\n", "; ")


def _refuse_unwritable(writer: apsw.Connection, path: Path) -> None:
    """Make a write that changes nothing. A full disk is none of its business: reads and deletes go on."""
    try:
        if writer.readonly("main"):
            raise apsw.ReadOnlyError("it is read-only")
        prove(writer)
    except apsw.Error as error:
        if is_full(error, writer):
            return
        raise StartRefused(
            f"{path} can't be written: {error}; {GIVE}, on a disk that is mounted for writing"
        ) from error


def prove(db: apsw.Connection) -> None:
    """Write, and change nothing."""
    db.pragma("user_version", db.pragma("user_version"))


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
        if owner == str(os.getpid()):
            raise StartRefused(
                f"{path} is open in this process already; name another file"
            ) from None
        raise StartRefused(
            f"{path} is in use by another process (pid {owner}); stop that one, or choose another data directory"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor
