"""What the log says of deliveries and receivers: each event once (docs/architecture.md, Logs)."""

from __future__ import annotations

import logging
from datetime import datetime

import msgspec

from zaqar_notify.delivery import OwedDelivery
from zaqar_notify.models import Delivery, Outcome, QueueRef, Subscription, Verdict

logger = logging.getLogger(__name__)


class Failures(msgspec.Struct, frozen=True):
    """Tries of a receiver that failed one after the other, as far as this process knows."""

    tries: int = 0
    since: datetime | None = None

    def facts(self) -> dict[str, object]:
        since = None if self.since is None else self.since.isoformat(timespec="seconds")
        return {"failing_since": since, "failed_tries": self.tries}


def tried(outcome: Outcome, delivery: Delivery) -> None:
    """A try that leaves nothing to decide."""
    if not logger.isEnabledFor(logging.DEBUG):
        return
    if outcome.verdict is Verdict.DELIVERED:
        _tell(logging.DEBUG, "Delivered", delivery, outcome, action="delivered")
    elif outcome.verdict is Verdict.POSTPONED:
        sentence = "A delivery comes back later"
        _tell(logging.DEBUG, sentence, delivery, outcome, action="delivery_postponed")


def failed(
    outcome: Outcome, delivery: Delivery, *, next_try_seconds: int, is_suspect: bool
) -> None:
    """A try that is repeated; of an endpoint known to fail, hundreds a second say nothing new."""
    level = logging.DEBUG if is_suspect else logging.WARNING
    _tell(
        level,
        "A try failed, and is repeated",
        delivery,
        outcome,
        action="attempt_failed",
        next_try_seconds=next_try_seconds,
    )


def given_up(outcome: Outcome, delivery: Delivery) -> None:
    _tell(
        logging.WARNING,
        "A delivery is given up",
        delivery,
        outcome,
        action="delivery_given_up",
        verdict=outcome.verdict.value,
    )


def given_up_together(subscription: Subscription, detail: str, *, count: int) -> None:
    logger.warning(
        "Deliveries are given up",
        extra={
            "action": "deliveries_given_up",
            **_who(subscription),
            "count": count,
            "detail": detail,
        },
    )


def suspect(subscription: Subscription) -> None:
    logger.warning(
        "A receiver fails again and again; it gets one try at a time until one succeeds, "
        "and failed tries are logged at debug level",
        extra={"action": "endpoint_suspect", **_who(subscription)},
    )


def paused(subscription: Subscription, *, seconds: int) -> None:
    logger.info(
        "The receiver asks for a pause; all that it is owed waits",
        extra={"action": "endpoint_paused", **_who(subscription), "seconds": seconds},
    )


def recovered(subscription: Subscription, failures: Failures) -> None:
    logger.warning(
        "A receiver that failed answers again",
        extra={"action": "endpoint_recovered", **_who(subscription), **failures.facts()},
    )


def disabled(subscription: Subscription, outcome: Outcome, failures: Failures) -> None:
    logger.warning(
        "The receiver wants no more; the subscription is disabled, and what comes is held",
        extra={
            "action": "subscription_disabled",
            **_who(subscription),
            **failures.facts(),
            "status": outcome.status,
            "detail": outcome.detail,
        },
    )


def short_of_resources(detail: str) -> None:
    logger.error(
        "This process lacks files or memory for deliveries; they are put off, and spend no try",
        extra={"action": "short_of_resources", "detail": detail},
    )


DROPPED = {
    "gone": "The subscription is gone; a delivery is dropped",
    "unconfirmed": "The subscription is not confirmed any more; a delivery is dropped",
    "confirmed": "The subscriber has confirmed; it is not asked once more",
}
"""Why deliveries are dropped, with the sentence for it."""


def dropped(owed: OwedDelivery, reason: str) -> None:
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


def dropped_together(queue: QueueRef, subscription_id: str, *, count: int) -> None:
    logger.warning(
        "The subscription is gone; what waited for it is dropped",
        extra={
            "action": "deliveries_dropped",
            "subscription_id": subscription_id,
            "project": queue.project,
            "queue": queue.name,
            "count": count,
        },
    )


def _tell(
    level: int, sentence: str, delivery: Delivery, outcome: Outcome, *, action: str, **more: object
) -> None:
    logger.log(
        level,
        sentence,
        extra={
            "action": action,
            "delivery_id": delivery.id,
            "message_id": delivery.message_id,
            **_who(delivery.subscription),
            "attempt": delivery.attempt,
            "status": outcome.status,
            "detail": outcome.detail,
            **more,
            "request_id": delivery.request_id,
        },
    )


def _who(subscription: Subscription) -> dict[str, str]:
    return {
        "subscription_id": subscription.id,
        "project": subscription.queue.project,
        "queue": subscription.queue.name,
    }
