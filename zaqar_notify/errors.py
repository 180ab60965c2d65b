"""Every error that the domain raises on purpose.

NotifyError
├── ValidationFailed            a value breaks a rule                      400
│   ├── BodyInvalid             not JSON, wrong type, missing field        400
│   │   └── PoolUnreachable     no store can be used at its URI            400
│   ├── QueueNameInvalid, TopicNameInvalid                                 400
│   ├── ProjectInvalid          its name is too long                       400
│   ├── PostRefused             a message filter refuses the post          400
│   ├── ClaimNotHeld            delete with a dead or foreign claim        400
│   ├── PoolRefused             it is not like the others of its flavor    400
│   └── FlavorRefused, FlavorNotChanged    its pools are none, or not alike   400
├── SubscriptionNotChanged      nothing in the request can be changed      400
├── NotPermitted
│   ├── RuleNotPermitted        the policy's rule for it says no           403
│   ├── QuotaExceeded           the project has as much as it may          403
│   ├── ProjectNotPermitted     the token is another project's             403
│   ├── QueueNotPermitted       the token is confined to other queues      403
│   ├── PostNotPermitted        a message filter does not permit the post  403
│   ├── MessageIsClaimed        delete without the claim that holds it     403
│   ├── PoolInUse               it has queues, or is its flavor's last      403
│   ├── ConfirmationNotSigned   to confirm is the subscriber's to do       403
│   └── OwnDelivery             a webhook of ours that leads back to us    403
├── DoesNotExist                                                           404
│   ├── QueueDoesNotExist, MessageDoesNotExist, ClaimDoesNotExist,
│   │   SubscriptionDoesNotExist, PoolDoesNotExist, FlavorDoesNotExist, MoveDoesNotExist,
│   │   ReplayDoesNotExist
│   ├── WebhooksNotSigned       there is no secret to show or rotate
│   ├── CertificateDoesNotExist  of a key that signs SNS envelopes
│   └── SignatureRefused        a pre-signed request that does not verify  404
├── Conflict                                                               409
│   ├── MetadataConflict        JSON patch names an absent key
│   ├── SubscriptionExists      same subscriber, confirmed already
│   ├── IdempotencyKeyReused    same key, another body
│   ├── QueueMoves              it moves to another pool just now
│   ├── TooManyReplays          the project has as many under way as it may
│   └── PoolExists              another pool has the URI
├── FilterFailed                a message filter failed                    500
├── CannotDecrypt               an encryption key is missing, or damage    503
├── RateExceeded                the project does more at once than it may  503
├── Overloaded                  the process has too much under way         503
├── KeystoneUnavailable         it gives no answer about a token           503
├── ServiceStopping             the process ends before the request could  503
└── StorageUnavailable          the store can't do it now                  503
    ├── StorageFull             there is no room for more
    ├── StorageLocked           another program holds its lock
    ├── StorageDamaged          the file is gone, cut off or unreadable
    ├── StorageRefused          it refuses our account: password or rights
    ├── StorageLeaderless       no primary, or no majority to acknowledge
    └── KeyMissing              of encryption; the store itself is well
        ├── EncryptionImpossible    the queue asks for it, and there is no key
        └── SubscriptionLocked      it can't be decrypted

Those that only a request over HTTP can cause are in `api/refusals.py`. How each is answered is one
table, `api/errors.py`. `StartRefused` is not among them: it
ends the process at its start.
"""

from __future__ import annotations

import math
from collections.abc import Collection

from zaqar_notify.models import TOPIC_MARK


class NotifyError(Exception):
    """An expected failure; its text is a sentence for the caller.

    Where the text is for the operator's log, `for_clients` is the sentence for callers. `retry_after_seconds` is the
    pause after which the same request may succeed; None: repeating it is of no use.
    """

    for_clients: str = ""
    retry_after_seconds: int | None = None


class ValidationFailed(NotifyError):
    """A value breaks a rule; the sentence names the field, the limit and the unit."""


class BodyInvalid(ValidationFailed):
    """The request body is not JSON, or a field is missing or of the wrong type."""


