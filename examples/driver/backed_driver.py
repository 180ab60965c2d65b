"""A storage driver: a SQLite file that is copied to another disk again and again while the service uses it.

`sqlite-backed:///var/lib/zaqar.db?backup=/mnt/backup/zaqar.db&every=60` is the store of the driver for `sqlite:`, and a
backup of it that is at most a minute old. To restore, stop the service and put the backup in the place of the database.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import apsw

from zaqar_notify.errors import StartRefused
from zaqar_notify.findings import Finding, ok, warning
from zaqar_notify.rules.encryption import Keyring
from zaqar_notify.storage.base import MessageStore
from zaqar_notify.storage.driver import NEEDED, Driver
from zaqar_notify.storage.sqlite.driver import SQLiteDriver
from zaqar_notify.storage.sqlite.storage import SQLiteStore

SCHEME = "sqlite-backed"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """A database, its backup, and the pause between two copies."""

    database: Path
    backup: Path
    every_seconds: float

    @property
    def sqlite_uri(self) -> str:
        return f"sqlite://{self.database}"

    def copy(self) -> None:
        """Copy one consistent state, and put it in the place of the last backup when it is sound and on the disk."""
        new = self.backup.with_name(f"{self.backup.name}.new")
        new.unlink(missing_ok=True)
        with closing(apsw.Connection(str(self.database), apsw.SQLITE_OPEN_READONLY)) as source:
            source.execute("VACUUM INTO ?", (str(new),))
        with closing(apsw.Connection(str(new), apsw.SQLITE_OPEN_READONLY)) as copied:
            [(state,)] = copied.execute("PRAGMA quick_check(1)")
        if state != "ok":
            raise OSError(f"the copy is damaged: {state}")
        with new.open("rb") as file:
            os.fsync(file.fileno())
        new.replace(self.backup)

    def age(self) -> Finding:
        """How old the backup is, for the doctor."""
        if not self.backup.exists():
            return warning(
                "backup", f"{self.backup} is not there yet", "Look into the log for backup_failed"
            )
        seconds = time.time() - self.backup.stat().st_mtime
        sentence = f"{self.backup} is {seconds:.0f} seconds old"
        if seconds > 3 * self.every_seconds + 60:
            return warning(
                "backup", sentence, "Start the service, or look into its log for backup_failed"
            )
        return ok("backup", sentence)


class BackedStore(SQLiteStore):
    """A SQLite store that is copied until it is closed."""

    _copying: asyncio.Task[None] | None = None
    _place: Place

    def keep_backed(self, place: Place) -> None:
        self._place = place
        self._copying = asyncio.create_task(self._copy_regularly())

    async def diagnose(self) -> list[Finding]:
        own = [self._place.age()] if self._copying is not None else []
        return [*await super().diagnose(), *own]

    async def close(self) -> None:
        if self._copying is not None:
            self._copying.cancel()
            with suppress(asyncio.CancelledError):
                await self._copying
        await super().close()

    async def _copy_regularly(self) -> None:
        while True:
            try:
                # In a thread, because it reads the whole file; a stop waits until it is done.
                await asyncio.shield(asyncio.to_thread(self._place.copy))
            except (apsw.Error, OSError) as error:
                facts = {
                    "action": "backup_failed",
                    "path": str(self._place.backup),
                    "error": str(error),
                }
                logger.warning("The store was not backed up; it is tried again", extra=facts)
            await asyncio.sleep(self._place.every_seconds)


class BackedDriver(Driver):
    about = "a SQLite file with a backup"
    capabilities = NEEDED
    is_shared = False

    async def open(
        self, uri: str, *, unreliable: bool, prepare: bool, keys: Keyring
    ) -> MessageStore:
        place = _place(uri)
        store = await BackedStore.open(place.database, keys=keys)
        if prepare and isinstance(store, BackedStore):
            store.keep_backed(place)
        return store

    async def diagnose(self, uri: str, keys: Keyring) -> list[Finding]:
        place = _place(uri)
        return [*await SQLiteDriver().diagnose(place.sqlite_uri, keys), place.age()]


def _place(uri: str) -> Place:
    """Read the URI.

    Raises:
        StartRefused: It names no absolute paths, or no time.
    """
    parts = urlsplit(uri)
    query = parse_qs(parts.query)
    database, backup = unquote(parts.path), query.get("backup", [""])[-1]
    every = query.get("every", ["60"])[-1]
    if parts.netloc or not (
        database.startswith("/") and backup.startswith("/") and every.isdecimal() and int(every)
    ):
        raise StartRefused(
            f"ZAQAR_STORE_URI {uri!r}: write {SCHEME}:///PATH?backup=/PATH&every=SECONDS, with absolute paths"
        )
    if not Path(backup).parent.is_dir():
        raise StartRefused(
            f"ZAQAR_STORE_URI {uri!r}: the directory of the backup is not there; make it"
        )
    return Place(Path(database), Path(backup), int(every))
