"""Mail sinks, closed when the test is over."""

from __future__ import annotations

import ssl
from typing import Any

from sinks.carrier import Carrier
from sinks.email import EmailSink
from sinks.smtp import SmtpCarrier, SmtpTimes
from tests.sinks.relay import MailRelay
from tests.sinks.test_queue import RecordingRelay
from zaqar_notify.settings import Settings


class Mailers:
    def __init__(self) -> None:
        self._sinks: list[EmailSink] = []
        self.service = RecordingRelay()

    def to(self, relay: MailRelay, **settings: Any) -> EmailSink:
        return self.at(relay.port, **settings)

    def at(
        self,
        port: int,
        *,
        times: SmtpTimes | None = None,
        tls: ssl.SSLContext | None = None,
        **settings: Any,
    ) -> EmailSink:
        """Hands mails to the relay at this port of loopback."""
        all_settings = mail_settings(port, **settings)
        carrier = None
        if times or tls:
            carrier = SmtpCarrier(all_settings, tls=tls, times=times or SmtpTimes())
        return self.of(all_settings, carrier)

    def of(self, settings: Settings, carrier: Carrier | None = None) -> EmailSink:
        sink = EmailSink(settings, self.service, carrier)
        self._sinks.append(sink)
        return sink

    async def close(self) -> None:
        for sink in self._sinks:
            await sink.close()


def mail_settings(port: int, **settings: Any) -> Settings:
    defaults = {
        "smtp_host": "127.0.0.1",
        "smtp_port": port,
        "smtp_sender": "Zaqar <zaqar@example.org>",
        "delivery_timeout_seconds": 5,
    }
    return Settings.model_validate(defaults | settings)
