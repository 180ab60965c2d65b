"""The trusts of subscriptions: made at the user's request, and deleted once no subscription uses them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from datetime import timedelta

from zaqar_notify.auth.keystone.trusts import Trusts
from zaqar_notify.clock import Clock
from zaqar_notify.delivery import InternalPost
from zaqar_notify.delivery.trusts import TRUST_ID, Asker, MadeTrust, made_trust, read_made_trust
from zaqar_notify.errors import KeystoneUnavailable, ValidationFailed
from zaqar_notify.models import Message, Subscription
from zaqar_notify.storage.internal import TRUSTS_REF
from zaqar_notify.storage.planes import Storage

GRACE = timedelta(seconds=60)
"""The time between a trust and its subscription, at most."""
PAGE = 100
MOST_FAILURES = 3
"""In one round: then Keystone is left alone until the next."""

logger = logging.getLogger(__name__)


class KeystoneDelegations:
    """Trusts for subscribers with `trust+`. Belongs to one event loop."""

    def __init__(self, trusts: Trusts, storage: Storage, clock: Clock) -> None:
        self._trusts = trusts
        self._storage = storage
        self._clock = clock

    async def grant(self, subscription: Subscription, asker: Asker) -> str:
        """As `Delegations.grant`."""
        target = subscription.subscriber.partition("+")[2]
        if not await self._trusts.permits(target):
            raise ValidationFailed(
                "subscriber: trust+ is only for addresses in Keystone's catalogue or in ZAQAR_TRUST_TARGETS: "
                "a token of yours is sent there"
            )
        given = subscription.options.get(TRUST_ID)
        if given is not None:
            await self._trusts.check(given, asker)
            return str(given)
        trust_id = await self._trusts.make(asker, expires_at=subscription.expires_at)
        ref, record = made_trust(trust_id, subscription)
        owed = InternalPost([record], project=asker.project)
        await self._storage.messages.post(ref, owed, now=self._clock.now())
        return trust_id

    async def delete_unused(self) -> int:
        """As `Delegations.delete_unused`."""
        deleted = failures = 0
        async for message, trust in self._made():
            if await self._is_used(trust):
                continue
            try:
                await self._trusts.delete(trust.trust_id)
            except KeystoneUnavailable as error:
                _log_failure(trust, error)
                failures += 1
                if failures == MOST_FAILURES:
                    break
                continue
            await self._storage.messages.delete_many(
                TRUSTS_REF, [message.id], claim_ids=None, now=self._clock.now()
            )
            deleted += 1
        return deleted

    async def _made(self) -> AsyncIterator[tuple[Message, MadeTrust]]:
        """The records of trusts whose subscription is stored by now, unless it was refused."""
        marker: str | None = None
        last = self._clock.now() - GRACE
        while True:
            page = await self._storage.messages.page(
                TRUSTS_REF, marker=marker, limit=PAGE, now=self._clock.now()
            )
            for message in page.messages:
                if message.posted_at > last:
                    return
                yield message, read_made_trust(message.body)
            if len(page.messages) < PAGE:
                return
            marker = page.marker

    async def _is_used(self, trust: MadeTrust) -> bool:
        now = self._clock.now()
        subscriptions = self._storage.subscriptions
        found = await subscriptions.get(trust.ref, trust.subscription_id, now=now)
        if found is None:
            found = await subscriptions.of_subscriber(trust.ref, trust.subscriber, now=now)
        return found is not None and found.options.get(TRUST_ID) == trust.trust_id


def _log_failure(trust: MadeTrust, error: KeystoneUnavailable) -> None:
    facts = {
        "action": "trust_not_deleted",
        "trust_id": trust.trust_id,
        "project": trust.project,
        "queue": trust.queue,
        "subscription_id": trust.subscription_id,
        "error": str(error),
    }
    logger.warning("A trust could not be deleted; it is tried again", extra=facts)
