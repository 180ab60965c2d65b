"""The text that `make cluster` prints when it has started."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from deploy.processes import Process
from zaqar_notify.cli.welcome import client, program, things_to_try


def welcome(
    *,
    url: str,
    processes: Sequence[Process],
    addresses: dict[str, str],
    settings_file: Path,
    until: str,
) -> str:
    """The addresses and commands to look at the cluster, use it and break it.

    Args:
        addresses: Other addresses that it listens on, by their role.
        settings_file: The settings of its processes.
        until: When it stops.
    """
    rows = "\n".join(
        f"  {process.name:<10} {process.pid:>7}  {process.log}  {process.describes}".rstrip()
        for process in processes
    )
    listening = "\n".join(f"  {name:<10} {address}" for name, address in addresses.items())
    settings = f"ZAQAR_CONFIG_FILE={quote(str(settings_file.resolve()))}"
    return f"""zaqar-notify serves {url} (API: {url}/docs) from a cluster on this machine

  process        pid  log
{rows}

{listening}

Not for production: every caller is believed, all processes are on one machine, and deliveries
may reach loopback addresses.

Try:
{things_to_try(url)}
  {program()} receive --port 9999
  {client(url)} subscribe hello http://127.0.0.1:9999/
  {client(url)} post hello '"hi again"'
tail and receive run until Ctrl-C: give each a terminal.

Check it:
  {settings} {program()} doctor

Kill any process (kill -9 PID): the others go on, and it is started again.
It stops {until}; the next start finds the data in {settings_file.parent}."""
