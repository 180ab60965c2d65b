"""A synchronous client of the service, for programs and for the command line.

with Client() as client:
    client.post("jobs", {"do": "this"})
    with client.claim("jobs", wait=20) as claim:
        for message in claim.messages:
            work(message.body)
            claim.delete(message)
"""

from zaqar_notify.client.claim import Claim
from zaqar_notify.client.client import DEFAULT_PROJECT, DEFAULT_URL, Client
from zaqar_notify.client.deliveries import (
    Attempt,
    AttemptPage,
    Deliveries,
    Delivery,
    SubscriptionStats,
)
from zaqar_notify.client.errors import (
    BadRequest,
    ClientError,
    Conflict,
    Forbidden,
    NotFound,
    ServiceError,
    ServiceUnavailable,
    ServiceUnreachable,
    ServiceWarning,
    Unauthorized,
)
from zaqar_notify.client.models import (
    NEVER_SECONDS,
    Attribute,
    Disabled,
    Message,
    Page,
    QueueEnd,
    QueueStats,
    QueueSummary,
    RawJson,
    Replay,
    SignedUrl,
    Subscription,
    Suppression,
    Tested,
    Undelivered,
)
from zaqar_notify.client.transport import PAUSES_SECONDS

__all__ = [
    "DEFAULT_PROJECT",
    "DEFAULT_URL",
    "NEVER_SECONDS",
    "PAUSES_SECONDS",
    "Attempt",
    "AttemptPage",
    "Attribute",
    "BadRequest",
    "Claim",
    "Client",
    "ClientError",
    "Conflict",
    "Deliveries",
    "Delivery",
    "Disabled",
    "Forbidden",
    "Message",
    "NotFound",
    "Page",
    "QueueEnd",
    "QueueStats",
    "QueueSummary",
    "RawJson",
    "Replay",
    "ServiceError",
    "ServiceUnavailable",
    "ServiceUnreachable",
    "ServiceWarning",
    "SignedUrl",
    "Subscription",
    "SubscriptionStats",
    "Suppression",
    "Tested",
    "Unauthorized",
    "Undelivered",
]
