"""Looking at a database file from outside, whether a service uses it or not. Changes nothing."""

from __future__ import annotations

import fcntl
import os
import shutil
from functools import partial
from pathlib import Path
from urllib.parse import quote

import apsw

from zaqar_notify.findings import Finding, ok, problem, warning
from zaqar_notify.rules.encryption import NO_KEYS, Keyring
from zaqar_notify.storage.pools import key_ids_of
from zaqar_notify.storage.rekeying import findings as findings_of_keys
from zaqar_notify.storage.sqlite.encrypted import NEXT_KEY, NEXT_KEY_OF_SUBSCRIPTIONS, next_keys
from zaqar_notify.storage.sqlite.migrations import SCHEMA_VERSION
from zaqar_notify.storage.sqlite.opening import soundness
from zaqar_notify.storage.sqlite.pools import CONTENT
from zaqar_notify.storage.sqlite.recognizing import FOREIGN, is_foreign, remains
from zaqar_notify.storage.sqlite.reserve import reserve_of
from zaqar_notify.storage.sqlite.statements import first_value

CHECK_SECONDS = 10.0
"""How long the file's soundness is looked into; that is about a gigabyte."""

LITTLE_SPACE_BYTES = 1 << 30
NO_SPACE_BYTES = 100 << 20


def diagnose(path: Path, keys: Keyring = NO_KEYS) -> list[Finding]:
    """The state of the file for the doctor: its user, its soundness, its room to grow, and whether the keys are
    those that it needs."""
    if not path.parent.is_dir():
        return [ok("store", f"{path} is not there yet; the first start makes it")]
    findings = [_space(path.parent)]
    if not os.access(path.parent, os.W_OK):
        findings.append(
            problem(
                "store",
                f"The directory {path.parent} can't be written by this user",
                "Give it to the service's user, and run this as that user",
            )
        )
    left = _remains(path)
    if left is not None:
        return [left, *findings]
    if not path.exists():
        return [ok("store", f"{path} is not there yet; the first start makes it"), *findings]
    return [*_owner(path), *_content(path, keys), *findings]


def _remains(path: Path) -> Finding | None:
    """The refusals of a start before it opens the database."""
    try:
        left = remains(path)
        if left is None and is_foreign(path):
            return problem("store", f"{path} {FOREIGN}", "Choose another data directory")
    except OSError as error:
        return problem("store", f"{path} can't be read: {error.strerror}", "Run this as its owner")
    return None if left is None else problem("store", left, _restore(path))


def _restore(path: Path) -> str:
    return f"Stop the service, set {path.parent} aside, and restore the last backup"


def _owner(path: Path) -> list[Finding]:
    """The process that uses the file, and whether the room kept for deletes is there."""
    pid = _user(path)
    if pid is None:
        return [ok("store", f"{path} is in use by no process")]
    findings = [ok("store", f"{path} is in use by the process {pid}")]
    if not reserve_of(path).exists():
        findings.append(
            problem(
                "disk",
                "The disk was full: the reserve for deletes is in use, and posts are refused",
                "Make room, or let messages be consumed; the service takes posts again by itself",
            )
        )
    return findings


def _user(path: Path) -> str | None:
    """The process that has the file's lock, if one has."""
    try:
        descriptor = os.open(f"{path}.lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        # Shared, and for a moment: a process that starts meanwhile would be refused.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return os.pread(descriptor, 20, 0).decode(errors="replace") or "unknown"
    finally:
        os.close(descriptor)
    return None


def _content(path: Path, keys: Keyring) -> list[Finding]:
    restore = _restore(path)
    try:
        db = _connect(path)
    except apsw.Error as error:
        return [problem("store", f"{path} can't be opened: {error}", "Run this as its owner")]
    try:
        version = db.pragma("user_version")
        if version > SCHEMA_VERSION:
            return [
                problem(
                    "store",
                    f"{path} is of schema version {version}; this release knows {SCHEMA_VERSION}",
                    "Install the release that wrote it, or a later one",
                )
            ]
        findings = [_soundness(db, path, restore)]
        if version < SCHEMA_VERSION:
            sentence = f"The next start migrates version {version} to {SCHEMA_VERSION}"
            findings.insert(0, ok("store", sentence))
        # The process that has the file looks by itself.
        elif _user(path) is None:
            findings += findings_of_keys(_keys_in_use(db), keys)
        return findings
    except apsw.Error as error:
        return [problem("store", f"{path} can't be read: {error}", restore)]
    finally:
        db.close()


def _keys_in_use(db: apsw.Connection) -> list[str]:
    find = partial(first_value, db)
    return sorted(
        {
            *next_keys(find, NEXT_KEY),
            *next_keys(find, NEXT_KEY_OF_SUBSCRIPTIONS),
            *key_ids_of(find(CONTENT, ())),
        }
    )


def _connect(path: Path) -> apsw.Connection:
    if not Path(f"{path}-wal").exists():
        # No process uses it, and all is in this one file: read it without making others beside it.
        uri = f"file:{quote(str(path))}?immutable=1"
        return apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    # Not read-only: readers of a WAL take part in its locks. It writes nothing all the same.
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    db.wal_autocheckpoint(0)
    db.set_busy_timeout(1000)
    db.pragma("query_only", True)
    return db


def _soundness(db: apsw.Connection, path: Path, restore: str) -> Finding:
    size = f"{path.stat().st_size / 1e6:.1f} MB, SQLite {apsw.sqlite_lib_version()}"
    verdict = soundness(db, seconds=CHECK_SECONDS)
    if verdict is None:
        return ok("store", f"The database is sound as far as read in {CHECK_SECONDS:g} s ({size})")
    if verdict != "ok":
        return problem("store", f"The database is damaged: {verdict}", restore)
    return ok("store", f"The database is sound ({size})")


def _space(directory: Path) -> Finding:
    free = shutil.disk_usage(directory).free
    sentence = f"{free / 1e9:.1f} GB are free on the disk of {directory}"
    remedy = "Make room: on a full disk posts are refused with 503"
    if free < NO_SPACE_BYTES:
        return problem("disk", sentence, remedy)
    if free < LITTLE_SPACE_BYTES:
        return warning("disk", sentence, remedy)
    return ok("disk", sentence)
