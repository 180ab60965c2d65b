"""`zaqar-notify poison …`: list, retry or drop the jobs that no worker could finish."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from msgspec.structs import astuple

from zaqar_notify.cli.commands import REFUSED, Json, add_group
from zaqar_notify.cli.output import print_json, print_table
from zaqar_notify.errors import StartRefused
from zaqar_notify.operations.single import DATABASE
from zaqar_notify.settings import Settings, load_settings

HEADINGS = ("ID", "JOB", "PROJECT", "QUEUE", "SUBSCRIPTION_ID", "BYTES", "POSTED_AT")


Data = Annotated[
    Path | None,
    typer.Option(
        help="Data directory of `up`, which must be stopped; without it, the "
        "store of ZAQAR_STORE_URI.",
        show_default=False,
    ),
]
Job = Annotated[str | None, typer.Option(help="Only the job with this id.", show_default=False)]


def register(app: typer.Typer) -> None:
    about = "Jobs that workers claimed for ten minutes and none finished."
    add_group(app, "poison", about, (list_, retry, drop))


def list_(data: Data = None, job: Job = None, as_json: Json = False) -> None:
    """List the jobs, without bodies."""
    _do(data, job, as_json=as_json)


def retry(data: Data = None, job: Job = None, as_json: Json = False) -> None:
    """Return the jobs to the workers, and list them. Exit code 1 if a job can't be returned."""
    _do(data, job, retry=True, as_json=as_json)


def drop(data: Data = None, job: Job = None, as_json: Json = False) -> None:
    """Remove the jobs for good, and list them."""
    _do(data, job, drop=True, as_json=as_json)


def _do(
    data: Path | None, job: str | None, *, as_json: bool, retry: bool = False, drop: bool = False
) -> None:
    settings = load_settings()
    uri = settings.store_uri if data is None else f"sqlite://{(data / DATABASE).resolve()}"
    if not uri:
        raise StartRefused("ZAQAR_STORE_URI is not set: name the store, or say --data DIR")
    if data is not None and not (data / DATABASE).exists():
        raise StartRefused(f"There is no {DATABASE} in {data}")
    if not asyncio.run(_run(settings, uri, job, retry=retry, drop=drop, as_json=as_json)):
        raise typer.Exit(REFUSED)


async def _run(
    settings: Settings, uri: str, job: str | None, *, retry: bool, drop: bool, as_json: bool
) -> bool:
    # Imported late, because drivers take a while to import.
    from zaqar_notify.delivery import poison
    from zaqar_notify.storage.clock import store_clock
    from zaqar_notify.storage.registry import open_storage

    storage = await open_storage(uri, unreliable=settings.unreliable)
    is_done = True
    found = []
    try:
        async with store_clock(storage) as clock:
            for store in storage.pools.values():
                async for what, message in poison.put_aside(store, job=job, now=clock.now()):
                    found.append(what)
                    if drop:
                        await poison.drop(store, message, now=clock.now())
                    elif retry:
                        is_done &= await poison.give_back(
                            store, what, message, settings=settings, now=clock.now()
                        )
    finally:
        await storage.close()
    if as_json:
        print_json(found)
    elif found:
        rows = [[str(value) or "-" for value in astuple(what)] for what in found]
        print_table(HEADINGS, rows)
    return is_done
