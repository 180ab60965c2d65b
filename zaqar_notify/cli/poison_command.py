"""`zaqar-notify poison …`: list, retry or drop the jobs that no worker could finish."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from msgspec.structs import astuple

from zaqar_notify.cli.administration import Data, perform
from zaqar_notify.cli.commands import REFUSED, Json, add_group
from zaqar_notify.cli.output import print_json, print_table
from zaqar_notify.delivery import poison
from zaqar_notify.models import Message
from zaqar_notify.operations.admin import Command, Site, Tell
from zaqar_notify.storage.base import MessageStore

HEADINGS = ("ID", "JOB", "PROJECT", "QUEUE", "SUBSCRIPTION_ID", "BYTES", "POSTED_AT")

Job = Annotated[str | None, typer.Option(help="Only the job with this id.", show_default=False)]


class Which(msgspec.Struct):
    """All jobs, or the one with this id."""

    job: str | None


class Found(msgspec.Struct):
    """The jobs, and whether the command could do its work on each."""

    jobs: list[poison.PutAside]
    is_done: bool = True


async def find(site: Site, which: Which, tell: Tell) -> Found:
    return Found([job async for _, job, _ in _put_aside(site, which, tell)])


async def give_back(site: Site, which: Which, tell: Tell) -> Found:
    found = Found([])
    async for store, job, message in _put_aside(site, which, tell):
        found.jobs.append(job)
        found.is_done &= await poison.give_back(
            store, job, message, settings=site.settings, now=site.clock.now()
        )
    return found


async def remove(site: Site, which: Which, tell: Tell) -> Found:
    found = Found([])
    async for store, job, message in _put_aside(site, which, tell):
        found.jobs.append(job)
        await poison.drop(store, message, now=site.clock.now())
    return found


async def _put_aside(
    site: Site, which: Which, tell: Tell
) -> AsyncIterator[tuple[MessageStore, poison.PutAside, Message]]:
    """The jobs of all pools that answer, each with its store."""
    for pool, reason in site.storage.pools.away.items():
        tell(f"Pool {pool} is left out: {reason}")
    for store in site.storage.pools.values():
        now = site.clock.now()
        async for job, message in poison.put_aside(store, job=which.job, now=now):
            yield store, job, message


def given_back(which: Which) -> dict[str, object]:
    """The facts for the audit."""
    return {"rule": "poison:retry", "job": which.job}


def removed(which: Which) -> dict[str, object]:
    """The facts for the audit."""
    return {"rule": "poison:drop", "job": which.job}


FIND = Command("poison list", Which, Found, find)
GIVE_BACK = Command("poison retry", Which, Found, give_back, given_back)
REMOVE = Command("poison drop", Which, Found, remove, removed)


def register(app: typer.Typer) -> None:
    about = "Jobs that workers claimed for ten minutes and none finished."
    add_group(app, "poison", about, (list_, retry, drop))


def list_(data: Data = None, job: Job = None, as_json: Json = False) -> None:
    """List the jobs, without bodies."""
    _do(FIND, job, data, as_json=as_json)


def retry(data: Data = None, job: Job = None, as_json: Json = False) -> None:
    """Return the jobs to the workers, and list them. Exit code 1 if a job can't be returned."""
    _do(GIVE_BACK, job, data, as_json=as_json)


def drop(data: Data = None, job: Job = None, as_json: Json = False) -> None:
    """Remove the jobs for good, and list them."""
    _do(REMOVE, job, data, as_json=as_json)


def _do(
    command: Command[Which, Found], job: str | None, data: Path | None, *, as_json: bool
) -> None:
    found = perform(command, Which(job), data)
    if as_json:
        print_json(found.jobs)
    elif found.jobs:
        rows = [[str(value) or "-" for value in astuple(what)] for what in found.jobs]
        print_table(HEADINGS, rows)
    if not found.is_done:
        raise typer.Exit(REFUSED)
