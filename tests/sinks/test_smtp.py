"""A relay is treated with patience and few connections, and a mail pays only for its own faults."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from sinks.email import EmailSink
from sinks.smtp import SmtpTimes
from tests.sinks.builders import delivery_to
from tests.sinks.certificates import contexts
from tests.sinks.mailers import Mailers
from tests.sinks.receiver import receiving
from tests.sinks.relay import PASSWORD, USERNAME, MailRelay, relaying
from zaqar_notify.models import Outcome, Verdict

TO_YOU = delivery_to("mailto:you@example.org")


@pytest.mark.parametrize("to", ["to_recipient", "to_data"])
@pytest.mark.parametrize(
    ("reply", "verdict", "status"),
    [
        ("451 try again", Verdict.TRY_LATER, 451),
        ("452 full", Verdict.TRY_LATER, 452),
        ("550 no such user", Verdict.REFUSED, 550),
        ("554 spam", Verdict.REFUSED, 554),
        ("421 closing", Verdict.POSTPONED, 421),
        ("530 log in first", Verdict.POSTPONED, 530),
    ],
)
async def test_a_reply_to_the_recipient_or_the_mail_decides_of_it_unless_it_is_about_us(
    relay: MailRelay, mailers: Mailers, to: str, reply: str, verdict: Verdict, status: int
) -> None:
    setattr(relay, to, reply)

    outcome = await mailers.to(relay).deliver(TO_YOU)

    assert (outcome.verdict, outcome.status) == (verdict, status)
    assert outcome.excerpt == reply[4:]
    assert reply[4:] not in outcome.detail


@pytest.mark.parametrize(
    ("to", "verdict"), [("to_recipient", Verdict.TRY_LATER), ("to_data", Verdict.POSTPONED)]
)
async def test_454_is_about_us_unless_it_refuses_a_recipient(
    relay: MailRelay, mailers: Mailers, to: str, verdict: Verdict
) -> None:
    """Postfix answers it to a recipient whom it does not relay to, and any tenant can name one."""
    setattr(relay, to, "454 4.7.1 not now")

    assert (await mailers.to(relay).deliver(TO_YOU)).verdict is verdict


async def test_no_connection_collects_so_many_refusals_that_the_relay_hangs_up(
    relay: MailRelay, mailers: Mailers
) -> None:
    """Postfix does after 20, with a 421: a tenant's bad recipients would slow all mail."""
    relay.to_recipient = "550 no such user"
    mailer = mailers.to(relay)

    for _ in range(20):
        await mailer.deliver(TO_YOU)

    assert relay.connections_made == 20 / 5


@pytest.mark.parametrize("reply", ["450 slow down", "530 log in first", "550 not you", "421 later"])
async def test_a_reply_to_the_sender_is_the_operators_to_mend(
    relay: MailRelay, mailers: Mailers, reply: str
) -> None:
    relay.to_sender = reply

    outcome = await mailers.to(relay).deliver(TO_YOU)

    assert (outcome.verdict, outcome.status) == (Verdict.POSTPONED, int(reply[:3]))
    assert outcome.excerpt == reply[4:]


async def test_a_relay_that_is_down_costs_no_try(mailers: Mailers, unused_port: int) -> None:
    outcome = await mailers.at(unused_port).deliver(TO_YOU)

    assert outcome.verdict is Verdict.POSTPONED
    assert outcome.detail == "no connection to the mail relay: Connection refused"


async def test_a_relay_whose_name_is_not_known_costs_no_try(mailers: Mailers) -> None:
    outcome = await mailers.at(25, smtp_host="relay.invalid").deliver(TO_YOU)

    assert outcome.verdict is Verdict.POSTPONED
    assert "name" in outcome.detail


@pytest.mark.parametrize(
    "greeting", [b"554 go away\r\n", b"421 busy\r\n", b"", b"HTTP/1.1 200\r\n"]
)
async def test_a_relay_that_does_not_want_us_costs_no_try(
    mailers: Mailers, greeting: bytes
) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        mailer = mailers.at(server.sockets[0].getsockname()[1])
        outcome = await mailer.deliver(TO_YOU)

    assert outcome.verdict is Verdict.POSTPONED
    assert outcome.status == (int(greeting[:3]) if greeting[:1].isdigit() else None)


async def test_a_relay_that_says_nothing_is_given_up(mailers: Mailers) -> None:
    async with receiving() as silent:
        mailer = mailers.at(silent.port, times=SmtpTimes(reply=0.1))
        outcome = await mailer.deliver(TO_YOU)
        await asyncio.wait_for(silent.disconnected.wait(), 5)

    assert outcome.verdict is Verdict.POSTPONED


async def test_a_relay_may_take_longer_than_a_receiver_and_gets_one_copy(
    relay: MailRelay, mailers: Mailers
) -> None:
    """RFC 5321, 4.5.3.2: minutes, for a relay that scans a mail before it answers."""
    relay.scanned.clear()
    mailer = mailers.to(relay, delivery_timeout_seconds=0.05)

    delivery = asyncio.create_task(mailer.deliver(TO_YOU))
    await relay.got_mail.wait()
    done, _ = await asyncio.wait([delivery], timeout=0.3)
    relay.scanned.set()

    assert not done
    assert (await delivery).verdict is Verdict.DELIVERED
    assert len(relay.mails) == 1


def test_a_relay_has_the_minutes_that_the_standard_gives_it() -> None:
    times = SmtpTimes()

    assert times.reply >= 5 * 60
    assert times.acceptance >= 10 * 60


