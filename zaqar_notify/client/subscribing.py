"""Calls about subscriptions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from zaqar_notify.client.calls import Calls
from zaqar_notify.client.models import Subscription, Tested, Undelivered
from zaqar_notify.client.wire import (
    PublicKey,
    Secret,
    Subscribed,
    SubscriptionList,
    UndeliveredList,
    queue_path,
    raw_json,
    read,
    subscription_path,
)

PAGE = 20
"""The most that a service with default limits puts on one page."""


class SubscriptionCalls(Calls):
    def subscribe(
        self,
        queue: str,
        subscriber: str,
        *,
        ttl: int | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> str:
        """Send each message posted to the queue from now on to `subscriber`, a URI.

        Args:
            ttl: Life of the subscription, seconds; None leaves it to the service.
            options: As on the wire: `post_headers`, `post_data`, `_retry_policy`, `subject`, …

        Returns:
            The subscription's id; of the existing one, when it is there and unconfirmed.

        Raises:
            Conflict: The subscriber has a confirmed subscription on the queue already.
        """
        body: dict[str, Any] = {"subscriber": subscriber, "options": options or {}}
        if ttl is not None:
            body["ttl"] = ttl
        answer = self._transport.send(
            "POST", f"{queue_path(queue)}/subscriptions", body=msgspec.json.encode(body)
        )
        return read(answer, Subscribed).subscription_id

    def subscription(self, queue: str, subscription_id: str) -> Subscription:
        answer = self._transport.send("GET", subscription_path(queue, subscription_id))
        return read(answer, Subscription)

    def subscriptions(self, queue: str) -> Iterator[Subscription]:
        """The queue's subscriptions in order of creation, read page by page."""
        path = f"{queue_path(queue)}/subscriptions"
        for page in self._pages(path, {"limit": PAGE}, SubscriptionList):
            yield from page.subscriptions

    def change_subscription(
        self,
        queue: str,
        subscription_id: str,
        *,
        subscriber: str | None = None,
        ttl: int | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Change what is not None.

        Args:
            ttl: Seconds from now.
            options: All of them, new; a secret that is shown as `********` may be sent back so.
        """
        changes = {"subscriber": subscriber, "ttl": ttl, "options": options}
        body = {name: value for name, value in changes.items() if value is not None}
        path = subscription_path(queue, subscription_id)
        self._transport.send("PATCH", path, body=msgspec.json.encode(body))

    def unsubscribe(self, queue: str, subscription_id: str) -> None:
        """Remove the subscription. No error if there is none."""
        self._transport.send("DELETE", subscription_path(queue, subscription_id))

    def signing_secret(self, queue: str, subscription_id: str) -> str:
        """The `whsec_…` with which the subscription's webhook checks the service's signatures."""
        path = subscription_path(queue, subscription_id)
        return read(self._transport.send("GET", f"{path}/secret"), Secret).secret

    def public_key(self, queue: str, subscription_id: str) -> str:
        """The `whpk_…` with which a webhook checks signatures, if the option `_signature` is `ed25519`."""
        path = subscription_path(queue, subscription_id)
        return read(self._transport.send("GET", f"{path}/public_key"), PublicKey).public_key

    def rotate_secret(
        self,
        queue: str,
        subscription_id: str,
        *,
        overlap_seconds: int | None = None,
        secret: str | None = None,
    ) -> str:
        """A new signing secret, and a new key; those of before sign beside them for a while.

        Args:
            overlap_seconds: For so long; None leaves it to the service.
            secret: The new one, `whsec_…`; None: the service makes one.
        """
        path = f"{subscription_path(queue, subscription_id)}/secret"
        asked = {"overlap_seconds": overlap_seconds, "secret": secret}
        given = {name: value for name, value in asked.items() if value is not None}
        body = msgspec.json.encode(given)
        return read(self._transport.send("POST", path, body=body, repeatable=False), Secret).secret

    def test_subscription(self, queue: str, subscription_id: str, body: Any = None) -> Tested:
        """Send a message to this subscription alone; it is on no queue. None: `{"test": true}`."""
        path = f"{subscription_path(queue, subscription_id)}/test"
        sent = None if body is None else msgspec.json.encode({"body": raw_json(body)})
        return read(self._transport.send("POST", path, body=sent, repeatable=False), Tested)

    def undelivered(self, queue: str, subscription_id: str) -> Iterator[Undelivered]:
        """The deliveries to the subscription that were given up, oldest first, read page by page."""
        path = f"{subscription_path(queue, subscription_id)}/undelivered"
        for page in self._pages(path, {"limit": PAGE}, UndeliveredList):
            yield from page.undelivered
