"""Notifications of one subscription, on their way to its socket."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from zaqar_notify.delivery import OwedDelivery, read_work
from zaqar_notify.delivery.wills import Held
from zaqar_notify.errors import NotifyError
from zaqar_notify.models import Message
from zaqar_notify.service import Service
from zaqar_notify.storage.base import Watch
from zaqar_notify.storage.internal import pushed_ref
from zaqar_notify.subscriptions import is_held

Send: TypeAlias = Callable[[bytes], Awaitable[None]]
"""Sends JSON text as a frame."""

AT_ONCE = 20
"""Notifications that are sent before a ping asks whether the client has them."""

LOOK_SECONDS = 60.0
"""So often a silent subscription is looked at, to see whether it is still there."""

PAUSE_SECONDS = 1.0
"""After which a store that gave no answer is asked again."""

logger = logging.getLogger(__name__)


class Feeder:
    """Sends the notifications that wait for a subscription, in order, and deletes those that have arrived.

    They have arrived when the client has answered a ping that was sent after them. Until then they stay in the store, and a
    client that comes back gets them again.
    """

    def __init__(
        self,
        service: Service,
        held: Held,
        subscription_id: str,
        *,
        send: Send,
        prove: Callable[[], Awaitable[None]],
        turns: asyncio.Semaphore,
    ) -> None:
        """`turns` are those of the subscriptions of one socket: they keep a page in memory while it is sent."""
        self._service = service
        self._held = held
        self._subscription_id = subscription_id
        self._ref = pushed_ref(subscription_id)
        self._send = send
        self._prove = prove
        self._turns = turns
        self._counts = service.metrics.sockets

    async def run(self) -> bool:
        """Until the subscription is over (True), another connection has taken it (False), or this is cancelled."""
        storage = self._service.storage
        with storage.watch(self._held.ref, internal=self._ref) as watch:
            while True:
                try:
                    is_ours = await is_held(self._service, self._held, self._subscription_id)
                    if not is_ours:
                        return is_ours is None
                    while await self._send_some():
                        pass
                except NotifyError as error:
                    if error.retry_after_seconds is None:
                        raise
                    await asyncio.sleep(PAUSE_SECONDS)
                    continue
                await self._wait(watch)

    async def _wait(self, watch: Watch) -> None:
        now = asyncio.get_running_loop().time
        asked_at = now()
        if await watch.changed(timeout_seconds=LOOK_SECONDS):
            return
        if now() < asked_at + LOOK_SECONDS / 2:
            # Waits end early only when the store closes: the socket is about to be closed, too.
            await asyncio.Event().wait()

    async def _send_some(self) -> bool:
        """Send the notifications that wait, as far as they are sent at once; whether there were any."""
        service, ids = self._service, list[str]()
        try:
            async with self._turns:
                await self._send_page(ids)
            if not ids:
                return False
            await self._prove()
        finally:
            self._counts.unproven -= len(ids)
        async with service.storage.at(self._held.ref) as store:
            await store.messages.delete_many(
                self._ref, ids, claim_ids=None, now=service.clock.now()
            )
        self._counts.notifications += len(ids)
        return True

    async def _send_page(self, ids: list[str]) -> None:
        """Send the notifications that wait, and note their ids in `ids`."""
        for message in await self._page():
            self._counts.unproven += 1
            ids.append(message.id)
            await self._send(_payload(message))

    async def _page(self) -> Sequence[Message]:
        service = self._service
        async with service.storage.at(self._held.ref) as store:
            page = await store.messages.page(
                self._ref, marker=None, limit=AT_ONCE, now=service.clock.now()
            )
        return page.messages


def _payload(message: Message) -> bytes:
    work = read_work(message.body)
    assert isinstance(work, OwedDelivery)  # noqa: S101 - sinks/push.py writes no other
    return bytes(work.message.body)
