"""The `zaqar-notify` command.

Commands that call a service start at once: only commands that serve import the server.
"""

from __future__ import annotations

from typing import Annotated

import typer

from zaqar_notify import __version__
from zaqar_notify.cli import (
    claim_commands,
    client_commands,
    config_command,
    delivery_commands,
    doctor_command,
    flavor_command,
    import_command,
    message_commands,
    move_command,
    poison_command,
    policy_command,
    pool_command,
    queue_commands,
    quota_command,
    rekey_command,
    replay_commands,
    restored_command,
    server_commands,
    share_command,
    subscription_commands,
    suppression_commands,
    token_command,
    why_command,
)
from zaqar_notify.cli.commands import Commands, ServiceAddress
from zaqar_notify.client import DEFAULT_URL

__all__ = ["app", "main"]

app = typer.Typer(
    cls=Commands,
    name="zaqar-notify",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
server_commands.register(app)
client_commands.register(app)
claim_commands.register(app)
message_commands.register(app)
queue_commands.register(app)
share_command.register(app)
subscription_commands.register(app)
suppression_commands.register(app)
delivery_commands.register(app)
replay_commands.register(app)
why_command.register(app)
config_command.register(app)
doctor_command.register(app)
flavor_command.register(app)
import_command.register(app)
move_command.register(app)
poison_command.register(app)
policy_command.register(app)
pool_command.register(app)
quota_command.register(app)
rekey_command.register(app)
restored_command.register(app)
token_command.register(app)


def main() -> None:
    """Run the command line of this process, and exit."""
    app(prog_name="zaqar-notify")


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        print(f"zaqar-notify {__version__}")
        raise typer.Exit


@app.callback()
def address(
    context: typer.Context,
    url: Annotated[
        str, typer.Option(envvar="ZAQAR_URL", help="Address of the service.")
    ] = DEFAULT_URL,
    project: Annotated[
        str | None,
        typer.Option(
            envvar="ZAQAR_PROJECT",
            help="Project that owns the queues; by default the token's, or `default` without a token.",
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="ZAQAR_TOKEN",
            help="Token, where the service asks for one; the variable keeps it out of the list of processes.",
        ),
    ] = None,
    client_id: Annotated[
        str | None,
        typer.Option(
            envvar="ZAQAR_CLIENT_ID", help="UUID of this client; a random one by default."
        ),
    ] = None,
    ca_file: Annotated[
        str | None,
        typer.Option(
            envvar="ZAQAR_CA_FILE",
            help="PEM file of the CA that signed the service's certificate; by default those that requests trusts.",
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Messaging and notification with the Zaqar API.

    Everyday commands are one verb: post, tail, claim, subscribe. All others are a noun and a verb:
    queue list, subscription delete, poison retry.

    Exit codes: 0 done (also if no message could be claimed), 1 refused by the service or unable to
    start, 2 the command is not understood, 3 the service can't be reached, 130 interrupted.
    """
    context.obj = ServiceAddress(
        url=url, project=project, token=token, client_id=client_id, ca_file=ca_file
    )
