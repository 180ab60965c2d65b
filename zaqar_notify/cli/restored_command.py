"""`zaqar-notify restored`: the last step after a cluster's store was restored from a backup."""

from __future__ import annotations

import asyncio

import typer

from zaqar_notify.errors import StartRefused
from zaqar_notify.settings import Settings, load_settings


def register(app: typer.Typer) -> None:
    app.command()(restored)


def restored() -> None:
    """Mark the store of ZAQAR_STORE_URI as restored; run it before you start the processes again.

    New messages then have new ids and come after all markers that clients have.
    Running it twice does no harm. `up` does not need it.
    """
    settings = load_settings()
    if not settings.store_uri:
        raise StartRefused(
            "ZAQAR_STORE_URI is not set: name the store. The directory of `up` needs only a start"
        )
    count = asyncio.run(_run(settings))
    print(f"{count} queues go on behind all ids that they gave out before.")


async def _run(settings: Settings) -> int:
    # Imported late, because drivers take a while to import.
    from zaqar_notify.storage.registry import open_storage

    storage = await open_storage(settings.store_uri, unreliable=settings.unreliable)
    try:
        return await storage.restored()
    finally:
        await storage.close()
