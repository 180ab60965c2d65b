"""Deliveries by mail: one plain-text mail per message, to the one address of a `mailto:` URI.

Mail leaves through the operator's relay (SMTP) or sendmail command. Both are named in the settings
and are trusted, so the address guard does not apply to them.
"""

from __future__ import annotations

import math
import shlex
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import ClassVar

import aiosmtplib

from sinks import smtp
from sinks.carrier import Carrier, NoCarrier, Trouble
from sinks.flow import Flow
from sinks.letter import NoPage, write_letter
from sinks.mail_content import HTML, SUBJECT
from sinks.rates import Rates
from sinks.sendmail import SendmailCarrier
from sinks.smtp import SmtpCarrier
from zaqar_notify.delivery.kinds import Kind, Relay, Sink
from zaqar_notify.errors import StorageUnavailable, ValidationFailed
from zaqar_notify.findings import ANSWER_SECONDS, Finding, ok, problem, warning
from zaqar_notify.models import Delivery, JsonObject, Outcome, Verdict
from zaqar_notify.rules import mail
from zaqar_notify.rules.formats import POST_DATA, Format, Forms
from zaqar_notify.rules.lines import ONE_LINE
from zaqar_notify.rules.quotas import MAILS
from zaqar_notify.rules.schedules import SNS_MAIL
from zaqar_notify.rules.templates import check_text_template
from zaqar_notify.settings import Settings
from zaqar_notify.storage.suppressions import Suppression

_LINE: JsonObject = {
    "type": ["string", "null"],
    "pattern": ONE_LINE,
    "must": "be a string of one line",
}


STORE_PAUSE = 5
"""Seconds that a mail waits while the store does not say whether its addressee has unsubscribed."""


def mailbox_of(address: str) -> str:
    """The mailbox of an address: in lower case and without a +tag."""
    user, _, domain = address.lower().partition("@")
    return f"{user.partition('+')[0]}@{domain}"


class MailKind(Kind):
    """`mailto:` and one address."""

    schemes = ("mailto",)
    sns_schedule = SNS_MAIL
    forms = Forms(
        frozenset({Format.ZAQAR, Format.RAW}), takes_templates=True, has_unsubscribe_url=True
    )
    options: ClassVar[Mapping[str, JsonObject]] = {
        "from": _LINE,
        SUBJECT: _LINE,
        HTML: {"type": ["string", "null"], "must": "be a string"},
        POST_DATA: {"type": ["string", "null"], "must": "be a string"},
    }

    def check(self, uri: str, settings: Settings) -> None:
        missing = _missing(settings)
        if missing:
            raise ValidationFailed(f"subscriber can't be mailto: {missing}")
        mail.recipient(uri)
        mail.uri_subject(uri)

    def check_options(self, options: JsonObject) -> None:
        super().check_options(options)
        if options.get("from"):
            mail.read_mailbox(options["from"])
        if options.get(SUBJECT):
            mail.check_subject(options[SUBJECT])
        for name in (SUBJECT, HTML):
            check_text_template(options.get(name) or "", name)

    def addressee(self, uri: str) -> str:
        """The mailbox, in lower case and without a +tag."""
        try:
            return mailbox_of(mail.recipient(uri))
        except ValidationFailed:  # Stored before it was checked, and never sent.
            return uri

    async def diagnose(self, settings: Settings) -> Sequence[Finding]:
        if "mailto" not in settings.subscriber_types:
            return []
        if settings.sendmail_command:
            findings = [_look_for(shlex.split(settings.sendmail_command)[0])]
        elif settings.smtp_host:
            findings = [await _ask_relay(settings)]
        else:
            return [ok("mail", "There is no relay and no sendmail command: mailto: is refused")]
        return [*findings, *_links(settings)]

    def sink(self, settings: Settings, relay: Relay) -> Sink:
        return EmailSink(settings, relay)


