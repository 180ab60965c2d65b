"""The text that a started service prints: commands that can be pasted into a shell as they stand."""

from __future__ import annotations

import secrets
import shutil
import sys
from collections.abc import Collection, Iterable
from pathlib import Path
from shlex import quote

from zaqar_notify.settings.delivery import MailSettings

PROGRAM = "zaqar-notify"
PROJECT = "demo"
KINDS = {"token": "a token of this service", "keystone": "a token of Keystone"}
KEYSTONE_TOKEN = "openstack token issue -f value -c id"  # noqa: S105
"""A command of the client of OpenStack."""


def program() -> str:
    """How to call this program in a shell: its name where that leads to this installation, else its path."""
    found, ours = shutil.which(PROGRAM), Path(sys.executable).with_name(PROGRAM)
    if not ours.exists():
        return PROGRAM if found else f"{quote(sys.executable)} -m zaqar_notify"
    return PROGRAM if found and ours.samefile(found) else quote(str(ours))


def client(url: str, ca_file: str = "") -> str:
    """The beginning of a command that calls the service at `url`, for the project of these examples."""
    trusting = f" --ca-file {quote(ca_file)}" if ca_file else ""
    return f"{program()} --url {quote(url)}{trusting} --project {PROJECT}"


def some_token(kinds: Collection[str], data: Path | None = None) -> str:
    """The command that prints a token of one of these kinds."""
    return make_token(data) if "token" in kinds else KEYSTONE_TOKEN


def make_token(data: Path | None = None) -> str:
    """The command that makes a token for the project of these examples."""
    where = "" if data is None else f" --data {quote(str(data.resolve()))}"
    return f"{program()} token create --project {PROJECT}{where}"


def needs_token_of(kinds: Iterable[str]) -> str:
    """The sentence about the tokens that `ZAQAR_AUTH` asks for, without its full stop."""
    return f"Requests need {' or '.join(KINDS[kind] for kind in kinds)}"


def mail_is_off(settings: MailSettings) -> list[str]:
    """The line that says how mails are switched on; none if they are on."""
    if settings.smtp_host or settings.sendmail_command:
        return []
    return [
        "Mail is off: ZAQAR_SMTP_HOST and ZAQAR_SMTP_SENDER name a relay and a sender; ZAQAR_PUBLIC_URL is for\n"
        "the links in mails."
    ]


def things_to_try(url: str, ca_file: str = "", *, needs_token: bool = False) -> str:
    """A post, a page and a follower of one queue, in one project.

    Args:
        ca_file: A certificate that the commands trust instead of the system's; empty: none.
        needs_token: The commands send the token in `ZAQAR_TOKEN`.
    """
    curl = f"curl --cacert {quote(ca_file)} -i" if ca_file else "curl -i"
    messages = f"{url}/v2/queues/hello/messages"
    headers = f"-H 'Client-ID: {secrets.token_hex(16)}' -H 'X-Project-ID: {PROJECT}'"
    if needs_token:
        headers += ' -H "Authorization: Bearer $ZAQAR_TOKEN"'
    return f"""\
  {curl} {quote(messages)} {headers} \\
       -H 'Content-Type: application/json' -d '{{"messages": [{{"body": "hi"}}]}}'
  {curl} {quote(f"{messages}?echo=true")} {headers}
  {client(url, ca_file)} tail hello --from-start"""
