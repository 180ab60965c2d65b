"""Deliveries by mail: one plain-text mail per message, to the one address of a `mailto:` URI.

Mail leaves through the operator's relay (SMTP) or sendmail command. Both are named in the settings
and are trusted, so the address guard does not apply to them.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import ssl
from contextlib import suppress
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from urllib.parse import unquote

import aiosmtplib
import msgspec

from sinks import text
from sinks.base import Sink
from zaqar_notify.models import Delivery, MessageType, Outcome, Verdict
from zaqar_notify.settings import PREFIX, Settings
from zaqar_notify.subscribers import MAIL_ADDRESS

_NAME_AND_ADDRESS = re.compile(r"(?P<name>[^<>]*)<(?P<address>[^<>]*)>")

# Relays need not take 8-bit text. A body stays readable for scripts while its lines fit into SMTP's.
_COMMAND_FORMAT = policy.default.clone(cte_type="7bit")
_SMTP_FORMAT = _COMMAND_FORMAT.clone(linesep="\r\n")
_COMPOSING = _COMMAND_FORMAT.clone(max_line_length=998)

_QUIT_SECONDS = 1.0
"""For saying goodbye, once the relay has the mail."""

# Zaqar's templates: {0} is the queue, {1} the project, {2} the link.
_CONFIRMATIONS = {
    MessageType.SUBSCRIPTION_CONFIRMATION: (
        "Zaqar Notification - Subscription Confirmation",
        "You have chosen to subscribe to the queue: {0}. This queue belongs to project: {1}. "
        "To confirm this subscription, click or visit this link below: {2}",
    ),
    MessageType.UNSUBSCRIBE_CONFIRMATION: (
        "Zaqar Notification - Unsubscribe Confirmation",
        "You have unsubscribed successfully to the queue: {0}. This queue belongs to project: {1}. "
        "To resubscribe this subscription, click or visit this link below: {2}",
    ),
}


class EmailSink(Sink):
    """Mails to `mailto:` subscribers, over a connection of its own for each mail.

    Mails with bad addresses or subjects are refused before anything is sent.

    Args:
        tls: Which certificates to trust; None: the system's.
    """

    schemes = ("mailto",)

    def __init__(self, settings: Settings, *, tls: ssl.SSLContext | None = None) -> None:
        self._settings = settings
        self._tls = tls
        self._command = shlex.split(settings.sendmail_command)

    async def deliver(self, delivery: Delivery) -> Outcome:
        if not self._command and not self._settings.smtp_host:
            return Outcome(
                Verdict.REFUSED,
                detail="mail is off: neither ZAQAR_SMTP_HOST nor ZAQAR_SENDMAIL_COMMAND is set",
            )
        try:
            mail = self._mail(delivery)
        except _Unusable as error:
            return Outcome(Verdict.REFUSED, detail=str(error))
        seconds = self._settings.delivery_timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                if self._command:
                    return await self._run(mail)
                return await self._submit(mail)
        except TimeoutError:
            return Outcome(
                Verdict.TRY_LATER, detail=f"the mail was not accepted within {seconds:g} s"
            )

    def _mail(self, delivery: Delivery) -> _Mail:
        recipient, uri_subject = _recipient_and_subject(delivery.subscription.subscriber)
        options = delivery.subscription.options
        if delivery.kind is MessageType.NOTIFICATION:
            sender = self._sender(_text(options.get("from")))
            subject = _text(options.get("subject")) if uri_subject is None else uri_subject
            body = delivery.payload.decode(errors="replace")
        else:
            sender = self._sender("")
            subject, body = self._confirmation(delivery)
        if text.has_control_characters(subject):
            raise _Unusable("the subject has control characters")
        bounces_to = self._settings.smtp_sender
        return _Mail(
            content=_compose(delivery, recipient, sender, subject, body),
            sender=_mailbox(bounces_to) if bounces_to else sender,
            recipient=recipient,
        )

    def _sender(self, asked: str) -> Address | None:
        """The mailbox a subscription asks for, else the operator's; None: the command knows one."""
        mailbox = asked or self._settings.smtp_sender
        if mailbox:
            return _mailbox(mailbox)
        if self._command:
            return None
        raise _Unusable("the mail has no sender: no options.from, and ZAQAR_SMTP_SENDER is not set")

    def _confirmation(self, delivery: Delivery) -> tuple[str, str]:
        """The subject and the text of a confirmation mail."""
        page = self._settings.external_confirmation_url
        if not page:
            raise _Unusable("confirmation mails need ZAQAR_EXTERNAL_CONFIRMATION_URL")
        facts = msgspec.json.decode(delivery.payload, type=_Confirmation)
        link = (
            f"{page}?Signature={facts.signature}&Methods={facts.methods}&Paths={facts.paths}"
            f"&Project={facts.project}&Expires={facts.expires}&Url={facts.url}&Queue={facts.queue}"
        )
        subject, template = _CONFIRMATIONS[delivery.kind]
        return subject, template.format(facts.queue, facts.project, link)

    async def _submit(self, mail: _Mail) -> Outcome:
        """Hand the mail to the relay."""
        relay = self._relay()
        try:
            await relay.connect()
            await relay.sendmail(
                mail.sender.addr_spec if mail.sender else "",
                [mail.recipient],
                mail.content.as_bytes(policy=_SMTP_FORMAT),
            )
            with suppress(aiosmtplib.SMTPException):
                await relay.quit(timeout=_QUIT_SECONDS)
        except aiosmtplib.SMTPRecipientsRefused as error:
            return _refusal(error.recipients[0])
        except aiosmtplib.SMTPResponseException as error:
            return _refusal(error)
        except (aiosmtplib.SMTPException, OSError) as error:
            return Outcome(Verdict.TRY_LATER, detail=text.detail(f"mail relay: {error}"))
        finally:
            relay.close()
        return Outcome(Verdict.DELIVERED, aiosmtplib.SMTPStatus.completed)

    def _relay(self) -> aiosmtplib.SMTP:
        settings = self._settings
        return aiosmtplib.SMTP(
            hostname=settings.smtp_host,
            port=settings.smtp_port,
            username=settings.smtp_username or None,
            password=settings.smtp_password.get_secret_value() or None,
            use_tls=settings.smtp_tls == "tls",
            start_tls=settings.smtp_tls == "starttls",
            tls_context=self._tls,
            timeout=settings.delivery_timeout_seconds,
        )

    async def _run(self, mail: _Mail) -> Outcome:
        """Pipe the mail into the sendmail command, which reads its recipient there."""
        try:
            command = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env=_environment(),
                start_new_session=True,
            )
        except OSError as error:
            return Outcome(Verdict.TRY_LATER, detail=text.detail(f"sendmail command: {error}"))
        try:
            # uvloop's error when the command ends before it has read the mail; its code says more.
            with suppress(RuntimeError):
                await command.communicate(mail.content.as_bytes(policy=_COMMAND_FORMAT))
            await command.wait()
        finally:
            if command.returncode is None:
                # The whole session: a command may be a script that waits for another one.
                with suppress(ProcessLookupError):
                    os.killpg(command.pid, signal.SIGKILL)
                await command.wait()
        if command.returncode == os.EX_OK:
            return Outcome(Verdict.DELIVERED)
        return Outcome(
            Verdict.TRY_LATER, detail=f"the sendmail command ended with {command.returncode}"
        )