def called(queue: str) -> str:
    """A queue or a topic as sentences name it, by its stored name."""
    if queue.startswith(TOPIC_MARK):
        return f"topic {queue.removeprefix(TOPIC_MARK)!r}"
    return f"queue {queue!r}"


def _beginning(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


NAME_RULE = "1 to {most} characters of A-Z a-z 0-9 _ - and ., but neither . nor .."
QUEUE_NAME_RULE = POOL_NAME_RULE = NAME_RULE.format(most=64)
FLAVOR_NAME_RULE = NAME_RULE.format(most=255)


class QueueNameInvalid(ValidationFailed):
    def __init__(self, name: str) -> None:
        super().__init__(f"Queue name {name[:80]!r} is not valid: {QUEUE_NAME_RULE}")


class TopicNameInvalid(ValidationFailed):
    def __init__(self, name: str) -> None:
        super().__init__(f"Topic name {name[:80]!r} is not valid: {QUEUE_NAME_RULE}")


class ProjectInvalid(ValidationFailed):
    def __init__(self, characters: int, most: int) -> None:
        super().__init__(f"The project has {characters} characters; at most {most} are allowed")


class PostRefused(ValidationFailed):
    """A message filter refuses the post. The sentence is the filter's, for the client."""


class ClaimNotHeld(ValidationFailed):
    def __init__(self, claim_id: str, message_id: str) -> None:
        super().__init__(
            f"Claim {claim_id[:80]!r} does not hold message {message_id[:80]!r}: "
            "it has expired, was released, or holds other messages"
        )


class PoolUnreachable(BodyInvalid):
    """`uri` is shown without its password."""

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(f"cannot connect to {uri}: {reason}")


class PoolRefused(ValidationFailed):
    """The pool can't be of its flavor."""


class FlavorRefused(ValidationFailed):
    """The flavor can't have these pools."""

    def __init__(self, flavor: str, reason: str) -> None:
        super().__init__(f"Flavor {flavor} could not be created, error:{reason}")


class FlavorNotChanged(ValidationFailed):
    """The flavor can't have these pools instead of its own."""

    def __init__(self, flavor: str, reason: str) -> None:
        super().__init__(f"Flavor {flavor} could not be updated, error:{reason}")


class SubscriptionNotChanged(NotifyError):
    def __init__(self) -> None:
        super().__init__(
            "Nothing to change: send subscriber, ttl or options, and neither project nor queue"
        )


class NotPermitted(NotifyError):
    """The caller may not do this to a thing that exists."""


class RuleNotPermitted(NotPermitted):
    def __init__(self, rule: str, roles: Collection[str]) -> None:
        has = f"whose roles are {', '.join(sorted(roles))}" if roles else "who has no role"
        super().__init__(f"The policy's rule {rule} does not permit this to the caller, {has}")


class QuotaExceeded(NotPermitted):
    """The project would have more than its quota."""

    def __init__(self, name: str, *, limit: int, used: int, remedy: str) -> None:
        super().__init__(
            f"The quota {name} of the project is {limit}, and {used} are in use: {remedy}, or ask the operator "
            "for a larger quota"
        )
        self.name = name


class ProjectNotPermitted(NotPermitted):
    def __init__(self, named: str) -> None:
        super().__init__(
            f"The token is not of the project {named[:80]!r} that X-Project-ID names; leave the header out"
        )


class QueueNotPermitted(NotPermitted):
    def __init__(self, pattern: str) -> None:
        super().__init__(
            f"The token or signature is confined to queues that match {pattern!r}; name such a queue"
        )


class PostNotPermitted(NotPermitted):
    """A message filter does not permit the post. The sentence is the filter's, for the client."""


class MessageIsClaimed(NotPermitted):
    def __init__(self, message_id: str) -> None:
        super().__init__(
            f"Message {message_id[:80]!r} is under a live claim; name it in claim_id to delete the message"
        )


class PoolInUse(NotPermitted):
    """The pool can't be deleted; the sentence says what needs it."""


class ConfirmationNotSigned(NotPermitted):
    def __init__(self) -> None:
        super().__init__(
            "Only the subscriber can confirm, with the signed request that it received; "
            "repeat the POST of the subscription to send the request again"
        )


class OwnDelivery(NotPermitted):
    def __init__(self) -> None:
        super().__init__(
            "This is a delivery of this service itself, with neither a token nor a signature. "
            "A subscription can't call this API; subscribe with queue:NAME instead"
        )


class DoesNotExist(NotifyError):
    """A named thing is absent, has expired, or is another project's."""


class QueueDoesNotExist(DoesNotExist):
    def __init__(self, name: str) -> None:
        super().__init__(f"{_beginning(called(name))} does not exist")


class MessageDoesNotExist(DoesNotExist):
    def __init__(self, queue: str, *message_ids: str) -> None:
        named = ", ".join(message_id[:80] for message_id in message_ids)
        super().__init__(f"Message {named} does not exist on {called(queue)}")


class ClaimDoesNotExist(DoesNotExist):
    def __init__(self, queue: str, claim_id: str) -> None:
        super().__init__(
            f"Claim {claim_id[:80]!r} does not exist on {called(queue)}, or has expired"
        )


class SubscriptionDoesNotExist(DoesNotExist):
    def __init__(self, queue: str, subscription_id: str) -> None:
        super().__init__(f"Subscription {subscription_id[:80]!r} does not exist on {called(queue)}")


class DeliveryNotLogged(DoesNotExist):
    def __init__(self, delivery_id: str) -> None:
        super().__init__(
            f"The log has no attempt of the delivery {delivery_id[:80]!r}: it is kept for "
            "ZAQAR_DELIVERY_LOG_SECONDS, and a first attempt that succeeds only with ZAQAR_DELIVERY_LOG=all"
        )


class PoolDoesNotExist(DoesNotExist):
    def __init__(self, name: str) -> None:
        super().__init__(f"Pool {name[:80]} does not exist")


class FlavorDoesNotExist(DoesNotExist):
    def __init__(self, name: str) -> None:
        super().__init__(f"Flavor {name[:255]} does not exist")


class MoveDoesNotExist(DoesNotExist):
    def __init__(self, name: str) -> None:
        super().__init__(f"There is no move {name[:80]!r}")


class ReplayDoesNotExist(DoesNotExist):
    def __init__(self, name: str) -> None:
        super().__init__(f"There is no replay {name[:80]!r}")


class WebhooksNotSigned(DoesNotExist):
    def __init__(self) -> None:
        super().__init__("Webhooks are not signed here: ZAQAR_WEBHOOK_SECRET is not set")


class CertificateDoesNotExist(DoesNotExist):
    def __init__(self, name: str) -> None:
        super().__init__(f"Certificate {name[:80]} does not exist")


class SignatureRefused(DoesNotExist):
    """The signature of a pre-signed request does not cover it, or has expired."""

    def __init__(self) -> None:
        super().__init__("The URL signature has expired or does not cover this request")


class LinkNotValid(DoesNotExist):
    """A link with a token was changed or has expired, or its subscription has ended or has another subscriber."""

    def __init__(self) -> None:
        super().__init__("The link is not valid, or not any more")


class Conflict(NotifyError):
    """The request contradicts the stored state."""


class MetadataConflict(Conflict):
    def __init__(self, key: str) -> None:
        super().__init__(f"The queue's metadata has no key {key[:80]!r} to replace or remove")


class SubscriptionExists(Conflict):
    def __init__(self, queue: str, subscriber: str) -> None:
        super().__init__(
            f"{_beginning(called(queue))} has a subscription for {subscriber[:200]!r} already"
        )


class IdempotencyKeyReused(Conflict):
    def __init__(self, key: str) -> None:
        super().__init__(f"Idempotency-Key {key[:80]!r} was used on this queue with another body")


class QueueMoves(Conflict):
    def __init__(self, name: str, pool: str) -> None:
        super().__init__(
            f"Queue {name!r} moves to pool {pool} just now: cancel that move first, or wait until it is over"
        )


class TooManyReplays(Conflict):
    def __init__(self, most: int) -> None:
        super().__init__(
            f"The project has {most} replays and redrives under way, as many as it may: wait until one is over, or "
            "cancel one"
        )


class PoolExists(Conflict):
    def __init__(self, name: str) -> None:
        super().__init__(f"The database URI is in use by another pool: {name}")


class FilterFailed(NotifyError):
    """A message filter failed, so nothing was stored."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The message filter {name!r} of this service failed, so nothing was stored; its operator finds the reason in "
            "the log"
        )


class CannotDecrypt(NotifyError):
    """Stored data is encrypted under `key_id`, and can't be read now; "": damage hides the key."""

    def __init__(self, key_id: str, *, is_known: bool) -> None:
        self.key_id = key_id
        reason = (
            "is damaged, or is not what was stored here"
            if is_known
            else "can't be read: ZAQAR_ENCRYPTION_KEYS has no key of this id"
        )
        under = f" under the key {key_id!r}" if key_id else ""
        super().__init__(f"What is encrypted{under} {reason}")


class RateExceeded(NotifyError):
    """The project makes or posts more than its rate, or has as much under way as it may."""

    def __init__(self, name: str, limit: int, retry_after_seconds: float) -> None:
        self.retry_after_seconds = max(1, math.ceil(retry_after_seconds))
        super().__init__(
            f"The quota {name} of the project is {limit}; nothing was done. Repeat the request after "
            f"{self.retry_after_seconds} s, or ask the operator for a larger quota"
        )


class Overloaded(NotifyError):
    retry_after_seconds = 1

    def __init__(self) -> None:
        super().__init__(
            "The process answers as many requests as it may at once; nothing was done. "
            "Please repeat the request in a moment"
        )


class KeystoneUnavailable(NotifyError):
    """Keystone gives no answer, so a token is neither valid nor invalid."""

    for_clients = "Keystone, which validates tokens, gave no answer. Please retry in a moment."
    retry_after_seconds = 1


class ServiceStopping(NotifyError):
    retry_after_seconds = 1

    def __init__(self) -> None:
        super().__init__("The service is stopping. Please retry in a moment.")


class StorageUnavailable(NotifyError):
    """The store can't do it now; the write may have happened or not."""

    for_clients = "The store gave no answer. Please retry in a moment."
    retry_after_seconds = 1


class StorageFull(StorageUnavailable):
    for_clients = (
        "The store is full until messages are deleted or expire; reads, claims and deletes go on."
    )


class StorageLocked(StorageUnavailable):
    for_clients = "Another program holds the store's lock. Please retry in a moment."


class StorageDamaged(StorageUnavailable):
    for_clients = "The store's data is damaged or gone; the store takes no writes until its operator restores it."


class StorageRefused(StorageUnavailable):
    for_clients = "The store refuses the service's account; its operator must correct the account."


class StorageLeaderless(StorageUnavailable):
    for_clients = (
        "The store has no primary or no majority to acknowledge a write. Please retry in a moment."
    )


class PoolAway(StorageUnavailable):
    for_clients = "The store of this queue's pool gives no answer. Please retry in a moment."


class NoPoolFits(StorageUnavailable):
    for_clients = "No pool of the queue's flavor takes new queues now. Please retry in a moment."


class KeyMissing(StorageUnavailable):
    """A key of encryption is missing, or what it encrypted is damaged. This is no outage of the store."""


class EncryptionImpossible(KeyMissing):
    for_clients = (
        "The queue encrypts its messages, and the service has no key for that; "
        "its operator must set ZAQAR_ENCRYPTION_KEYS."
    )

    def __init__(self, queue: str) -> None:
        super().__init__(
            f"Queue {queue!r} encrypts its messages, and ZAQAR_ENCRYPTION_KEYS is not set"
        )


class SubscriptionLocked(KeyMissing):
    def __init__(self, reason: CannotDecrypt) -> None:
        super().__init__(f"A subscription can't be read. {reason}")
        self.for_clients = str(self)


class StartRefused(Exception):
    """The process must not start; the sentence says which setting or state is wrong, and why."""
