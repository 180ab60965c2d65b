"""Runs commands of `openstack` in one process: each alone would need seconds to load its libraries.

`python openstack_calls.py` reads a command a line, a JSON array of words, and answers with a line: a JSON array of what the command printed and of
its exit code. The account is in OS_*.
"""

from __future__ import annotations

import io
import json
import sys
from contextlib import redirect_stdout

from openstackclient.shell import OpenStackShell

answers = sys.stdout


class Shell(OpenStackShell):  # type: ignore[misc, unused-ignore]
    def interact(self) -> None:
        """Instead of asking a person."""
        for line in sys.stdin:
            printed = io.StringIO()
            self.stdout = printed
            with redirect_stdout(printed):
                code = self.run_subcommand(json.loads(line))
            print(json.dumps([printed.getvalue(), code]), file=answers, flush=True)


sys.exit(Shell().run([]))
