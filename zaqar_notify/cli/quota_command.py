"""`zaqar-notify quota …`: show or change the quotas of a project."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from zaqar_notify.cli.administration import Data, perform
from zaqar_notify.cli.commands import Json, add_group
from zaqar_notify.cli.output import print_json, print_table
from zaqar_notify.operations.admin import Command, Site, Tell
from zaqar_notify.quotas import ShownQuota, change, count_all, defaults_of, report
from zaqar_notify.rules.quotas import read_words

HEADINGS = ("QUOTA", "LIMIT", "DEFAULT", "USED")

Project = Annotated[str, typer.Argument(show_default=False, help="Name of the project.")]
Words = Annotated[
    list[str],
    typer.Argument(
        metavar="NAME=VALUE...",
        show_default=False,
        help="Quotas and their values; 0: no limit, default: the value of the settings.",
    ),
]


class Which(msgspec.Struct):
    """The project whose quotas are shown."""

    project: str


class Wanted(Which):
    """The project, and words NAME=VALUE for the quotas that are to change."""

    words: list[str]


async def find(site: Site, which: Which, tell: Tell) -> list[ShownQuota]:
    used = await count_all(site.storage, which.project, now=site.clock.now())
    defaults = defaults_of(site.settings)
    return list(await report(site.storage, defaults, which.project, used=used))


async def put(site: Site, wanted: Wanted, tell: Tell) -> list[ShownQuota]:
    """Change the quotas that the words name, and return all."""
    await change(site.storage, wanted.project, read_words(wanted.words))
    return await find(site, wanted, tell)


def changed(wanted: Wanted) -> dict[str, object]:
    """The facts for the audit."""
    return {"rule": "quotas:update", "project": wanted.project, "values": " ".join(wanted.words)}


FIND = Command("quota show", Which, list[ShownQuota], find)
PUT = Command("quota set", Wanted, list[ShownQuota], put, changed)


def register(app: typer.Typer) -> None:
    about = "Limits of a project: queues, subscriptions, bytes, rates."
    add_group(app, "quota", about, (show, set_))


def show(project: Project, data: Data = None, as_json: Json = False) -> None:
    """Show the quotas of a project."""
    _print(perform(FIND, Which(project), data), as_json=as_json)


def set_(project: Project, words: Words, data: Data = None, as_json: Json = False) -> None:
    """Give a project values of its own, and show its quotas. Every process keeps to them within 5 seconds."""
    _print(perform(PUT, Wanted(project, words), data), as_json=as_json)


def _print(found: list[ShownQuota], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    rows = [
        (
            each.name,
            each.limit or "none",
            "yes" if each.is_default else "no",
            "-" if each.used is None else each.used,
        )
        for each in found
    ]
    print_table(HEADINGS, rows)
