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
MessageId = Annotated[str, typer.Argument(show_default=False, help="Id of the message.")]
SubscriptionId = Annotated[
    str, typer.Argument(show_default=False, help="As `subscription list` shows it.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        metavar="KEY=JSON",
        help="An option of the subscription; may be given several times.",
    ),
]
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


class DefaultGroup(TyperGroup):
    """`NOUN VERB …`, where another word than a verb stands for the first verb: `claim QUEUE` is `claim create QUEUE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        verbs = self.list_commands(ctx)
        if args and args[0] not in (*verbs, "--help"):
            args = [verbs[0], *args]
        return super().parse_args(ctx, args)


def add_group(
    app: typer.Typer,
    noun: str,
    about: str,
    commands: Sequence[Callable[..., None]],
    *,
    cls: type[TyperGroup] = TyperGroup,
) -> None:
    """`zaqar-notify NOUN VERB`: a command for each function, which is named for the verb."""
    group = typer.Typer(cls=cls, no_args_is_help=True, rich_markup_mode=None, help=about)
    for command in commands:
        group.command(command.__name__.removesuffix("_"))(command)
    app.add_typer(group, name=noun)


def confirm(question: str, *, yes: bool) -> None:
    """Ask a person before something is lost. Programs say --yes.

    Raises:
        typer.Abort: The answer is no, or there is nobody to ask.
    """
    if not yes:
        typer.confirm(question, abort=True, err=True)


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
