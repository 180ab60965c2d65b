"""Mail through a sendmail command, a process of its own for each mail."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
from contextlib import suppress

from sinks.carrier import Carrier, Trouble
from sinks.letter import Letter
from zaqar_notify.models import Outcome, Verdict
from zaqar_notify.settings import PREFIX

COMMAND_SECONDS = 600.0
"""Time for one command: it may hand the mail on by itself, to a relay that takes its time."""

_ABOUT_THE_MAIL = frozenset({os.EX_DATAERR, os.EX_NOUSER, os.EX_NOHOST})
_ABOUT_THE_COMMAND = frozenset(
    {
        os.EX_USAGE,
        os.EX_UNAVAILABLE,
        os.EX_SOFTWARE,
        os.EX_OSERR,
        os.EX_OSFILE,
        os.EX_CANTCREAT,
        os.EX_IOERR,
        os.EX_TEMPFAIL,
        os.EX_PROTOCOL,
        os.EX_NOPERM,
        os.EX_CONFIG,
        126,  # It can't be run, says a shell,
        127,  # or isn't there.
    }
)


class SendmailCarrier(Carrier):
    """Pipes mails into the operator's command, without a shell. The recipient is the last argument and can't be
    taken for an option.

    Args:
        seconds: For one command.
    """

    def __init__(self, command: str, *, seconds: float = COMMAND_SECONDS) -> None:
        # With -t a command would read recipients from headers.
        self._command = [word for word in shlex.split(command) if word != "-t"]
        self._seconds = seconds

    async def hand_over(self, letter: Letter) -> Outcome:
        sender = ["-f", letter.sender] if letter.sender else []
        command = await self._start([*self._command, *sender, "--", letter.recipient])
        try:
            async with asyncio.timeout(self._seconds):
                # uvloop's error when the command ends before it has read the mail; its code says more.
                with suppress(RuntimeError):
                    await command.communicate(letter.text("\n"))
                return _outcome(await command.wait())
        except TimeoutError:
            detail = f"the sendmail command did not end within {self._seconds:g} s"
            return Outcome(Verdict.TRY_LATER, detail=detail)
        finally:
            if command.returncode is None:
                # The whole session: a command may be a script that waits for another one.
                with suppress(ProcessLookupError):
                    os.killpg(command.pid, signal.SIGKILL)
                await command.wait()

    async def _start(self, words: list[str]) -> asyncio.subprocess.Process:
        try:
            return await asyncio.create_subprocess_exec(
                *words,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env=_environment(),
                start_new_session=True,
            )
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else type(error).__name__
            raise Trouble(f"the sendmail command can't be run: {reason}") from error


def _outcome(code: int) -> Outcome:
    detail = f"the sendmail command ended with {code}"
    if code == os.EX_OK:
        return Outcome(Verdict.DELIVERED)
    if code in _ABOUT_THE_COMMAND:
        raise Trouble(detail)
    if code in _ABOUT_THE_MAIL:
        return Outcome(Verdict.REFUSED, detail=detail)
    return Outcome(Verdict.TRY_LATER, detail=detail)


def _environment() -> dict[str, str]:
    """Ours without our settings, some of which are secrets."""
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
