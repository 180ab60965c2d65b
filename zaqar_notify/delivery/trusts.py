"""Rights that users give to subscriptions, and the records of those that were given.

A subscriber of some kinds is another service of the cloud. Deliveries to it act in the name of the user who
subscribed, by a trust of Keystone. The trust is deleted once no subscription uses it.
"""

from __future__ import annotations

from typing import Protocol

import msgspec
from msgspec.structs import replace

from zaqar_notify.delivery.kinds import Kinds
from zaqar_notify.delivery.records import OWED_TTL_SECONDS, PLAIN, InternalMessage, encode
from zaqar_notify.errors import ValidationFailed
from zaqar_notify.models import JsonObject, NewMessage, QueueRef, Subscription, undisclosed
from zaqar_notify.storage.internal import TRUSTS_REF

TRUST_ID = "trust_id"
"""The option that names the trust of a subscription."""


class Asker(msgspec.Struct, frozen=True):
    """The user of a request, with the token of Keystone that the request carries."""

    user: str
    project: str
    roles: frozenset[str]
    token: str

    __repr__ = undisclosed


class Delegations(Protocol):
    """Lets the service act in a user's name, after the user's request."""

    async def grant(self, subscription: Subscription, asker: Asker) -> str:
        """The id of a trust for a subscription that is about to be stored: the one that its options name, or a new one.

        Raises:
            ValidationFailed: The subscriber may not get the asker's rights, or the asker can't give them.
            KeystoneUnavailable: Keystone gives no answer.
        """

    async def delete_unused(self) -> int:
        """Delete the trusts that were made here and that no subscription uses any more; return their number.

        A trust that Keystone does not delete now is tried again the next time.

        Raises:
            StorageUnavailable: No answer came.
        """


async def with_trust(
    subscription: Subscription,
    *,
    kinds: Kinds,
    delegations: Delegations | None,
    asker: Asker | None,
) -> Subscription:
    """The subscription, with a trust of the asker if its subscriber needs one.

    Raises:
        ValidationFailed: There is no Keystone here, or it does not know the asker; as `Delegations.grant`.
        KeystoneUnavailable: Keystone gives no answer.
    """
    if not kinds.needs_trust(subscription.subscriber):
        return subscription
    if delegations is None or asker is None:
        raise ValidationFailed(
            "subscriber: trust+ needs Keystone: ZAQAR_AUTH with keystone, and a request with a token of Keystone"
        )
    trust_id = await delegations.grant(subscription, asker)
    return replace(subscription, options=subscription.options | {TRUST_ID: trust_id})


def without_trust(options: JsonObject) -> JsonObject:
    return {name: value for name, value in options.items() if name != TRUST_ID}


class MadeTrust(msgspec.Struct, frozen=True):
    """The record of a trust that the service made for a subscription.

    If the subscription repeated another one of the subscriber, that one has the trust.
    """

    version: int
    trust_id: str
    project: str
    queue: str
    subscription_id: str
    subscriber: str

    @property
    def ref(self) -> QueueRef:
        return QueueRef(self.project, self.queue)


_decoder = msgspec.json.Decoder(MadeTrust)


def made_trust(trust_id: str, subscription: Subscription) -> InternalMessage:
    """The record, for the internal queue of trusts.

    It is written before the subscription is stored.
    """
    ref = subscription.queue
    record = MadeTrust(
        PLAIN, trust_id, ref.project, ref.name, subscription.id, subscription.subscriber
    )
    return TRUSTS_REF, NewMessage(body=encode(record), ttl=OWED_TTL_SECONDS)


def read_made_trust(body: bytes) -> MadeTrust:
    """Read a record.

    Raises:
        ValueError: It is malformed.
    """
    return _decoder.decode(body)
