"""`zaqar-notify import`: copies queues and subscriptions of a Zaqar into our store."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from zaqar_notify.cli.administration import Data, perform
from zaqar_notify.cli.commands import REFUSED, Json
from zaqar_notify.cli.output import Progress, print_json, printable
from zaqar_notify.operations.admin import Command, Site, Tell
from zaqar_notify.operations.zaqar.importing.addresses import Addresses, addresses_of
from zaqar_notify.operations.zaqar.importing.report import Report


class Wish(msgspec.Struct):
    """Asks for an import; with `is_dry` only for its report."""

    addresses: Addresses
    is_dry: bool


async def take_over(site: Site, wish: Wish, tell: Tell) -> Report:
    """Copy what Zaqar's databases have."""
    from sinks.registry import load_kinds
    from zaqar_notify.operations.zaqar.importing.copying import copied

    progress = Progress("{} queues and subscriptions seen so far …", tell)
    kinds = load_kinds(site.settings)
    return await copied(site, kinds, wish.addresses, is_dry=wish.is_dry, progress=progress)


def _audited(wish: Wish) -> dict[str, object]:
    return {"rule": "import", "dry_run": wish.is_dry}


IMPORT = Command("import", Wish, Report, take_over, _audited)


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
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write nothing, and report what would be imported.")
    ] = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Copy queues with their metadata, and subscriptions, from the databases of a Zaqar 23.

    Nothing that is here is replaced. Zaqar and the service may run meanwhile. If it is interrupted, run it again.
    Exit code 1 if something was left out, or differs from what is here.
    """
    report = perform(IMPORT, Wish(addresses_of(source), dry_run), data)
    if as_json:
        print_json(report)
    else:
        print("\n".join(map(printable, report.lines())))
    if not report.is_complete:
        raise typer.Exit(REFUSED)
