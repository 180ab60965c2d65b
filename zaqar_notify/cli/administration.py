"""Commands that work on a store: in the `up` that serves it, else on the store itself."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from zaqar_notify.cli.output import tell
from zaqar_notify.errors import StartRefused
from zaqar_notify.operations import logs
from zaqar_notify.operations.admin import Command, Given, Result, ask, run_on_store
from zaqar_notify.operations.single import DATABASE, single_process
from zaqar_notify.settings import Settings, load_settings

USUAL = (Path("data"), Path())
"""Directories that are looked at where neither --data nor ZAQAR_STORE_URI names a store."""

Data = Annotated[
    Path | None,
    typer.Option(
        help="Data directory of `up`, which may run; without it, the store of ZAQAR_STORE_URI, "
        "else ./data.",
        show_default=False,
    ),
]


def perform(command: Command[Given, Result], given: Given, data: Path | None) -> Result:
    """The result of the command, for the store that the operator means.

    Raises:
        StartRefused: There is no such store, or the command refuses.
        NotifyError: The store is away, or the command refuses.
    """
    settings = load_settings()
    if settings.audit:
        logs.configure(settings.log_level, settings.log_format)
    directory = directory_of(data, settings)
    if directory is None:
        return asyncio.run(run_on_store(settings, command, given, tell))
    answer = ask(directory, command, given, tell)
    if answer is not None:
        return answer
    path = directory / DATABASE
    if not settings.store_uri and not path.exists():
        where = f"There is no {DATABASE} in {directory}"
        if data is None:
            where = f"ZAQAR_STORE_URI is not set, and there is no {path}"
        raise StartRefused(f"{where}: name the store, or say --data DIR")
    settings = single_process(settings, directory)
    return asyncio.run(run_on_store(settings, command, given, tell))


def directory_of(data: Path | None, settings: Settings) -> Path | None:
    """The data directory that the operator means; None: the store of a cluster."""
    if data is not None:
        return data
    if settings.store_uri:
        return None
    return next((path for path in USUAL if (path / DATABASE).exists()), USUAL[0])
