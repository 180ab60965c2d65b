"""A mail relay: aiosmtpd on a real socket, in the test's own loop."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, cast

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

USERNAME = "postman"
PASSWORD = "rings-twice"


@dataclass(frozen=True)
class Mail:
    """A mail as it arrived. `user` is the account that logged in."""

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
    """Its replies to MAIL, RCPT and DATA may be set; "250 OK" accepts.

    It takes `most_connections` at once and `quota` mails. While `scanned` is not set, it looks at
    the mails that it got, and has not answered.
    """

    port: int = 0
    most_connections: int = 1000
    quota: int = 1000
    to_sender: str = "250 OK"
    to_recipient: str = "250 OK"
    to_data: str = "250 OK"
    mails: list[Mail] = field(default_factory=list)
    said_goodbye: asyncio.Event = field(default_factory=asyncio.Event)
    got_mail: asyncio.Event = field(default_factory=asyncio.Event)
    scanned: asyncio.Event = field(default_factory=asyncio.Event)
    connections: list[asyncio.BaseTransport] = field(default_factory=list)
    connections_made: int = 0
    most_connections_seen: int = 0
    refusals: int = 0
    """Of connections and of senders."""

    async def handle_MAIL(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        reply = self.to_sender
        if len(self.mails) >= self.quota:
            reply = "450 4.7.1 too much mail from you"
        if reply.startswith("250"):
            envelope.mail_from = address
        else:
            self.refusals += 1
        return reply

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.to_recipient.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.to_recipient

    async def handle_DATA(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        self.got_mail.set()
        await self.scanned.wait()
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


class _Session(SMTP):
    def __init__(self, relay: MailRelay, **arguments: Any) -> None:
        super().__init__(relay, **arguments)
        self._relay = relay
        self._was_taken = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        relay = self._relay
        if len(relay.connections) >= relay.most_connections:
            relay.refusals += 1
            cast(asyncio.Transport, transport).write(b"421 4.7.0 too many connections\r\n")
            transport.close()
            return
        if not self._was_taken:  # With STARTTLS it is made twice.
            self._was_taken = True
            relay.connections.append(transport)
            relay.connections_made += 1
            relay.most_connections_seen = max(relay.most_connections_seen, len(relay.connections))
            self._first = transport
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        if self._was_taken:
            if self._first in self._relay.connections:
                self._relay.connections.remove(self._first)
            super().connection_lost(error)


@asynccontextmanager
async def relaying(
    *, starttls: ssl.SSLContext | None = None, needs_login: bool = False
) -> AsyncIterator[MailRelay]:
    relay = MailRelay()
    relay.scanned.set()
    loop = asyncio.get_running_loop()

    def session() -> SMTP:
        return _Session(
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
