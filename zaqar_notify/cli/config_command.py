"""`zaqar-notify config`: what the settings are, where they come from, and what there is to set."""

from __future__ import annotations

from typing import Annotated

import typer

from zaqar_notify.cli.output import print_json, print_table
from zaqar_notify.settings import Settings, load_settings, shown, sources, variable


def register(app: typer.Typer) -> None:
    app.command()(config)


def config(
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
    example: Annotated[
        bool, typer.Option("--example", help="Print settings.example.env instead.")
    ] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print docs/settings.md instead.")
    ] = False,
) -> None:
    """Print the effective settings, each with its source; secrets are masked."""
    if example:
        print(example_file(), end="")
    elif markdown:
        print(markdown_page(), end="")
    else:
        _print_effective(as_json)


def example_file() -> str:
    """The content of settings.example.env: each setting with its sentence and its default."""
    lines = [
        "# Every setting with its default. Use it as the file that ZAQAR_CONFIG_FILE names, or set",
        "# the same names in the environment, which wins.",
    ]
    for name, default in _defaults().items():
        lines += ["", f"# {Settings.model_fields[name].description}"]
        lines += [f"# {variable(name)}={default}"]
    return "\n".join(lines) + "\n"


def markdown_page() -> str:
    """The content of docs/settings.md."""
    lines = [
        "# Settings",
        "",
        "Each is read from the environment, or from the file that `ZAQAR_CONFIG_FILE` names (lines of",
        "`NAME=value`, the same names); the environment wins. A wrong value, an unknown name and a file",
        "that can't be read stop the start with a sentence. `zaqar-notify config` prints what is in",
        "effect and where it comes from. This page is the output of `zaqar-notify config --markdown`.",
        "",
        "| setting | default | what it is |",
        "|---|---|---|",
    ]
    for name, default in _defaults().items():
        shown_default = f"`{default}`" if default else "empty"
        description = (Settings.model_fields[name].description or "").replace("|", "\\|")
        lines.append(f"| `{variable(name)}` | {shown_default} | {description} |")
    lines += [
        "",
        "The commands that call a service (`post`, `tail`, `claim`, …) read `ZAQAR_URL`, `ZAQAR_PROJECT`",
        "and `ZAQAR_CLIENT_ID` from the environment, in place of their options; `receive` reads",
        "`ZAQAR_RECEIVE_SECRET`.",
    ]
    return "\n".join(lines) + "\n"


def _defaults() -> dict[str, str]:
    settings = Settings()
    return {name: shown(getattr(settings, name)) for name in Settings.model_fields}


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