class EmailSink(Sink):
    """Mails to `mailto:` subscribers. A text that can't stand in a mail is refused before anything is sent.

    Args:
        relay: Knows the addressees that have unsubscribed.
        carrier: Hands mails on; None: the carrier that the settings name.
    """

    def __init__(
        self,
        settings: Settings,
        relay: Relay,
        carrier: Carrier | None = None,
        *,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._relay = relay
        self._carrier = carrier or _carrier(settings)
        self._flow = Flow(settings.smtp_connections, timer=timer)
        self._rates = Rates(timer=timer)

    @property
    def troubles(self) -> Sequence[str]:
        return self._flow.troubles

    async def deliver(self, delivery: Delivery) -> Outcome:
        project = delivery.subscription.queue.project
        try:
            letter = write_letter(delivery, self._settings)
        except ValidationFailed as error:
            return Outcome(Verdict.REFUSED, detail=str(error))
        except NoPage:
            return self._flow.slow_down(_NO_PAGE, project)
        try:
            suppression = await self._relay.suppression(project, mailbox_of(letter.recipient))
        except StorageUnavailable as error:
            return Outcome(Verdict.POSTPONED, detail=str(error), retry_after_seconds=STORE_PAUSE)
        if suppression is not None:
            return Outcome(Verdict.REFUSED, detail=_unsubscribed(suppression))
        if not self._flow.is_paused(letter.sender) and (later := self._over_rate(project)):
            return later
        return await self._flow.pass_on(
            project, letter.sender, partial(self._carrier.hand_over, letter)
        )

    def _over_rate(self, project: str) -> Outcome | None:
        """Count a mail that is about to be sent; the outcome if the project has sent as many as it may."""
        most = self._relay.limit(project, MAILS)
        wait = self._rates.take(project, per_minute=most) if most else 0
        if not wait:
            return None
        self._relay.held_back(MAILS)
        detail = f"the project sends at most {most} mails a minute (its quota {MAILS})"
        return Outcome(Verdict.POSTPONED, detail=detail, retry_after_seconds=math.ceil(wait))

    async def close(self) -> None:
        await self._carrier.close()


_NO_PAGE = Trouble(
    "confirmation mails need ZAQAR_PUBLIC_URL, or ZAQAR_EXTERNAL_CONFIRMATION_URL",
    kind="confirmations",
)


def _unsubscribed(suppression: Suppression) -> str:
    return (
        f"the addressee unsubscribed at {suppression.suppressed_at:%Y-%m-%dT%H:%M:%SZ}; "
        f"it gets nothing while there is the suppression {suppression.id}"
    )


def _missing(settings: Settings) -> str:
    """The setting that is missing before mail can be sent, as a sentence; "" when none is."""
    if settings.sendmail_command:
        return ""
    if not settings.smtp_host:
        return (
            "mail is off: neither ZAQAR_SMTP_HOST nor ZAQAR_SENDMAIL_COMMAND is set. Set ZAQAR_SMTP_HOST "
            "and ZAQAR_SMTP_SENDER, and start the service again"
        )
    return "" if settings.smtp_sender else "mail is off: ZAQAR_SMTP_SENDER is not set"


def _carrier(settings: Settings) -> Carrier:
    missing = _missing(settings)
    if missing:
        return NoCarrier(missing)
    if settings.sendmail_command:
        return SendmailCarrier(settings.sendmail_command)
    return SmtpCarrier(settings)


def _links(settings: Settings) -> list[Finding]:
    """Findings about the links in mails, which need the public URL."""
    if settings.public_url.startswith("https:"):
        return []
    if settings.public_url:
        sentence = "ZAQAR_PUBLIC_URL is not https: mail programs show no button to unsubscribe"
        return [warning("mail", sentence, "Serve HTTPS, and name it in ZAQAR_PUBLIC_URL")]
    remedy = "Set it to this service's address as people see it"
    if settings.require_confirmation and not settings.external_confirmation_url:
        sentence = "mailto: subscribers can't confirm: ZAQAR_PUBLIC_URL is not set"
        return [problem("mail", sentence, remedy)]
    sentence = "Mails have no link to unsubscribe: ZAQAR_PUBLIC_URL is not set"
    return [warning("mail", sentence, remedy)]


def _look_for(program: str) -> Finding:
    found = shutil.which(program)
    if found is None:
        return problem(
            "mail",
            f"The sendmail command {program} is not there, or can't be run",
            "Install it, or correct ZAQAR_SENDMAIL_COMMAND; mails wait until then",
        )
    return ok("mail", f"Mails go through {found}")


async def _ask_relay(settings: Settings) -> Finding:
    address = f"{settings.smtp_host}:{settings.smtp_port}"
    try:
        await smtp.ask(settings, seconds=ANSWER_SECONDS)
    except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
        return problem(
            "mail",
            f"The mail relay {address} refuses: {type(error).__name__}: {error}",
            "Start it, or correct ZAQAR_SMTP_…; mails wait until then",
        )
    login = f", as {settings.smtp_username}" if settings.smtp_username else ""
    return ok("mail", f"The mail relay {address} answers{login}")
