"""Calls that steer deliveries: pause and resume, replay and redrive."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal
from urllib.parse import quote

import msgspec

from zaqar_notify.client.calls import Calls
from zaqar_notify.client.models import Replay, Subscription
from zaqar_notify.client.wire import ReplayList, queue_path, read, subscription_path

REPLAYS = "/v2/replays"


class SteeringCalls(Calls):
    def pause(self, queue: str, subscription_id: str, *, why: str = "") -> Subscription:
        """Hold all deliveries to the subscription until `resume`.

        Args:
            why: Shown with the subscription, one line of up to 256 characters.
        """
        path = f"{subscription_path(queue, subscription_id)}/pause"
        body = msgspec.json.encode({"why": why})
        return read(self._transport.send("POST", path, body=body), Subscription)

    def replay(
        self,
        queue: str,
        subscription_id: str,
        *,
        outcome: Literal["undelivered", "delivered", "any"] = "undelivered",
        delivery_ids: Sequence[str] = (),
        message_ids: Sequence[str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        per_second: int | None = None,
        idempotency_key: str | None = None,
    ) -> Replay:
        """Have deliveries of the subscription made anew, in the background.

        Args:
            outcome: Those that were given up; or all messages that are still on the queue; or both.
            delivery_ids, message_ids: Only these; none: all.
            since, until: Only what was posted, or given up, in this time; aware instants.
            per_second: The pace; None leaves it to the service (100).
            idempotency_key: A name for this order; ordered again, it is the replay that there is.
        """
        wanted = {
            "outcome": outcome,
            "delivery_ids": list(delivery_ids),
            "message_ids": list(message_ids),
            "since": since,
            "until": until,
            "per_second": per_second,
        }
        path = f"{subscription_path(queue, subscription_id)}/replay"
        return self._order(path, wanted, idempotency_key)

    def redrive(
        self,
        queue: str,
        *,
        target: str | None = None,
        per_second: int | None = None,
        idempotency_key: str | None = None,
    ) -> Replay:
        """Send the messages of a dead-letter queue back to where they came from, or to `target`, in the background."""
        wanted = {"target": target, "per_second": per_second}
        return self._order(f"{queue_path(queue)}/redrive", wanted, idempotency_key)

    def replays(self) -> list[Replay]:
        """Replays and redrives that are under way, and those that ended in the last week."""
        return read(self._transport.send("GET", REPLAYS), ReplayList).replays

    def replay_state(self, replay_id: str) -> Replay:
        """How far a replay or redrive is."""
        path = f"{REPLAYS}/{quote(replay_id, '')}"
        return read(self._transport.send("GET", path), Replay)

    def cancel_replay(self, replay_id: str) -> None:
        """Have it end within seconds; deliveries that it made due stay due."""
        self._transport.send("DELETE", f"{REPLAYS}/{quote(replay_id, '')}")

    def _order(self, path: str, wanted: Mapping[str, object], key: str | None) -> Replay:
        given = {name: value for name, value in wanted.items() if value is not None}
        answer = self._transport.send(
            "POST",
            path,
            body=msgspec.json.encode(given),
            headers={"Idempotency-Key": key or str(uuid.uuid4())},
        )
        return read(answer, Replay)

    def resume(self, queue: str, subscription_id: str) -> Subscription:
        """Deliver what was held, the oldest first, and all that comes after it."""
        path = f"{subscription_path(queue, subscription_id)}/resume"
        return read(self._transport.send("POST", path), Subscription)