class _Unusable(ValueError):
    """The subscription can't be served; the sentence says why."""


class _Mail(msgspec.Struct, frozen=True):
    """A mail and its envelope. `sender`, where bounces go, is None for the command to choose."""

    content: EmailMessage
    sender: Address | None
    recipient: str


class _Confirmation(msgspec.Struct, frozen=True):
    """The part of a confirmation's payload that the link carries."""

    signature: str = msgspec.field(name="URL-Signature", default="")
    methods: str = msgspec.field(name="URL-Methods", default="")
    paths: str = msgspec.field(name="URL-Paths", default="")
    project: str = msgspec.field(name="X-Project-ID", default="")
    expires: str = msgspec.field(name="URL-Expires", default="")
    url: str = msgspec.field(name="WSGISubscribeURL", default="")
    queue: str = msgspec.field(name="queue_name", default="")


def _recipient_and_subject(uri: str) -> tuple[str, str | None]:
    """The address in a `mailto:` URI and its first subject, both unescaped."""
    path, _, query = uri.partition(":")[2].partition("?")
    recipient = unquote(path)
    if not MAIL_ADDRESS.fullmatch(recipient):
        raise _Unusable("the subscriber is not one plain address, such as user@example.org")
    for field in query.split("&"):
        name, _, value = field.partition("=")
        if name.lower() == "subject":
            return recipient, unquote(value)
    return recipient, None


def _mailbox(mailbox: str) -> Address:
    """Read `user@example.org` or `Name <user@example.org>`."""
    named = _NAME_AND_ADDRESS.fullmatch(mailbox.strip())
    name, address = named.groups() if named else ("", mailbox.strip())
    if text.has_control_characters(name) or not MAIL_ADDRESS.fullmatch(address):
        raise _Unusable("the sender is not one plain address, with or without a name before it")
    user, _, domain = address.partition("@")
    return Address(name.strip(' "'), user, domain)


def _compose(
    delivery: Delivery, recipient: str, sender: Address | None, subject: str, body: str
) -> EmailMessage:
    mail = EmailMessage(policy=_COMPOSING)
    if sender:
        mail["From"] = sender
    mail["To"] = recipient
    mail["Subject"] = subject
    mail["Date"] = format_datetime(delivery.sent_at)
    # The same for every try, so that a receiver can tell a repeated mail.
    mail["Message-ID"] = f"<{delivery.id}@{sender.domain if sender else 'zaqar-notify'}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail["Zaqar-Message-Id"] = delivery.message_id
    mail["Zaqar-Subscription-Id"] = delivery.subscription.id
    mail["Zaqar-Queue"] = delivery.subscription.queue.name
    mail.set_content(body)
    return mail


def _refusal(error: aiosmtplib.SMTPResponseException) -> Outcome:
    """A relay's 5xx about this mail is final; one about us, at greeting or login, can be mended."""
    is_about_the_mail = isinstance(
        error,
        aiosmtplib.SMTPSenderRefused | aiosmtplib.SMTPRecipientRefused | aiosmtplib.SMTPDataError,
    )
    is_final = is_about_the_mail and error.code >= 500
    return Outcome(
        Verdict.REFUSED if is_final else Verdict.TRY_LATER,
        error.code,
        text.detail(f"mail relay: {error.message}"),
    )


def _environment() -> dict[str, str]:
    """Ours without our settings, some of which are secrets."""
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}


def _text(option: object) -> str:
    return option if isinstance(option, str) else ""
