"""The subscriptions that the sockets of this process hold, and the process's will about them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from zaqar_notify.delivery import InternalPost
from zaqar_notify.delivery.wills import Held, Times, wills
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.service import Service
from zaqar_notify.storage.internal import WILLS_REF

logger = logging.getLogger(__name__)


class Holdings:
    """Keeps a will in the store, by which these subscriptions end if this process does not come back.

    A subscription is in a will before it is stored. Each will is replaced by a new one before it is due, as long as
    the process lives. The subscriptions of a socket that is gone are in a last will, which is not replaced.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._times = Times(service.settings.websocket_grace_seconds)
        self._held: set[Held] = set()
        self._left: list[Held] = []
        """Held by sockets that are gone; in no last will yet."""
        self._wills: list[str] = []
        """The ids of the wills in the store that are to be replaced."""
        self._renewing: asyncio.Task[None] | None = None

    async def begin(self, held: Held) -> None:
        """Before the subscription is stored: it ends with this process.

        Raises:
            StorageUnavailable: No answer came.
        """
        self._wills += await self._leave([held], self._times.due_after)
        self._held.add(held)
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._renew_regularly())

    def end(self, held: Held) -> None:
        """The socket is gone: the subscription ends, unless the client comes back in time."""
        self._held.discard(held)
        self._left.append(held)

    async def _renew_regularly(self) -> None:
        while self._held or self._left or self._wills:
            await asyncio.sleep(self._times.renewed_every)
            try:
                await self._renew()
            except StorageUnavailable as error:
                logger.warning(
                    "The store is unavailable; subscriptions of WebSockets may end",
                    extra={"action": "storage_unavailable", "error": str(error)},
                )
        self._renewing = None

    async def _renew(self) -> None:
        former, left = list(self._wills), list(self._left)
        self._wills += await self._leave(list(self._held), self._times.due_after)
        await self._leave(left, self._times.grace)
        del self._left[: len(left)]
        messages, now = self._service.storage.messages, self._service.clock.now()
        await messages.delete_many(WILLS_REF, former, claim_ids=None, now=now)
        del self._wills[: len(former)]

    async def _leave(self, held: Sequence[Held], delay_seconds: float) -> list[str]:
        """Store wills; their ids."""
        if not held:
            return []
        post = InternalPost(wills(held, delay_seconds=delay_seconds))
        messages, now = self._service.storage.messages, self._service.clock.now()
        return (await messages.post(WILLS_REF, post, now=now)).ids
