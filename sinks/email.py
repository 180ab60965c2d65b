"""Deliveries by mail: one plain-text mail per message, to the one address of a `mailto:` URI.

Mail leaves through the operator's relay (SMTP) or sendmail command. Both are named in the settings
and are trusted, so the address guard does not apply to them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

from sinks.base import Sink
from sinks.carrier import Carrier, NoCarrier, Trouble
from sinks.flow import Flow
from sinks.letter import write_letter
from sinks.sendmail import SendmailCarrier
from sinks.smtp import SmtpCarrier
from zaqar_notify.errors import ValidationFailed
from zaqar_notify.models import Delivery, MessageType, Outcome, Verdict
from zaqar_notify.settings import Settings
from zaqar_notify.subscribers import missing_for_mail


class EmailSink(Sink):
    """Mails to `mailto:` subscribers. What can't stand in a mail is refused before anything is sent.

    Args:
        carrier: What hands mails on; None: what the settings name.
    """

    schemes = ("mailto",)

    def __init__(
        self,
        settings: Settings,
        carrier: Carrier | None = None,
        *,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._carrier = carrier or _carrier(settings)
        self._flow = Flow(settings.smtp_connections, timer=timer)

    @property
    def troubles(self) -> Sequence[str]:
        return self._flow.troubles

    async def deliver(self, delivery: Delivery) -> Outcome:
        project = delivery.subscription.queue.project
        is_confirmation = delivery.kind is not MessageType.NOTIFICATION
        if is_confirmation and not self._settings.external_confirmation_url:
            return self._flow.slow_down(_NO_PAGE, project)
        try:
            letter = write_letter(delivery, self._settings)
        except ValidationFailed as error:
            return Outcome(Verdict.REFUSED, detail=str(error))
        return await self._flow.pass_on(
            project, letter.sender, partial(self._carrier.hand_over, letter)
        )

    async def close(self) -> None:
        await self._carrier.close()


_NO_PAGE = Trouble("confirmation mails need ZAQAR_EXTERNAL_CONFIRMATION_URL", kind="confirmations")


def _carrier(settings: Settings) -> Carrier:
    fault = missing_for_mail(settings)
    if fault:
        return NoCarrier(fault)
    if settings.sendmail_command:
        return SendmailCarrier(settings.sendmail_command)
    return SmtpCarrier(settings)
