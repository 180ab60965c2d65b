"""Deliveries by mail, to a real SMTP server."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from sinks.email import EmailSink
from tests.sinks.builders import PAYLOAD, delivery_to
from tests.sinks.certificates import contexts
from tests.sinks.receiver import receiving
from tests.sinks.relay import PASSWORD, USERNAME, MailRelay, relaying
from zaqar_notify.models import Document, MessageType, Outcome, Verdict
from zaqar_notify.settings import Settings

CONFIRMATION = {
    "Message_Type": "SubscriptionConfirmation",
    "URL-Signature": "ab12",
    "URL-Methods": "PUT",
    "URL-Paths": "/v2/queues/q1/subscriptions/s1/confirm",
    "X-Project-ID": "project1",
    "URL-Expires": "2026-11-20T20:17:57",
    "WSGISubscribeURL": "http://zaqar.example/v2/queues/q1/subscriptions/s1/confirm",
    "queue_name": "q1",
}


@pytest.fixture
async def relay() -> AsyncIterator[MailRelay]:
    async with relaying() as relay:
        yield relay


def sink(relay: MailRelay, **settings: object) -> EmailSink:
    return EmailSink(mail_settings(relay.port, **settings))


def mail_settings(port: int, **settings: object) -> Settings:
    defaults = {
        "smtp_host": "127.0.0.1",
        "smtp_port": port,
        "smtp_sender": "Zaqar <zaqar@example.org>",
        "delivery_timeout_seconds": 5,
    }
    return Settings.model_validate(defaults | settings)


async def test_the_payload_is_mailed_as_plain_text(relay: MailRelay) -> None:
    payload = '{"body": "é and a long line ' + "x" * 2000 + '"}'

    outcome = await sink(relay).deliver(
        delivery_to("mailto:you@example.org", payload=payload.encode())
    )

    [mail] = relay.mails
    assert outcome == Outcome(Verdict.DELIVERED, 250)
    assert mail.sender == "zaqar@example.org"
    assert mail.recipients == ["you@example.org"]
    assert mail.content.get_content_type() == "text/plain"
    assert mail.content.get_content().strip() == payload
    assert mail.raw.isascii()
    assert relay.said_goodbye.is_set()


async def test_headers_tell_what_was_mailed(relay: MailRelay) -> None:
    await sink(relay).deliver(delivery_to("mailto:you@example.org"))

    headers = relay.mails[0].content
    assert headers["From"] == "Zaqar <zaqar@example.org>"
    assert headers["To"] == "you@example.org"
    assert headers["Date"] == "Fri, 02 Jan 2026 03:04:05 +0000"
    assert headers["Message-ID"] == "<delivery1@example.org>"
    assert headers["Auto-Submitted"] == "auto-generated"
    assert headers["Zaqar-Message-Id"] == "message1"
    assert headers["Zaqar-Subscription-Id"] == "subscription1"
    assert headers["Zaqar-Queue"] == "q1"


@pytest.mark.parametrize(
    ("uri", "options", "subject"),
    [
        ("mailto:a@b", {}, ""),
        ("mailto:a@b", {"subject": "from options, é"}, "from options, é"),
        ("mailto:a@b?subject=from%20uri+%C3%A9", {"subject": "x"}, "from uri+é"),
        ("mailto:a@b?cc=c@d&Subject=first&subject=second", {}, "first"),
        ("mailto:a@b?subject=", {"subject": "x"}, ""),
        ("MAILTO:a@b?body=x", {"subject": 7}, ""),
    ],
)
async def test_the_subject_of_the_uri_wins(
    relay: MailRelay, uri: str, options: Document, subject: str
) -> None:
    await sink(relay).deliver(delivery_to(uri, options=options))

    [mail] = relay.mails
    assert mail.content["Subject"] == subject
    assert mail.recipients == ["a@b"]


@pytest.mark.parametrize(
    ("asked", "header"),
    [
        ("me@example.com", "me@example.com"),
        ("Me <me@example.com>", "Me <me@example.com>"),
        ('"Me, myself" <me@example.com>', '"Me, myself" <me@example.com>'),
        ("", "Zaqar <zaqar@example.org>"),
    ],
)
async def test_a_subscription_chooses_its_sender_and_the_operator_gets_the_bounces(
    relay: MailRelay, asked: str, header: str
) -> None:
    await sink(relay).deliver(delivery_to("mailto:a@b", options={"from": asked}))

    [mail] = relay.mails
    assert mail.content["From"] == header
    assert mail.sender == "zaqar@example.org"


async def test_without_an_operators_sender_the_subscription_needs_one(relay: MailRelay) -> None:
    mailer = sink(relay, smtp_sender="")

    refused = await mailer.deliver(delivery_to("mailto:a@b"))
    sent = await mailer.deliver(delivery_to("mailto:a@b", options={"from": "me@example.com"}))

    assert refused.verdict is Verdict.REFUSED
    assert "ZAQAR_SMTP_SENDER" in refused.detail
    assert sent.verdict is Verdict.DELIVERED
    assert relay.mails[0].sender == "me@example.com"


@pytest.mark.parametrize(
    "uri",
    [
        "mailto:",
        "mailto:nobody",
        "mailto:@b",
        "mailto:a@",
        "mailto:a@b@c",
        "mailto:a@b,c@d",
        "mailto:a%40b%2Cc@d",
        "mailto:a@b%0d%0aBcc:%20c@d",
        "mailto:a@b%0aBcc:c@d",
        "mailto:a@b\r\nBcc: c@d",
        "mailto:a%00@b",
        "mailto:a b@c",
        "mailto:<a@b>",
        "mailto:-oQ@b",
        "mailto:a@b;c",
        "mailto:é@b",
        "mailto:a@b?subject=x%0d%0aBcc:%20c@d",
        "mailto:a@b?subject=x%0aBcc:c@d",
    ],
)
async def test_what_is_not_one_plain_address_and_subject_is_refused(
    relay: MailRelay, uri: str
) -> None:
    outcome = await sink(relay).deliver(delivery_to(uri))

    assert outcome.verdict is Verdict.REFUSED
    assert outcome.detail
    assert not relay.mails


@pytest.mark.parametrize(
    "options",
    [
        {"subject": "x\r\nBcc: c@d"},
        {"subject": "x\ny"},
        {"from": "a@b\r\nBcc: c@d"},
        {"from": "Me\n <a@b>"},
        {"from": "a@b, c@d"},
        {"from": "<a@b> <c@d>"},
        {"from": "nobody"},
    ],
)
async def test_options_cannot_smuggle_headers_in(relay: MailRelay, options: Document) -> None:
    outcome = await sink(relay).deliver(delivery_to("mailto:a@b", options=options))

    assert outcome.verdict is Verdict.REFUSED
    assert not relay.mails


@pytest.mark.parametrize("to", ["to_recipient", "to_data"])
@pytest.mark.parametrize(
    ("reply", "verdict", "status"),
    [
        ("451 try again", Verdict.TRY_LATER, 451),
        ("452 full", Verdict.TRY_LATER, 452),
        ("550 no such user", Verdict.REFUSED, 550),
        ("554 spam", Verdict.REFUSED, 554),
    ],
)
async def test_the_relays_reply_decides(
    relay: MailRelay, to: str, reply: str, verdict: Verdict, status: int
) -> None:
    setattr(relay, to, reply)

    outcome = await sink(relay).deliver(delivery_to("mailto:a@b"))

    assert outcome == Outcome(verdict, status, f"mail relay: {reply[4:]}")


async def test_a_relay_that_is_down_is_tried_again(unused_port: int) -> None:
    mailer = EmailSink(mail_settings(unused_port))

    outcome = await mailer.deliver(delivery_to("mailto:a@b"))

    assert outcome.verdict is Verdict.TRY_LATER
    assert outcome.detail.startswith("mail relay: ")


@pytest.mark.parametrize(
    "greeting", [b"554 go away\r\n", b"421 busy\r\n", b"", b"HTTP/1.1 200\r\n"]
)
async def test_a_relay_that_does_not_want_us_is_tried_again(greeting: bytes) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        mailer = EmailSink(mail_settings(server.sockets[0].getsockname()[1]))
        outcome = await mailer.deliver(delivery_to("mailto:a@b"))

    assert outcome.verdict is Verdict.TRY_LATER


async def test_a_relay_that_says_nothing_is_given_up() -> None:
    async with receiving() as silent:
        mailer = EmailSink(mail_settings(silent.port, delivery_timeout_seconds=0.1))
        outcome = await mailer.deliver(delivery_to("mailto:a@b"))
        await asyncio.wait_for(silent.disconnected.wait(), 5)

    assert outcome.verdict is Verdict.TRY_LATER


async def test_mail_goes_over_starttls_after_a_login(tmp_path: Path) -> None:
    server, client = contexts(tmp_path)
    async with relaying(starttls=server, needs_login=True) as relay:
        settings = mail_settings(
            relay.port,
            smtp_tls="starttls",
            smtp_username=USERNAME,
            smtp_password=SecretStr(PASSWORD),
        )
        outcome = await EmailSink(settings, tls=client).deliver(delivery_to("mailto:a@b"))

    [mail] = relay.mails
    assert outcome.verdict is Verdict.DELIVERED
    assert mail.over_tls
    assert mail.user == USERNAME


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_login_or_a_certificate_that_fails_is_the_operators_to_mend(
    tmp_path: Path, trusted: bool
) -> None:
    server, client = contexts(tmp_path)
    async with relaying(starttls=server, needs_login=True) as relay:
        settings = mail_settings(
            relay.port,
            smtp_tls="starttls",
            smtp_username=USERNAME,
            smtp_password=SecretStr("wrong"),
        )
        outcome = await EmailSink(settings, tls=client if trusted else None).deliver(
            delivery_to("mailto:a@b")
        )

    assert outcome.verdict is Verdict.TRY_LATER
    assert outcome.status == (535 if trusted else None)
    assert "wrong" not in outcome.detail
    assert not relay.mails


async def test_starttls_is_not_given_up_when_the_relay_does_not_offer_it(relay: MailRelay) -> None:
    outcome = await sink(relay, smtp_tls="starttls").deliver(delivery_to("mailto:a@b"))

    assert outcome.verdict is Verdict.TRY_LATER
    assert not relay.mails


async def test_without_a_relay_mail_is_refused_with_the_settings_to_set() -> None:
    outcome = await EmailSink(Settings()).deliver(delivery_to("mailto:a@b"))

    assert outcome.verdict is Verdict.REFUSED
    assert "ZAQAR_SMTP_HOST" in outcome.detail
    assert "ZAQAR_SENDMAIL_COMMAND" in outcome.detail


@pytest.mark.parametrize(
    ("kind", "subject", "words"),
    [
        (
            MessageType.SUBSCRIPTION_CONFIRMATION,
            "Zaqar Notification - Subscription Confirmation",
            "You have chosen to subscribe to the queue: q1. This queue belongs to project: project1.",
        ),
        (
            MessageType.UNSUBSCRIBE_CONFIRMATION,
            "Zaqar Notification - Unsubscribe Confirmation",
            "You have unsubscribed successfully to the queue: q1.",
        ),
    ],
)
async def test_a_confirmation_mail_has_a_link_to_the_operators_page(
    relay: MailRelay, kind: MessageType, subject: str, words: str
) -> None:
    mailer = sink(relay, external_confirmation_url="https://page.example/confirm")

    await mailer.deliver(
        delivery_to(
            "mailto:a@b?subject=mine",
            options={"from": "me@example.com"},
            kind=kind,
            payload=json.dumps(CONFIRMATION).encode(),
        )
    )

    content = relay.mails[0].content
    assert content["Subject"] == subject
    assert content["From"] == "Zaqar <zaqar@example.org>"
    assert content.get_content().startswith(words)
    assert (
        content.get_content()
        .strip()
        .endswith(
            "https://page.example/confirm?Signature=ab12&Methods=PUT"
            "&Paths=/v2/queues/q1/subscriptions/s1/confirm&Project=project1"
            "&Expires=2026-11-20T20:17:57"
            "&Url=http://zaqar.example/v2/queues/q1/subscriptions/s1/confirm&Queue=q1"
        )
    )


async def test_without_the_operators_page_confirmations_are_refused(relay: MailRelay) -> None:
    kind = MessageType.SUBSCRIPTION_CONFIRMATION
    payload = json.dumps(CONFIRMATION).encode()

    outcome = await sink(relay).deliver(delivery_to("mailto:a@b", kind=kind, payload=payload))

    assert outcome.verdict is Verdict.REFUSED
    assert "ZAQAR_EXTERNAL_CONFIRMATION_URL" in outcome.detail


class TestSendmailCommand:
    async def test_the_mail_is_piped_to_the_command(self, tmp_path: Path) -> None:
        command = script(tmp_path, 'cat > "$1"')

        outcome = await mailer(f"{command} '{tmp_path}/a mail'").deliver(
            delivery_to("mailto:you@example.org", options={"from": "me@example.com"})
        )

        mail = (tmp_path / "a mail").read_text()
        assert outcome == Outcome(Verdict.DELIVERED)
        assert "\nTo: you@example.org\n" in mail
        assert "From: me@example.com\n" in mail
        assert mail.endswith(PAYLOAD.decode() + "\n")

    async def test_the_command_is_run_by_no_shell(self, tmp_path: Path) -> None:
        command = script(tmp_path, f'cat > /dev/null; echo "$@" > {tmp_path}/arguments')

        await mailer(f"{command} -t $HOME ; touch {tmp_path}/touched").deliver(
            delivery_to("mailto:a@b")
        )

        arguments = (tmp_path / "arguments").read_text()
        assert arguments == f"-t $HOME ; touch {tmp_path}/touched\n"
        assert not (tmp_path / "touched").exists()

    async def test_without_a_sender_the_command_chooses_one(self, tmp_path: Path) -> None:
        command = script(tmp_path, 'cat > "$1"')

        outcome = await mailer(f"{command} {tmp_path}/mail").deliver(delivery_to("mailto:a@b"))

        assert outcome.verdict is Verdict.DELIVERED
        assert "From:" not in (tmp_path / "mail").read_text()

    @pytest.mark.parametrize("code", [1, 75])
    async def test_a_command_that_fails_is_tried_again(self, tmp_path: Path, code: int) -> None:
        outcome = await mailer(str(script(tmp_path, f"exit {code}"))).deliver(
            delivery_to("mailto:a@b", payload=b"x" * 1_000_000)
        )

        assert outcome == Outcome(
            Verdict.TRY_LATER, detail=f"the sendmail command ended with {code}"
        )

    async def test_a_command_that_does_not_exist_is_tried_again(self, tmp_path: Path) -> None:
        outcome = await mailer(f"{tmp_path}/nothing").deliver(delivery_to("mailto:a@b"))

        assert outcome.verdict is Verdict.TRY_LATER

    async def test_a_command_that_hangs_is_killed_with_all_it_started(self, tmp_path: Path) -> None:
        command = script(tmp_path, f"sleep 60 & echo $! > {tmp_path}/pid; cat > /dev/null; wait")
        started = time.monotonic()

        outcome = await mailer(str(command), seconds=1).deliver(delivery_to("mailto:a@b"))

        assert outcome.verdict is Verdict.TRY_LATER
        assert time.monotonic() - started < 10
        await until_ended(int((tmp_path / "pid").read_text()))

    async def test_secrets_in_the_environment_are_not_handed_on(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


def mailer(command: str, *, seconds: float = 5) -> EmailSink:
    return EmailSink(Settings(sendmail_command=command, delivery_timeout_seconds=seconds))


async def until_ended(process_id: int) -> None:
    """Wait until a process that is not our child has gone, or is a zombie that nobody reaps."""
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
