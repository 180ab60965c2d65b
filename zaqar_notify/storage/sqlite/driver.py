"""SQLite files, by `sqlite://` and an absolute path."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import unquote, urlsplit

from zaqar_notify.errors import StartRefused
from zaqar_notify.findings import Finding, problem
from zaqar_notify.rules.encryption import Keyring
from zaqar_notify.storage.base import MessageStore
from zaqar_notify.storage.driver import NEEDED, Driver
from zaqar_notify.storage.sqlite.diagnosis import diagnose
from zaqar_notify.storage.sqlite.storage import SQLiteStore


class SQLiteDriver(Driver):
    about = "a SQLite file"
    capabilities = NEEDED
    is_shared = False

    async def open(
        self, uri: str, *, unreliable: bool, prepare: bool, keys: Keyring
    ) -> MessageStore:
        return await SQLiteStore.open(_path(uri), keys=keys)

    async def diagnose(self, uri: str, keys: Keyring) -> list[Finding]:
        try:
            path = _path(uri)
        except StartRefused as error:
            return [problem("store", str(error), "A process with these settings would not start")]
        return await asyncio.to_thread(diagnose, path, keys)


def _path(uri: str) -> Path:
    parts = urlsplit(uri)
    if parts.netloc or not parts.path.startswith("/"):
        raise StartRefused(
            f"ZAQAR_STORE_URI {uri!r}: write the absolute path after sqlite://, as in "
            "sqlite:///var/lib/zaqar.db"
        )
    path = Path(unquote(parts.path))
    if path.name == ":memory:":
        raise StartRefused(
            f"{uri!r}: messages in memory would be lost with the process; name a file, as in "
            "sqlite:///var/lib/zaqar.db"
        )
    return path
