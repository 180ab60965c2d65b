"""`zaqar-notify restored`: the last step after a cluster's store was restored from a backup."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import typer

from zaqar_notify.cli.output import Progress
from zaqar_notify.errors import StartRefused
from zaqar_notify.settings import Settings, load_settings

if TYPE_CHECKING:
    from zaqar_notify.storage.restoring import Restored


def register(app: typer.Typer) -> None:
    app.command()(restored)


def restored() -> None:
    """Go on after a restore of the store of ZAQAR_STORE_URI; run it before you start the processes again.

    New messages then have new ids and come after all markers that clients have. If records and
    subscriptions are of another state than the messages, both agree again. It does no harm twice, nor
    beside the service; if it is interrupted, run it again. `up` does not need it.
    """
    settings = load_settings()
    if not settings.store_uri:
        raise StartRefused(
            "ZAQAR_STORE_URI is not set: name the store. The directory of `up` needs only a start"
        )
    # Imported late, because drivers take a while to import.
    from zaqar_notify.storage.restoring import told

    done = asyncio.run(_run(settings))
    print(f"{done.ahead} queues go on behind all ids that they gave out before.")
    mended = f"mended: {told(done.mended)}" if done.mended else "all fit"
    print(f"{done.compared} queues were compared with records and subscriptions; {mended}.")


async def _run(settings: Settings) -> Restored:
    from zaqar_notify.storage.registry import open_storage_of

    storage = await open_storage_of(settings)
    try:
        return await storage.restored(
            now=storage.clock.now(), progress=Progress("{} queues compared so far …")
        )
    finally:
        await storage.close()
