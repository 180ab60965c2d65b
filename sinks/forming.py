"""Puts deliveries into the form that their subscription asks for, with the key that signs SNS envelopes."""

from __future__ import annotations

from zaqar_notify.delivery.forms import CannotForm, Form, form_of
from zaqar_notify.delivery.kinds import Relay
from zaqar_notify.errors import StorageUnavailable, WebhooksNotSigned
from zaqar_notify.models import Delivery, Outcome, Verdict
from zaqar_notify.rules.certificates import SigningKey
from zaqar_notify.rules.formats import sns_version
from zaqar_notify.settings import Settings

OPERATOR_PAUSE_SECONDS = 30
"""How long deliveries wait that lack a setting of the operator."""


class Unformed(Exception):
    """The delivery can't be sent in its form; `outcome` is the result of the attempt."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.detail)
        self.outcome = outcome


async def formed(delivery: Delivery, settings: Settings, relay: Relay | None) -> Form:
    """The delivery in its form.

    Args:
        relay: None: no SNS envelope can be signed.

    Raises:
        Unformed: It has none; it waits if the fault is ours or the operator's.
    """
    try:
        return form_of(delivery, settings, key=await _key(delivery, settings, relay))
    except CannotForm as error:
        raise Unformed(Outcome(Verdict.REFUSED, detail=str(error))) from error
    except StorageUnavailable as error:
        raise Unformed(Outcome(Verdict.POSTPONED, detail=error.for_clients)) from error
    except WebhooksNotSigned as error:
        wait = OPERATOR_PAUSE_SECONDS
        outcome = Outcome(Verdict.POSTPONED, detail=str(error), retry_after_seconds=wait)
        raise Unformed(outcome) from error


async def _key(delivery: Delivery, settings: Settings, relay: Relay | None) -> SigningKey | None:
    if not sns_version(delivery.subscription.options):
        return None
    if relay is None or not settings.public_url.startswith("https://"):
        raise WebhooksNotSigned
    return await relay.signing_key()
