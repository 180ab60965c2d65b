"""Mail through a sendmail command: a real process for each mail."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from sinks.email import EmailSink
from sinks.sendmail import SendmailCarrier
from tests.sinks.builders import PAYLOAD, delivery_to
from tests.sinks.test_queue import RecordingRelay
from zaqar_notify.models import Outcome, Verdict
from zaqar_notify.settings import Settings


async def test_the_mail_is_piped_to_the_command(tmp_path: Path) -> None:
    command = script(tmp_path, 'cat > "$1"')

    outcome = await mailer(f"{command} '{tmp_path}/a mail'").deliver(
        delivery_to("mailto:you@example.org", options={"from": "me@example.com"})
    )

    mail = (tmp_path / "a mail").read_text()
    assert outcome == Outcome(Verdict.DELIVERED)
    assert "\nTo: you@example.org\n" in mail
    assert "Reply-To: me@example.com\n" in mail
    assert mail.endswith(PAYLOAD.decode() + "\n")


async def test_the_command_is_run_by_no_shell(tmp_path: Path) -> None:
    command = script(tmp_path, f'cat > /dev/null; echo "$@" > {tmp_path}/arguments')

    await mailer(f"{command} -t $HOME ; touch {tmp_path}/touched").deliver(
        delivery_to("mailto:a@b")
    )

    arguments = (tmp_path / "arguments").read_text()
    assert arguments.startswith(f"$HOME ; touch {tmp_path}/touched ")
    assert not (tmp_path / "touched").exists()


async def test_the_recipient_is_an_argument_and_not_read_from_headers(tmp_path: Path) -> None:
    """Zaqar's own command has -t: an address that is smuggled into a header would get the mail, too."""
    command = script(tmp_path, f'cat > /dev/null; printf "%s\\n" "$@" > {tmp_path}/arguments')
    mails = mailer(f"{command} -t -oi", smtp_sender="Ops <ops@example.org>")

    await mails.deliver(delivery_to("mailto:a@b"))

    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert arguments == ["-oi", "-f", "ops@example.org", "--", "a@b"]


async def test_without_a_sender_the_command_chooses_one(tmp_path: Path) -> None:
    command = script(tmp_path, 'cat > "$1"')

    outcome = await mailer(f"{command} {tmp_path}/mail").deliver(delivery_to("mailto:a@b"))

    assert outcome.verdict is Verdict.DELIVERED
    assert "From:" not in (tmp_path / "mail").read_text()


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (1, Verdict.TRY_LATER),
        (os.EX_NOUSER, Verdict.REFUSED),
        (os.EX_DATAERR, Verdict.REFUSED),
        (os.EX_TEMPFAIL, Verdict.POSTPONED),
        (os.EX_CONFIG, Verdict.POSTPONED),
        (127, Verdict.POSTPONED),
    ],
)
async def test_the_commands_exit_code_tells_whose_fault_it_is(
    tmp_path: Path, code: int, verdict: Verdict
) -> None:
    outcome = await mailer(str(script(tmp_path, f"exit {code}"))).deliver(
        delivery_to("mailto:a@b", payload=b"x" * 1_000_000)
    )

    assert (outcome.verdict, outcome.detail) == (
        verdict,
        f"the sendmail command ended with {code}",
    )


async def test_a_command_that_does_not_exist_costs_no_try(tmp_path: Path) -> None:
    outcome = await mailer(f"{tmp_path}/nothing").deliver(delivery_to("mailto:a@b"))

    assert outcome.verdict is Verdict.POSTPONED
    assert outcome.detail == "the sendmail command can't be run: No such file or directory"


async def test_a_command_that_hangs_is_killed_with_all_it_started(tmp_path: Path) -> None:
    command = script(tmp_path, f"sleep 60 & echo $! > {tmp_path}/pid; cat > /dev/null; wait")
    started = time.monotonic()

    outcome = await mailer(str(command), seconds=1).deliver(delivery_to("mailto:a@b"))

    assert outcome.verdict is Verdict.TRY_LATER
    assert time.monotonic() - started < 10
    await until_ended(int((tmp_path / "pid").read_text()))


async def test_secrets_in_the_environment_are_not_handed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZAQAR_WEBHOOK_SECRET", "hunter2")
    command = script(tmp_path, 'env > "$1"; cat > /dev/null')

    await mailer(f"{command} {tmp_path}/environment").deliver(delivery_to("mailto:a@b"))

    environment = (tmp_path / "environment").read_text()
    assert "hunter2" not in environment
    assert "PATH=" in environment


def script(directory: Path, commands: str) -> Path:
    path = directory / "sendmail"
    path.write_text(f"#!/bin/sh\n{commands}\n")
    path.chmod(0o755)
    return path


def mailer(command: str, *, seconds: float = 20, smtp_sender: str = "") -> EmailSink:
    settings = Settings(sendmail_command=command, smtp_sender=smtp_sender)
    return EmailSink(settings, RecordingRelay(), SendmailCarrier(command, seconds=seconds))


async def until_ended(process_id: int) -> None:
    """Wait until a process that is not our child has gone, or is a zombie."""
    deadline = time.monotonic() + 5
    while is_alive(process_id):
        assert time.monotonic() < deadline, "the process lives on"
        await asyncio.sleep(0.01)


def is_alive(process_id: int) -> bool:
    try:
        status = Path(f"/proc/{process_id}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
