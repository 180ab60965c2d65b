"""`zaqar-notify poison …`: list, retry or drop the jobs that no worker could finish."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import typer
from msgspec.structs import astuple

from zaqar_notify.cli.administration import Data, perform
from zaqar_notify.cli.commands import REFUSED, Json, add_group
from zaqar_notify.cli.output import print_json, print_table
from zaqar_notify.delivery import poison
from zaqar_notify.operations.admin import Command, Site, Tell

HEADINGS = ("ID", "JOB", "PROJECT", "QUEUE", "SUBSCRIPTION_ID", "BYTES", "POSTED_AT")

Job = Annotated[str | None, typer.Option(help="Only the job with this id.", show_default=False)]


class Wish(msgspec.Struct):
    """All jobs or the one with this id, and what to do with them."""

    verb: Literal["list", "retry", "drop"]
    job: str | None = None


class Found(msgspec.Struct):
    """The jobs, and whether all was done with them that was wished."""

    jobs: list[poison.PutAside]
    is_done: bool


async def tend(site: Site, wish: Wish, tell: Tell) -> Found:
    """List the jobs, and return or remove them if so wished."""
    found = Found([], is_done=True)
    for store in site.storage.pools.values():
        now = site.clock.now()
        async for what, message in poison.put_aside(store, job=wish.job, now=now):
            found.jobs.append(what)
            if wish.verb == "drop":
                await poison.drop(store, message, now=site.clock.now())
            elif wish.verb == "retry":
                found.is_done &= await poison.give_back(
                    store, what, message, settings=site.settings, now=site.clock.now()
                )
    return found


def audited(wish: Wish) -> dict[str, object] | None:
    if wish.verb == "list":
        return None
    return {"rule": f"poison:{wish.verb}", "job": wish.job}


TEND = Command("poison", Wish, Found, tend, audited)


def register(app: typer.Typer) -> None:
    about = "Jobs that workers claimed for ten minutes and none finished."
    add_group(app, "poison", about, (list_, retry, drop))


def list_(data: Data = None, job: Job = None, as_json: Json = False) -> None:
    """List the jobs, without bodies."""
    _do(Wish("list", job), data, as_json=as_json)


def retry(data: Data = None, job: Job = None, as_json: Json = False) -> None:
    """Return the jobs to the workers, and list them. Exit code 1 if a job can't be returned."""
    _do(Wish("retry", job), data, as_json=as_json)


def drop(data: Data = None, job: Job = None, as_json: Json = False) -> None:
    """Remove the jobs for good, and list them."""
    _do(Wish("drop", job), data, as_json=as_json)


def _do(wish: Wish, data: Data, *, as_json: bool) -> None:
    found = perform(TEND, wish, data)
    if as_json:
        print_json(found.jobs)
    elif found.jobs:
        rows = [[str(value) or "-" for value in astuple(what)] for what in found.jobs]
        print_table(HEADINGS, rows)
    if not found.is_done:
        raise typer.Exit(REFUSED)
