"""`zaqar-notify config`: the values of the settings, their sources, and a list of all settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from zaqar_notify.cli.output import print_json, print_table
from zaqar_notify.settings import SECTIONS, load_settings, shown, sources, variable
from zaqar_notify.settings.pages import entries, example_file, markdown_page


def register(app: typer.Typer) -> None:
    app.command(cls=_WithSettings)(config)


class _WithSettings(TyperCommand):
    """Its `--help` ends with all settings, section by section."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        for section in SECTIONS:
            with formatter.section(f"Settings: {section.title}"):
                formatter.write_dl(
                    [
                        (each.name, f"{each.sentence} [default: {each.default or 'empty'}]")
                        for each in entries(section)
                    ]
                )


def config(
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
    example: Annotated[
        bool, typer.Option("--example", help="Print settings.example.env instead.")
    ] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print docs/settings.md instead.")
    ] = False,
    zaqar_conf: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="A zaqar.conf: print our settings for it instead, its secrets included, for a file.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Print the effective settings, each with its source; secrets are masked."""
    if zaqar_conf:
        # Imported late: no other command needs it.
        from zaqar_notify.operations.zaqar.conf import read_zaqar_conf
        from zaqar_notify.operations.zaqar.translation import translated

        print(translated(read_zaqar_conf(zaqar_conf)), end="")
    elif example:
        print(example_file(), end="")
    elif markdown:
        print(markdown_page(), end="")
    else:
        _print_effective(as_json)


def _print_effective(as_json: bool) -> None:
    settings = load_settings()
    rows = [
        (variable(name), shown(getattr(settings, name)), source)
        for name, source in sources().items()
    ]
    if as_json:
        print_json(
            [{"name": name, "value": value, "source": source} for name, value, source in rows]
        )
    else:
        print_table(["SETTING", "VALUE", "SOURCE"], rows)
