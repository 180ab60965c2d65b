"""How the sinks reach queues and suppressed addresses."""

from __future__ import annotations

from collections.abc import Sequence

from zaqar_notify import messages, subscriptions
from zaqar_notify.delivery import InternalPost
from zaqar_notify.models import NewMessage, QueueRef
from zaqar_notify.rules.certificates import SigningKey
from zaqar_notify.service import Service
from zaqar_notify.storage.suppressions import Suppression


class ServiceRelay:
    """Posts to the queues of this service; see `zaqar_notify.delivery.kinds.Relay`."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(
        self,
        ref: QueueRef,
        message: NewMessage,
        *,
        origin: str,
        visited: Sequence[str],
        hops: int,
        request_id: str,
    ) -> None:
        await messages.relay(
            self._service,
            ref,
            message,
            origin=origin,
            visited=visited,
            hops=hops,
            request_id=request_id,
        )

    async def signing_key(self) -> SigningKey:
        return await self._service.certificates.signing_key()

    async def leave(self, ref: QueueRef, internal: QueueRef, record: NewMessage) -> None:
        post = InternalPost([record], project=ref.project)
        async with self._service.storage.at(ref) as store:
            await store.messages.post(internal, post, now=self._service.clock.now())

    async def suppression(self, project: str, addressee: str) -> Suppression | None:
        found = await subscriptions.suppression_of(self._service, project, addressee)
        if found is not None:
            self._service.metrics.suppressed += 1
        return found

    def limit(self, project: str, quota: str) -> int:
        limit: int = getattr(self._service.quotas.limits.last_known_of(project), quota)
        return limit

    def held_back(self, quota: str) -> None:
        self._service.metrics.quota_refusals[quota] += 1
