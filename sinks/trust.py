"""Deliveries to other services of an OpenStack cloud: webhooks with a token of the user who subscribed.

The token is made from a trust. It is sent only to addresses in Keystone's catalogue or on the operator's list, and
redirects are not followed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, ClassVar

from msgspec.structs import replace

from sinks import headers, text
from sinks.guard import AddressGuard
from sinks.webhook import WebhookKind, WebhookSink, check_url
from zaqar_notify.auth.keystone import keystone_of
from zaqar_notify.auth.keystone.refusals import TrustRefused
from zaqar_notify.delivery.kinds import Kind, Relay, Sink
from zaqar_notify.delivery.trusts import TRUST_ID
from zaqar_notify.errors import KeystoneUnavailable, ValidationFailed
from zaqar_notify.findings import Finding
from zaqar_notify.models import Delivery, JsonObject, Outcome, Verdict
from zaqar_notify.rules.unread import Warn
from zaqar_notify.settings import Settings

if TYPE_CHECKING:
    from zaqar_notify.auth.keystone.validator import Keystone

KEYSTONE_PAUSE_SECONDS = 5
"""How long a receiver waits when Keystone gives no answer."""


class TrustKind(WebhookKind):
    """Zaqar's `trust+http:` and `trust+https:`."""

    schemes = ("trust+http", "trust+https")
    options: ClassVar[Mapping[str, JsonObject]] = {
        TRUST_ID: {"type": ["string", "null"], "must": "be the id of a trust"},
    }
    needs_trust = True
    takes_batches = False

    def check(self, uri: str, settings: Settings) -> None:
        if "keystone" not in settings.auth:
            raise ValidationFailed(
                "subscriber: trust+ needs Keystone, and ZAQAR_AUTH has no keystone here"
            )
        check_url(_target(uri), _guard(settings))

    def check_options(self, options: JsonObject) -> None:
        # The others are the webhook's.
        Kind.check_options(self, options)

    def check_use(self, options: JsonObject) -> None:
        headers.check_identity(options.get("post_headers"), has_token=True)

    def warn_of_options(self, options: JsonObject, warn: Warn) -> None:
        return

    async def diagnose(self, settings: Settings) -> Sequence[Finding]:
        return ()

    def sink(self, settings: Settings, relay: Relay) -> Sink:
        return TrustSink(settings, _guard(settings), relay, keystone=keystone_of(settings))


class TrustSink(WebhookSink):
    """Posts with a token of the subscription's trust.

    Args:
        keystone: None: there is none, and all deliveries are refused.
    """

    def __init__(
        self,
        settings: Settings,
        guard: AddressGuard,
        relay: Relay | None = None,
        *,
        keystone: Keystone | None,
    ) -> None:
        super().__init__(settings, guard, relay)
        self._keystone = keystone

    async def deliver(self, delivery: Delivery) -> Outcome:
        trust_id = delivery.subscription.options.get(TRUST_ID)
        if self._keystone is None or not isinstance(trust_id, str):
            return Outcome(Verdict.REFUSED, detail="there is no Keystone here, or no trust")
        trusts, target = self._keystone.trusts, _target(delivery.subscription.subscriber)
        try:
            if not await trusts.permits(target):
                return Outcome(
                    Verdict.REFUSED,
                    detail="the address is neither in Keystone's catalogue nor in ZAQAR_TRUST_TARGETS",
                )
            token = await trusts.token(trust_id)
        except TrustRefused as refusal:
            verdict = Verdict.REFUSED if refusal.is_gone else Verdict.TRY_LATER
            return Outcome(verdict, detail=str(refusal))
        except KeystoneUnavailable as error:
            return Outcome(
                Verdict.POSTPONED,
                detail=text.detail(str(error)),
                retry_after_seconds=KEYSTONE_PAUSE_SECONDS,
            )
        outcome = await self.post(delivery, target, token=token)
        if outcome.status == HTTPStatus.UNAUTHORIZED:
            # The next attempt has a new token: this one may have been revoked.
            trusts.forget(trust_id, token)
            return replace(outcome, verdict=Verdict.TRY_LATER)
        return outcome

    async def close(self) -> None:
        await super().close()
        if self._keystone is not None:
            await self._keystone.close()


def _target(uri: str) -> str:
    """The address behind `trust+`."""
    return uri.partition("+")[2]


def _guard(settings: Settings) -> AddressGuard:
    """The guard without the ports of this service: a message to a queue of this service carries a token there, and
    counts on its hops."""
    return AddressGuard(
        allow=settings.delivery_allow, deny=settings.delivery_deny, ports=settings.delivery_ports
    )
