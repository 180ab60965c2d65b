"""Mail through a relay, over connections that are used for many mails.

A connection is given back after each mail, and closed after some idle seconds. It is used again only after a
complete answer.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from contextlib import suppress

import aiosmtplib
import msgspec

from sinks import text
from sinks.carrier import Carrier, Trouble
from sinks.letter import Letter
from zaqar_notify.models import Outcome, Verdict
from zaqar_notify.rules.mail import read_mailbox
from zaqar_notify.settings.delivery import MailSettings


class SmtpTimes(msgspec.Struct, frozen=True):
    """Time limits for a relay, seconds: those of RFC 5321, 4.5.3.2, and ours."""

    reply: float = 300
    """Connecting, the greeting, and each command but DATA."""
    acceptance: float = 600
    """Once the mail has been sent: a relay that scans it first takes minutes."""
    reuse: float = 10
    """For the proof that an idle connection still answers."""
    idle: float = 15
    goodbye: float = 1


MAILS_PER_CONNECTION = 100
"""Relays have limits of their own; a new connection is polite before that."""

REFUSALS_PER_CONNECTION = 5
"""After many refused mails in a row, a relay hangs up with a reply that blames us."""

# As replies to any command: the service closes, or asks for authentication or TLS.
_ABOUT_US = frozenset({421, 530, 534, 535, 538})
# As reply to a mail: we send too much. As reply to a recipient: the mailbox may be unknown.
_TOO_MUCH = 454


class SmtpCarrier(Carrier):
    """Hands mails to the operator's relay.

    Args:
        tls: The certificates to trust; None: the system's.
    """

    def __init__(
        self,
        settings: MailSettings,
        *,
        tls: ssl.SSLContext | None = None,
        times: SmtpTimes = SmtpTimes(),  # noqa: B008 - immutable
    ) -> None:
        self._settings = settings
        self._tls = tls
        self._times = times
        self._idle: list[_Session] = []
        self._open = 0
        self._partings: set[asyncio.Task[None]] = set()

    async def hand_over(self, letter: Letter) -> Outcome:
        connection = await self._connection()
        has_answer = False
        try:
            outcome = await self._transact(connection.smtp, letter)
            has_answer = outcome.status is not None
            connection.refusals += outcome.verdict is not Verdict.DELIVERED
        finally:
            # Cancelled or in trouble, it may be in the middle of anything.
            if has_answer and connection.smtp.is_connected:
                self._give_back(connection)
            else:
                self._drop(connection)
        return outcome

    async def close(self) -> None:
        for connection in self._idle[:]:
            self._part_with(connection)
        await asyncio.gather(*self._partings)

    async def _transact(self, smtp: aiosmtplib.SMTP, letter: Letter) -> Outcome:
        try:
            await smtp.mail(letter.sender)
        except aiosmtplib.SMTPSenderRefused as error:
            kind = "" if error.code in {*_ABOUT_US, _TOO_MUCH} else letter.sender
            raise _trouble(error, "the sender", kind=kind) from error
        except (aiosmtplib.SMTPException, OSError) as error:
            raise _trouble(error, "the sender") from error
        try:
            await smtp.rcpt(letter.recipient)
            await smtp.data(letter.text("\r\n"), timeout=self._times.acceptance)
        except aiosmtplib.SMTPResponseException as error:
            return _judged(error)
        except (aiosmtplib.SMTPException, OSError) as error:
            # The relay may have it: were this no try, one that is slow would get copies for ever.
            return Outcome(Verdict.TRY_LATER, detail=_why(error, "the mail"))
        return Outcome(Verdict.DELIVERED, aiosmtplib.SMTPStatus.completed)

    async def _connection(self) -> _Session:
        """One that answers: used before, or new."""
        while self._idle:
            connection = self._idle.pop()
            connection.parting.cancel()
            try:
                await connection.smtp.rset(timeout=self._times.reuse)
            except (aiosmtplib.SMTPException, OSError):
                self._drop(connection)
            except BaseException:
                self._drop(connection)
                raise
            else:
                return connection
        return await self._connect()

    async def _connect(self) -> _Session:
        smtp = _client(self._settings, seconds=self._times.reply, tls=self._tls)
        try:
            await smtp.connect()
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            smtp.close()
            raise _trouble(error, "us", working=self._open) from error
        except BaseException:
            smtp.close()
            raise
        self._open += 1
        return _Session(smtp)

    def _give_back(self, connection: _Session) -> None:
        connection.mails += 1
        self._idle.append(connection)
        connection.parting = asyncio.get_running_loop().call_later(
            self._times.idle, self._part_with, connection
        )
        is_worn = connection.refusals >= REFUSALS_PER_CONNECTION
        if is_worn or connection.mails >= MAILS_PER_CONNECTION:
            self._part_with(connection)

    def _part_with(self, connection: _Session) -> None:
        """Say goodbye to an idle connection."""
        connection.parting.cancel()
        self._idle.remove(connection)
        parting = asyncio.get_running_loop().create_task(self._quit(connection))
        self._partings.add(parting)
        parting.add_done_callback(self._partings.discard)

    async def _quit(self, connection: _Session) -> None:
        try:
            with suppress(aiosmtplib.SMTPException, OSError):
                await connection.smtp.quit(timeout=self._times.goodbye)
        finally:
            self._drop(connection)

    def _drop(self, connection: _Session) -> None:
        connection.smtp.close()
        self._open -= 1


async def ask(settings: MailSettings, *, seconds: float) -> None:
    """Go as far as the relay's answer to our sender, and send no mail.

    Args:
        seconds: For the connection, and for each answer.

    Raises:
        SMTPException, OSError, TimeoutError: It can't be reached, or refuses us.
    """
    relay = _client(settings, seconds=seconds)
    try:
        async with asyncio.timeout(2 * seconds):
            await relay.connect()
            await relay.ehlo()
            if settings.smtp_sender:
                # Some ask for a login, or refuse the sender, only now.
                await relay.mail(read_mailbox(settings.smtp_sender).address)
            await relay.quit()
    finally:
        relay.close()


def _client(
    settings: MailSettings, *, seconds: float, tls: ssl.SSLContext | None = None
) -> aiosmtplib.SMTP:
    return aiosmtplib.SMTP(
        hostname=settings.smtp_host,
        port=settings.smtp_port,
        username=settings.smtp_username or None,
        password=settings.smtp_password.get_secret_value() or None,
        use_tls=settings.smtp_tls == "tls",
        start_tls=settings.smtp_tls == "starttls",
        tls_context=tls,
        timeout=seconds,
    )


class _Session:
    """Open, and greeted."""

    __slots__ = ("mails", "parting", "refusals", "smtp")

    def __init__(self, smtp: aiosmtplib.SMTP) -> None:
        self.smtp = smtp
        self.mails = 0
        self.refusals = 0
        self.parting: asyncio.TimerHandle


def _judged(error: aiosmtplib.SMTPResponseException) -> Outcome:
    """The outcome that a reply to the recipient or the mail stands for: 5yz is final."""
    is_recipient = isinstance(error, aiosmtplib.SMTPRecipientRefused)
    about = "the recipient" if is_recipient else "the mail"
    if error.code in _ABOUT_US or (error.code == _TOO_MUCH and not is_recipient):
        raise _trouble(error, about)
    return Outcome(
        Verdict.REFUSED if error.code >= 500 else Verdict.TRY_LATER,
        _status(error),
        _why(error, about),
        excerpt=text.detail(error.message),
    )


def _trouble(error: Exception, about: str, *, kind: str = "", working: int = 0) -> Trouble:
    why = _why(error, about)
    if not isinstance(error, aiosmtplib.SMTPResponseException):
        return Trouble(why, kind=kind, working=working)
    said = text.detail(error.message)
    return Trouble(why, status=_status(error), excerpt=said, kind=kind, working=working)


def _status(error: aiosmtplib.SMTPResponseException) -> int | None:
    """The reply's code; None: the reply is not SMTP."""
    return error.code if error.code > 0 else None


def _why(error: BaseException, about: str) -> str:
    """The reason in our own words: a relay's words may repeat a client's text."""
    cause = error.__cause__ or error
    match error:
        case aiosmtplib.SMTPAuthenticationError():
            return "the mail relay refused the login"
        case aiosmtplib.SMTPResponseException():
            return f"the mail relay refused {about}"
        case aiosmtplib.SMTPTimeoutError() | TimeoutError():
            return f"the mail relay did not answer to {about} in time"
        case aiosmtplib.SMTPServerDisconnected():
            return "the mail relay hung up"
    match cause:
        case socket.gaierror():
            return f"the mail relay's name can't be looked up: {cause.strerror}"
        case ssl.SSLError():
            return f"TLS with the mail relay failed: {cause.reason}"
        case OSError() if cause.errno and cause.errno > 0:
            return f"no connection to the mail relay: {os.strerror(cause.errno)}"
    # The rest are the library's own errors, such as a missing extension.
    return f"the mail relay can't be used: {text.detail(str(error))}"
