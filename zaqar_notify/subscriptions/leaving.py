"""Leaving jobs for the workers."""

from __future__ import annotations

from zaqar_notify.delivery import InternalMessage, InternalPost
from zaqar_notify.models import QueueRef
from zaqar_notify.service import Service


async def leave(service: Service, ref: QueueRef, record: InternalMessage) -> None:
    """Leave a record about queue `ref` for the workers, on the internal queue that it belongs to."""
    internal, message = record
    owed = InternalPost([message], project=ref.project)
    async with service.storage.at(ref) as store:
        await store.messages.post(internal, owed, now=service.clock.now())
    service.doorbell.ring(service.partition_of(ref))
