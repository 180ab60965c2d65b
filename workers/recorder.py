"""Records the events of deliveries and receivers, each once: a count, a log line.

The log actions are listed in docs/architecture.md, Logs.
"""

from __future__ import annotations

import logging
import time
from datetime import datetime

import msgspec

from zaqar_notify.delivery import Outgoing, OwedDelivery
from zaqar_notify.metrics import DeliveryCounts
from zaqar_notify.models import Delivery, Outcome, QueueRef, Subscription, Verdict
from zaqar_notify.service import note_dropped

logger = logging.getLogger(__name__)

SHORTAGE_TOLD_SECONDS = 60.0
"""How often a shortage of files or memory is logged, at most."""

DROPPED = {
    "gone": "The subscription is gone; a delivery is dropped",
    "unconfirmed": "The subscription is not confirmed any more; a delivery is dropped",
    "confirmed": "The subscriber has confirmed; it is not asked once more",
}
"""Why deliveries are dropped, with the sentence for it."""


class Failures(msgspec.Struct, frozen=True):
    """Attempts at a receiver that failed one after the other, as far as this process knows."""

    attempts: int = 0
    since: datetime | None = None

    def facts(self) -> dict[str, object]:
        since = None if self.since is None else self.since.isoformat(timespec="seconds")
        return {"failing_since": since, "failed_tries": self.attempts}


