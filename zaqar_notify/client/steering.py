"""Calls that steer deliveries: pause and resume."""

from __future__ import annotations

import msgspec

from zaqar_notify.client.calls import Calls
from zaqar_notify.client.models import Subscription
from zaqar_notify.client.wire import read, subscription_path


class SteeringCalls(Calls):
    def pause(self, queue: str, subscription_id: str, *, why: str = "") -> Subscription:
        """Hold all deliveries to the subscription until `resume`.

        Args:
            why: Shown with the subscription, one line of up to 256 characters.
        """
        path = f"{subscription_path(queue, subscription_id)}/pause"
        body = msgspec.json.encode({"why": why})
        return read(self._transport.send("POST", path, body=body), Subscription)

    def resume(self, queue: str, subscription_id: str) -> Subscription:
        """Deliver what was held, in order, and all that comes after it."""
        path = f"{subscription_path(queue, subscription_id)}/resume"
        return read(self._transport.send("POST", path), Subscription)
