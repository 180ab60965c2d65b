"""The subscriptions of one socket."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from starlette.websockets import WebSocketDisconnect

from api.push.feeding import Feeder
from api.push.frames import Data, written
from api.push.holdings import Holdings
from zaqar_notify.clock import new_id
from zaqar_notify.delivery.wills import Held, subscriber_of
from zaqar_notify.errors import ValidationFailed
from zaqar_notify.models import JsonObject, QueueRef, Subscription
from zaqar_notify.service import Service
from zaqar_notify.subscriptions import hold

TAKEN_OVER = (4009, "Another connection of this client has taken the subscription over.")
FAILED = (1011, "Notifications can't be sent.")

MOST = 500
"""Subscriptions of one connection: each has a task of its own."""

MOST_SENDING = 4
"""Subscriptions of one connection that send at once; a client that reads slowly holds up that many pages of notifications."""

logger = logging.getLogger(__name__)


class Subscribing:
    """Subscribes a socket, and feeds it.

    Args:
        send: Sends a frame.
        prove: Waits until the client has proved that it lives.
        close: Closes the socket with a code and a reason.
    """

    def __init__(
        self,
        service: Service,
        holdings: Holdings,
        *,
        send: Callable[[Data], Awaitable[None]],
        prove: Callable[[], Awaitable[None]],
        close: Callable[[int, str], Awaitable[None]],
    ) -> None:
        self._service = service
        self._holdings = holdings
        self._send, self._prove, self._close = send, prove, close
        self._connection_id = new_id()
        self._turns = asyncio.Semaphore(MOST_SENDING)
        self._feeders: dict[str, asyncio.Task[None]] = {}
        self._held: dict[str, Held] = {}
        self._unfed: dict[str, Feeder] = {}
        """Those whose subscription is made and not answered yet."""

    @property
    def is_any(self) -> bool:
        return bool(self._feeders)

    async def subscribe(
        self,
        ref: QueueRef,
        client_id: str,
        *,
        ttl: int | None,
        options: JsonObject | None,
        is_binary: bool,
    ) -> Subscription:
        """Subscribe the socket to a queue; see `zaqar_notify.subscriptions.hold`.

        Notifications come after the answer, in frames of the request's kind.
        """
        if len(self._held) >= MOST:
            raise ValidationFailed(f"A connection has at most {MOST} subscriptions of its own")
        held = Held(ref.project, ref.name, subscriber_of(client_id), self._connection_id)
        await self._holdings.begin(held)
        try:
            subscription = await hold(self._service, held, ttl=ttl, options=options)
        except BaseException:
            if held not in self._held.values():
                self._holdings.end(held)
            raise
        self._held[subscription.id] = held
        self._unfed[subscription.id] = Feeder(
            self._service,
            held,
            subscription.id,
            send=partial(self._send_payload, is_binary),
            prove=self._prove,
            turns=self._turns,
        )
        return subscription

    def answered(self) -> None:
        """The answer to the last request is sent."""
        for subscription_id, feeder in self._unfed.items():
            self._feeders[subscription_id] = asyncio.create_task(
                self._feed(subscription_id, feeder)
            )
        self._unfed.clear()

    def forget(self, subscription_id: str) -> None:
        """The subscription was deleted."""
        feeder = self._feeders.pop(subscription_id, None)
        if feeder is not None:
            feeder.cancel()
            self._holdings.end(self._held.pop(subscription_id))

    async def end(self) -> None:
        """The socket is gone. Its subscriptions wait for the client for a while."""
        feeders = list(self._feeders.values())
        for feeder in feeders:
            feeder.cancel()
        if feeders:
            await asyncio.wait(feeders)
        for held in self._held.values():
            self._holdings.end(held)
        self._held.clear()

    async def _feed(self, subscription_id: str, feeder: Feeder) -> None:
        try:
            is_over = await feeder.run()
        except (WebSocketDisconnect, OSError):
            return  # The socket is about to end.
        except Exception as error:
            facts = {"action": "socket_failed", "subscription_id": subscription_id}
            logger.error("Notifications can't be sent", exc_info=error, extra=facts)
            await self._close(*FAILED)
            return
        self._feeders.pop(subscription_id, None)
        held = self._held.pop(subscription_id, None)
        if held is not None:
            self._holdings.end(held)
        if not is_over:
            await self._close(*TAKEN_OVER)

    async def _send_payload(self, is_binary: bool, payload: bytes) -> None:
        await self._send(written(payload, is_binary=is_binary))