async def test_a_mail_whose_acceptance_is_not_known_spends_a_try(
    relay: MailRelay, mailers: Mailers
) -> None:
    """Else a relay that takes it and says so too late would get copies for ever."""
    relay.scanned.clear()

    outcome = await mailers.to(relay, times=SmtpTimes(acceptance=0.1)).deliver(TO_YOU)

    relay.scanned.set()
    assert outcome.verdict is Verdict.TRY_LATER
    assert outcome.detail == "the mail relay did not answer to the mail in time"


async def test_mails_go_one_after_another_over_one_connection(
    relay: MailRelay, mailers: Mailers
) -> None:
    mailer = mailers.to(relay)
    for reply in ("250 OK", "550 no such user", "250 OK"):
        relay.to_recipient = reply
        await mailer.deliver(TO_YOU)

    assert len(relay.mails) == 2
    assert relay.connections_made == 1


async def test_a_connection_that_the_relay_closed_meanwhile_costs_nothing(
    relay: MailRelay, mailers: Mailers
) -> None:
    mailer = mailers.to(relay)
    await mailer.deliver(TO_YOU)
    for connection in relay.connections[:]:
        connection.close()

    outcome = await mailer.deliver(TO_YOU)

    assert outcome.verdict is Verdict.DELIVERED
    assert relay.connections_made == 2


async def test_an_idle_connection_is_closed_with_a_goodbye(
    relay: MailRelay, mailers: Mailers
) -> None:
    await mailers.to(relay, times=SmtpTimes(idle=0.05)).deliver(TO_YOU)

    await asyncio.wait_for(relay.said_goodbye.wait(), 5)


async def test_a_try_that_is_cancelled_leaves_no_connection_in_the_middle_of_a_mail(
    relay: MailRelay, mailers: Mailers
) -> None:
    relay.scanned.clear()
    mailer = mailers.to(relay)
    delivery = asyncio.create_task(mailer.deliver(TO_YOU))
    await relay.got_mail.wait()
    delivery.cancel()
    await asyncio.wait([delivery])
    relay.scanned.set()

    assert (await mailer.deliver(TO_YOU)).verdict is Verdict.DELIVERED
    assert relay.connections_made == 2


async def test_a_relay_of_few_connections_is_not_asked_for_more(mailers: Mailers) -> None:
    """120 mails at once, as the engine makes them; those that are postponed come again."""
    async with relaying() as relay:
        relay.most_connections = 2
        verdicts = await deliver_all(mailers.to(relay, smtp_connections=8), 120)
        await mailers.close()

    assert len(relay.mails) == 120
    assert set(verdicts) == {Verdict.DELIVERED, Verdict.POSTPONED}
    assert relay.refusals <= 8


async def test_mails_over_a_relays_rate_wait_without_asking_again_and_again(
    relay: MailRelay, mailers: Mailers, caplog: pytest.LogCaptureFixture
) -> None:
    relay.quota = 30
    mailer = mailers.to(relay)

    outcomes = [await mailer.deliver(TO_YOU) for _ in range(120)]

    assert Counter(each.verdict for each in outcomes) == {
        Verdict.DELIVERED: 30,
        Verdict.POSTPONED: 90,
    }
    assert relay.refusals == 1
    assert all((each.retry_after_seconds or 0) >= 5 for each in outcomes[30:])
    slowed = [record for record in caplog.records if record.__dict__["action"] == "mail_slowed"]
    assert [record.__dict__["status"] for record in slowed] == [450]
    assert mailer.troubles == ["the mail relay refused the sender"]
    assert "too much mail" not in caplog.text


async def test_mail_goes_over_starttls_after_a_login(mailers: Mailers, tmp_path: Path) -> None:
    server, client = contexts(tmp_path)
    async with relaying(starttls=server, needs_login=True) as relay:
        mailer = mailers.at(relay.port, tls=client, **login(PASSWORD))
        outcome = await mailer.deliver(TO_YOU)
        await mailers.close()

    [mail] = relay.mails
    assert outcome.verdict is Verdict.DELIVERED
    assert mail.over_tls
    assert mail.user == USERNAME


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_login_or_a_certificate_that_fails_is_the_operators_to_mend(
    mailers: Mailers, tmp_path: Path, caplog: pytest.LogCaptureFixture, trusted: bool
) -> None:
    server, client = contexts(tmp_path)
    async with relaying(starttls=server, needs_login=True) as relay:
        tls = client if trusted else None
        mailer = mailers.at(relay.port, tls=tls, **login("wrong"))
        outcome = await mailer.deliver(TO_YOU)
        await mailers.close()

    assert outcome.verdict is Verdict.POSTPONED
    assert outcome.status == (535 if trusted else None)
    assert ("login" if trusted else "CERTIFICATE_VERIFY_FAILED") in outcome.detail
    assert "wrong" not in outcome.detail + outcome.excerpt
    assert mailer.troubles == [outcome.detail]
    assert not relay.mails


async def test_starttls_is_not_given_up_when_the_relay_does_not_offer_it(
    relay: MailRelay, mailers: Mailers
) -> None:
    outcome = await mailers.to(relay, smtp_tls="starttls").deliver(TO_YOU)

    assert outcome.verdict is Verdict.POSTPONED
    assert "STARTTLS" in outcome.detail
    assert not relay.mails


def login(password: str) -> dict[str, Any]:
    return {
        "smtp_tls": "starttls",
        "smtp_username": USERNAME,
        "smtp_password": SecretStr(password),
    }


async def deliver_all(mailer: EmailSink, count: int) -> list[Verdict]:
    """Deliver all at once, and postponed ones again, until none is left; every outcome."""
    verdicts: list[Verdict] = []
    async with asyncio.timeout(60):
        while count:
            outcomes: list[Outcome] = await asyncio.gather(
                *(mailer.deliver(TO_YOU) for _ in range(count))
            )
            verdicts += [each.verdict for each in outcomes]
            count -= Counter(verdicts[-count:])[Verdict.DELIVERED]
    return verdicts
