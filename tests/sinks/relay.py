"""A mail relay: aiosmtpd on a real socket, in the test's own loop."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

USERNAME = "postman"
PASSWORD = "rings-twice"


@dataclass(frozen=True)
class Mail:
    """A mail as it arrived. `user` is who logged in."""

    sender: str
    recipients: list[str]
    raw: bytes
    over_tls: bool
    user: str | None

    @property
    def content(self) -> EmailMessage:
        parsed = message_from_bytes(self.raw, policy=policy.default)
        assert isinstance(parsed, EmailMessage)
        return parsed


@dataclass
class MailRelay:
    """Its replies to RCPT and DATA may be set; "250 OK" accepts."""

    port: int = 0
    to_recipient: str = "250 OK"
    to_data: str = "250 OK"
    mails: list[Mail] = field(default_factory=list)
    said_goodbye: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.to_recipient.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.to_recipient

    async def handle_DATA(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        if self.to_data.startswith("250"):
            assert isinstance(envelope.mail_from, str)
            assert isinstance(envelope.content, bytes)
            self.mails.append(
                Mail(
                    sender=envelope.mail_from,
                    recipients=list(envelope.rcpt_tos),
                    raw=envelope.content,
                    over_tls=session.ssl is not None,
                    user=session.auth_data.login.decode() if session.auth_data else None,
                )
            )
        return self.to_data

    async def handle_QUIT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        self.said_goodbye.set()
        return "221 Bye"

    def authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: object
    ) -> AuthResult:
        known = LoginPassword(USERNAME.encode(), PASSWORD.encode())
        return AuthResult(success=data == known, handled=False, auth_data=data)


@asynccontextmanager
async def relaying(
    *, starttls: ssl.SSLContext | None = None, needs_login: bool = False
) -> AsyncIterator[MailRelay]:
    relay = MailRelay()
    loop = asyncio.get_running_loop()

    def session() -> SMTP:
        return SMTP(
            relay,
            hostname="relay.test",
            tls_context=starttls,
            require_starttls=starttls is not None,
            auth_required=needs_login,
            authenticator=relay.authenticate,
            loop=loop,
        )

    server = await loop.create_server(session, "127.0.0.1", 0)
    relay.port = server.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        server.close()
        await server.wait_closed()