class Recorder:
    def __init__(self, counts: DeliveryCounts) -> None:
        self._counts = counts
        self._shortage_logged_at = float("-inf")

    def attempted(self, outcome: Outcome, delivery: Delivery, *, scheme: str) -> None:
        """An attempt was made. A failed one is recorded again by `failed` or `given_up`."""
        self._counts.tries[scheme, outcome.verdict] += 1
        if not logger.isEnabledFor(logging.DEBUG):
            return
        if outcome.verdict is Verdict.DELIVERED:
            _log(logging.DEBUG, "Delivered", delivery, outcome, action="delivered")
        elif outcome.verdict is Verdict.POSTPONED:
            sentence = "A delivery comes back later"
            _log(logging.DEBUG, sentence, delivery, outcome, action="delivery_postponed")

    def arrived(self, scheme: str, seconds: float) -> None:
        """A delivery arrived so long after it was due."""
        self._counts.delay_of(scheme).note(max(0.0, seconds))

    def failed(
        self, outcome: Outcome, delivery: Delivery, *, next_try_seconds: int, is_suspect: bool
    ) -> None:
        """An attempt is repeated; of an endpoint known to fail, hundreds a second say nothing new."""
        level = logging.DEBUG if is_suspect else logging.WARNING
        _log(
            level,
            "A try failed, and is repeated",
            delivery,
            outcome,
            action="attempt_failed",
            next_try_seconds=next_try_seconds,
        )

    def given_up(self, outcome: Outcome, delivery: Delivery) -> None:
        _log(
            logging.WARNING,
            "A delivery is given up",
            delivery,
            outcome,
            action="delivery_given_up",
            verdict=outcome.verdict.value,
        )

    def given_up_together(self, subscription: Subscription, detail: str, *, count: int) -> None:
        logger.warning(
            "Deliveries are given up",
            extra={
                "action": "deliveries_given_up",
                **_facts(subscription),
                "count": count,
                "detail": detail,
            },
        )

    def dropped(self, owed: OwedDelivery, reason: str) -> None:
        """A delivery is left out for good."""
        self._counts.dropped[reason] += 1
        logger.warning(
            DROPPED[reason],
            extra={
                "action": "delivery_dropped",
                "subscription_id": owed.subscription_id,
                "project": owed.project,
                "queue": owed.queue,
                "message_id": owed.message.id,
                "attempt": owed.attempt,
                "request_id": owed.request_id,
            },
        )

    def dropped_together(self, queue: QueueRef, subscription_id: str, *, count: int) -> None:
        """All deliveries that waited for a subscription are left out for good, because it is gone."""
        note_dropped(self._counts, queue, subscription_id, count)

    def written(self, ref: QueueRef, count: int) -> None:
        """So many records were stored on an internal queue."""
        self._counts.written[ref.name.partition(".")[0]] += count

    def cancelled(self, ref: QueueRef, count: int) -> None:
        logger.debug(
            "Messages were deleted before they were due; they are not notified",
            extra={"action": "delivery_cancelled", "queue": ref.name, "count": count},
        )

    def filtered(self, subscription: Subscription, *, accepted: int, rejected: int) -> None:
        """The subscription's filter policy has chosen among messages."""
        self._counts.filtered["accepted"] += accepted
        self._counts.filtered["rejected"] += rejected
        if rejected and logger.isEnabledFor(logging.DEBUG):
            logger.debug(
                "Messages do not fit the subscription's filter policy; it does not get them",
                extra={
                    "action": "delivery_filtered",
                    **_facts(subscription),
                    "count": rejected,
                },
            )

    def filter_undecided(self, subscription: Subscription, message: Outgoing) -> None:
        self._counts.filtered["undecided"] += 1
        logger.warning(
            "A message is too large for the subscription's filter policy; it is delivered",
            extra={
                "action": "filter_undecided",
                **_facts(subscription),
                "message_id": message.message_id,
            },
        )

    def filter_unreadable(self, subscription: Subscription, detail: str) -> None:
        self._counts.filtered["unreadable"] += 1
        logger.warning(
            "The subscription's filter policy can't be read; it gets all messages",
            extra={"action": "filter_unreadable", **_facts(subscription), "detail": detail},
        )

    def hops_exceeded(self, message: Outgoing, subscription: Subscription) -> None:
        logger.warning(
            "Messages reached the limit of queues; queue subscriptions do not send them further",
            extra={
                "action": "hops_exceeded",
                "message_id": message.message_id,
                **_facts(subscription),
                "hops": message.hops,
                "request_id": message.request_id,
            },
        )

    def suspect(self, subscription: Subscription) -> None:
        logger.warning(
            "A receiver fails again and again; it is left alone, and probed until a try succeeds, "
            "and failed tries are logged at debug level",
            extra={"action": "endpoint_suspect", **_facts(subscription)},
        )

    def paused(self, subscription: Subscription, *, seconds: int) -> None:
        logger.info(
            "The receiver asks for a pause; its deliveries wait",
            extra={"action": "endpoint_paused", **_facts(subscription), "seconds": seconds},
        )

    def recovered(self, subscription: Subscription, failures: Failures) -> None:
        logger.warning(
            "A receiver that failed answers again",
            extra={"action": "endpoint_recovered", **_facts(subscription), **failures.facts()},
        )

    def disabled(self, subscription: Subscription, outcome: Outcome, failures: Failures) -> None:
        logger.warning(
            "A subscription is disabled; its deliveries are held",
            extra={
                "action": "subscription_disabled",
                **_facts(subscription),
                **failures.facts(),
                "reason": subscription.disabled_reason,
                "status": outcome.status,
                "detail": outcome.detail,
            },
        )

    def sink_failed(self, delivery: Delivery) -> None:
        """A defect in a sink; called where the exception is handled."""
        logger.exception(
            "A sink failed", extra={"action": "sink_failed", "delivery_id": delivery.id}
        )

    def short_of_resources(self, detail: str) -> None:
        """This process lacks files or memory. The operator is told, not each time."""
        now = time.monotonic()
        if now < self._shortage_logged_at + SHORTAGE_TOLD_SECONDS:
            return
        self._shortage_logged_at = now
        logger.error(
            "This process lacks files or memory for deliveries; they are put off and spend no attempt",
            extra={"action": "short_of_resources", "detail": detail},
        )


def _log(
    level: int, sentence: str, delivery: Delivery, outcome: Outcome, *, action: str, **more: object
) -> None:
    logger.log(
        level,
        sentence,
        extra={
            "action": action,
            "delivery_id": delivery.id,
            "message_id": delivery.message_id,
            **_facts(delivery.subscription),
            "attempt": delivery.attempt,
            "status": outcome.status,
            "detail": outcome.detail,
            **more,
            "request_id": delivery.request_id,
        },
    )


def _facts(subscription: Subscription) -> dict[str, str]:
    return {
        "subscription_id": subscription.id,
        "project": subscription.queue.project,
        "queue": subscription.queue.name,
    }
