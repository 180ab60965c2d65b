"""When a delivery that failed is tried again. Pure rules; every kind of subscriber uses them.

The policy of a subscription or its queue counts. Where neither has one, the operator's default counts
(`ZAQAR_RETRY_DEFAULT`): by default Standard Webhooks' schedule, over three days.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from zaqar_notify.errors import ValidationFailed
from zaqar_notify.models import JsonObject, Outcome, Verdict
from zaqar_notify.rules.retry_policy import DEFAULT_POLICY, POLICY_KEY, RetryPolicy, parse_policy
from zaqar_notify.rules.schedules import Schedule

MAX_RETRY_AFTER_SECONDS = 86400
"""A receiver's Retry-After counts up to a day; more would let it park deliveries for ever."""


def applicable_schedule(
    subscription_options: JsonObject, queue_metadata: JsonObject, *, default: Schedule
) -> Schedule:
    """Which schedule a subscription's deliveries follow.

    The queue's policy when either one says `ignore_subscription_override`, else the subscription's,
    else the queue's. Policies are never merged. When both are absent or empty it is the default; a key
    that a policy leaves out has Zaqar's value. A stored policy that can't be read counts as Zaqar's defaults: a
    delivery must not fail for it.
    """
    own = subscription_options.get(POLICY_KEY)
    queues = queue_metadata.get(POLICY_KEY)
    if not own and not queues:
        return default
    if _overrides(own) or _overrides(queues):
        return _stored_policy(queues)
    return _stored_policy(own or queues)


def next_attempt_at(
    schedule: Schedule,
    *,
    attempt: int,
    outcome: Outcome,
    now: datetime,
    jitter: float,
    random: Callable[[], float],
) -> datetime | None:
    """When to try again after a try that failed; None: give up.

    Never earlier than the schedule's delay, nor than the receiver's Retry-After (up to a day).

    Args:
        attempt: Number of the try that just failed, from 1.
        jitter: Up to this part of the wait is added, so that retries do not come in step.
        random: Gives a number from 0 to 1.
    """
    if not _may_succeed_later(outcome, schedule) or attempt > schedule.retries:
        return None
    asked = min(outcome.retry_after_seconds or 0, MAX_RETRY_AFTER_SECONDS)
    wait = max(schedule.delay_before(attempt), asked)
    return now + timedelta(seconds=wait * (1 + jitter * random()))


def attempt_after(
    schedule: Schedule, *, attempt: int, due_at: datetime, failed_at: datetime
) -> int | None:
    """The number of the next try of a delivery that waits for a receiver which failed at `failed_at`: tries
    that fell due until then count as made, and as failed. None: the last one did, too.

    Args:
        attempt: The try that was due at `due_at`.
    """
    failed = Outcome(Verdict.TRY_LATER)
    while due_at <= failed_at:
        next_at = next_attempt_at(
            schedule, attempt=attempt, outcome=failed, now=due_at, jitter=0, random=lambda: 0
        )
        if next_at is None:
            return None
        attempt, due_at = attempt + 1, next_at
    return attempt


def _may_succeed_later(outcome: Outcome, schedule: Schedule) -> bool:
    if outcome.verdict is Verdict.REFUSED and schedule.repeats_refusals:
        # An answer of HTTP's. SMTP's 5yz is final, and without a status we refused it ourselves.
        return outcome.status is not None and 400 <= outcome.status < 500
    return outcome.verdict is Verdict.TRY_LATER


def _overrides(stored: object) -> bool:
    return isinstance(stored, dict) and stored.get("ignore_subscription_override") is True


def _stored_policy(stored: object) -> RetryPolicy:
    try:
        return parse_policy(stored)
    except ValidationFailed:
        return DEFAULT_POLICY
