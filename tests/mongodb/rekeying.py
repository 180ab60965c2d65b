"""A process that changes keys: `python -m tests.mongodb.rekeying URI KEYS`, until it is killed."""

from __future__ import annotations

import asyncio
import sys

from zaqar_notify.settings import Settings
from zaqar_notify.storage.registry import open_storage
from zaqar_notify.storage.rekeying import rekey


async def main(uri: str, keys: str) -> None:
    storage = await open_storage(uri, keys=Settings(encryption_keys=keys).keyring)
    await rekey(storage.encrypted, storage.keys, progress=lambda done: print(done, flush=True))
    print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
