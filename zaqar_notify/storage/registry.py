"""Which driver a store's URI names. Drivers are imported when asked for."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from zaqar_notify.errors import StartRefused
from zaqar_notify.settings import shown
from zaqar_notify.storage.base import Storage


async def open_storage(uri: str, *, unreliable: bool = False, prepare: bool = True) -> Storage:
    """Open the store that `uri` names; it belongs to the running event loop.

    Args:
        uri: `sqlite://` and an absolute path, as in `sqlite:///var/lib/zaqar.db`; or a MongoDB URI,
            as in `mongodb://one,two,three/zaqar_notify?replicaSet=rs0`.
        unreliable: Accept a store that can lose acknowledged writes.
        prepare: False: change nothing in a MongoDB database, for those who only look at it.

    Raises:
        StartRefused: The URI or what it names can't be used.
    """
    parts = urlsplit(uri)
    if parts.scheme == "sqlite":
        from zaqar_notify.storage.sqlite import SQLiteStorage

        if parts.netloc or not parts.path.startswith("/"):
            raise StartRefused(
                f"ZAQAR_STORE_URI {uri!r}: write the absolute path after sqlite://, as in sqlite:///var/lib/zaqar.db"
            )
        return await SQLiteStorage.open(Path(unquote(parts.path)))
    if parts.scheme in ("mongodb", "mongodb+srv"):
        from zaqar_notify.storage.mongodb import MongoStorage

        return await MongoStorage.open(uri, unreliable=unreliable, prepare=prepare)
    raise StartRefused(
        f"ZAQAR_STORE_URI {shown(uri)!r} names no store that this release knows; "
        "use sqlite:///PATH or mongodb://HOSTS/?replicaSet=NAME"
    )
