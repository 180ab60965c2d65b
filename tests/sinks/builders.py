"""Deliveries for tests, with every default filled in."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from zaqar_notify.models import (
    Delivery,
    JsonObject,
    MessageType,
    NewMessage,
    QueueRef,
    Subscription,
)

SENT_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PAYLOAD = (
    b'{"ttl": 60, "body": {"any": "json"}, "Message_Type": "Notification", "queue_name": "q1"}'
)


def delivery_to(
    subscriber: str,
    *,
    options: JsonObject | None = None,
    payload: bytes = PAYLOAD,
    body: bytes = b'{"any": "json"}',
    attributes: bytes | None = None,
    kind: MessageType = MessageType.NOTIFICATION,
    attempt: int = 1,
    sent_at: datetime = SENT_AT,
    secrets: Sequence[str] = (),
    hops: int = 0,
    project: str = "project1",
    queue: str = "q1",
) -> Delivery:
    subscription = Subscription(
        id="subscription1",
        queue=QueueRef(project, queue),
        subscriber=subscriber,
        ttl=3600,
        options=options or {},
        created_at=SENT_AT,
        expires_at=SENT_AT + timedelta(hours=1),
    )
    return Delivery(
        id="delivery1",
        kind=kind,
        subscription=subscription,
        message_id="message1",
        payload=payload,
        message=NewMessage(body=body, ttl=60, attributes=attributes),
        attempt=attempt,
        sent_at=sent_at,
        secrets=list(secrets),
        origin="origin1",
        hops=hops,
    )
