"""Code that all commands share: the address of the service, and the end of a command by an error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from zaqar_notify.cli.output import printable
from zaqar_notify.client import (
    PAUSES_SECONDS,
    BadRequest,
    Client,
    ClientError,
    ServiceUnreachable,
    Unauthorized,
)
from zaqar_notify.errors import NotifyError, StartRefused, StorageUnavailable
from zaqar_notify.models import undisclosed

REFUSED = 1
UNREACHABLE = 3

PROJECT_MISSING = "Project-Id Missing"
"""Zaqar's title of the answer to a request that names no project."""

Queue = Annotated[str, typer.Argument(show_default=False, help="Name of the queue.")]
Json = Annotated[bool, typer.Option("--json", help="JSON for programs instead of a table.")]


@dataclass(frozen=True)
class ServiceAddress:
    """The options before the command; `Client` takes the same."""

    url: str
    project: str | None
    token: str | None
    client_id: str | None
    ca_file: str | None

    __repr__ = undisclosed


class Commands(TyperGroup):
    """Turns expected errors into one sentence and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ServiceUnreachable as error:
            _end(error, UNREACHABLE)
        except (ClientError, StartRefused) as error:
            _end(error, REFUSED)
        except StorageUnavailable as error:
            _end(StartRefused(f"The store is unavailable: {error}"), REFUSED)
        except NotifyError as error:
            _end(error, REFUSED)


def add_group(
    app: typer.Typer, noun: str, about: str, commands: Sequence[Callable[..., None]]
) -> None:
    """`zaqar-notify NOUN VERB`: a command for each function, which is named for the verb."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=about)
    for command in commands:
        group.command(command.__name__.removesuffix("_"))(command)
    app.add_typer(group, name=noun)


def open_client(
    context: typer.Context, *, pauses_seconds: Sequence[float] = PAUSES_SECONDS
) -> Client:
    address: ServiceAddress = context.obj
    return Client(
        address.url,
        address.project,
        address.client_id,
        ca_file=address.ca_file,
        token=address.token,
        pauses_seconds=pauses_seconds,
        on_warning=lambda sentence: print(f"Warning: {printable(sentence)}", file=sys.stderr),
    )


def _remedy(error: Exception) -> str | None:
    """The options of a command that the service's sentence can't know."""
    if isinstance(error, Unauthorized):
        return "Set ZAQAR_TOKEN. `zaqar-notify token create` makes a token where the store is."
    if isinstance(error, BadRequest) and error.title == PROJECT_MISSING:
        return "Set ZAQAR_PROJECT, or say --project: an operator's token reaches every project."
    return None


def _end(error: Exception, exit_code: int) -> NoReturn:
    print(error, file=sys.stderr)
    if remedy := _remedy(error):
        print(remedy, file=sys.stderr)
    raise typer.Exit(exit_code) from error
