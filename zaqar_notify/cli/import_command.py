"""`zaqar-notify import`: copies what a Zaqar has into our store."""

from __future__ import annotations

from typing import Annotated

import typer

from zaqar_notify.cli.administration import Data, perform
from zaqar_notify.cli.commands import REFUSED, Json
from zaqar_notify.cli.output import Progress, print_json, printable
from zaqar_notify.errors import StartRefused
from zaqar_notify.operations.admin import Command, Site, Tell
from zaqar_notify.operations.zaqar.importing.addresses import addresses_of
from zaqar_notify.operations.zaqar.importing.report import Report
from zaqar_notify.operations.zaqar.importing.wish import Api, Wish


async def take_over(site: Site, wish: Wish, tell: Tell) -> Report:
    """Copy what a Zaqar has."""
    # Imported late, as the drivers of stores are.
    from sinks.registry import load_kinds
    from zaqar_notify.operations.zaqar.importing.copying import copied

    kinds = load_kinds(site.settings)
    return await copied(site, kinds, wish, lambda sentence: Progress(sentence, tell))


def audited(wish: Wish) -> dict[str, object]:
    """The facts for the audit."""
    return {
        "rule": "import",
        "project": wish.only_project,
        "dry_run": wish.is_dry,
        "replace": wish.replaces,
    }


IMPORT = Command("import", Wish, Report, take_over, audited)


def register(app: typer.Typer) -> None:
    app.command("import")(import_)


def import_(
    source: Annotated[
        str,
        typer.Option(
            "--from",
            help="The zaqar.conf of the Zaqar, or the URI of its database as there: mongodb://… or redis://…",
            show_default=False,
        ),
    ],
    messages: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Copy messages, too; the URL is that of Zaqar's API, as in http://HOST:8888.",
            show_default=False,
        ),
    ] = None,
    token: Annotated[
        str,
        typer.Option(
            envvar="OS_TOKEN",
            help="Keystone's token for Zaqar's API; with it, --only-project names the token's project.",
            show_default=False,
        ),
    ] = "",
    only_project: Annotated[
        str | None, typer.Option(help="Only what this project has.", show_default=False)
    ] = None,
    rate: Annotated[
        int, typer.Option(min=1, help="Most messages a second, to spare Zaqar and the store.")
    ] = 1000,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="Queues' metadata and subscriptions that differ here become as they are in Zaqar.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write nothing, and report what would be imported.")
    ] = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Copy pools, flavors, queues with their metadata, subscriptions and messages of a Zaqar 23.

    All but messages come from Zaqar's databases. Nothing that is here is replaced without --replace. Zaqar and the service may
    run meanwhile. If it is interrupted, run it again. Exit code 1 if something was left out, or differs from
    what is here.
    """
    if messages and token and only_project is None:
        raise StartRefused(
            "A token shows one project's messages: name the project by --only-project"
        )
    api = Api(messages, token) if messages else None
    wish = Wish(addresses_of(source), api, only_project, rate, dry_run, replace)
    report = perform(IMPORT, wish, data)
    if as_json:
        print_json(report)
    else:
        print("\n".join(map(printable, report.lines())))
    if not report.is_complete:
        raise typer.Exit(REFUSED)
