"""When a delivery that failed is tried again. Pure rules; every kind of subscriber uses them.

The policy of a subscription or its queue counts. Where neither has one, the operator's default counts
(`ZAQAR_RETRY_DEFAULT`): by default Standard Webhooks' schedule, over three days.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec

from zaqar_notify.errors import ValidationFailed
from zaqar_notify.models import JsonObject, Outcome, Verdict
from zaqar_notify.rules.retry_policy import (
    DEFAULT_POLICY,
    NO_BOUNDS,
    POLICY_KEY,
    Bounds,
    RetryPolicy,
    overrides_subscriptions,
    parse_policy,
)
from zaqar_notify.rules.schedules import Preset, Schedule

MAX_RETRY_AFTER_SECONDS = 86400
"""A receiver's Retry-After counts up to a day; more would let it park deliveries for ever."""


class Plan(msgspec.Struct, frozen=True):
    """How the deliveries of one subscription that failed are tried again."""

    schedule: Schedule
    bounds: Bounds = NO_BOUNDS


def applicable_plan(
    subscription_options: JsonObject,
    queue_metadata: JsonObject,
    *,
    named: Callable[[Preset | None], Schedule],
) -> Plan:
    """Which plan a subscription's deliveries follow.

    The queue's policy when either one says `ignore_subscription_override`, else the subscription's,
    else the queue's. Policies are never merged. When both are absent or empty it is the default; a key
    that a policy of Zaqar's fields leaves out has Zaqar's value. A stored policy that can't be read counts as Zaqar's
    defaults: a delivery must not fail for it.

    Args:
        named: Gives the schedule of a name; of None, the operator's default.
    """
    own = subscription_options.get(POLICY_KEY)
    queues = queue_metadata.get(POLICY_KEY)
    if not own and not queues:
        return Plan(named(None))
    if overrides_subscriptions(own) or overrides_subscriptions(queues):
        policy = _stored_policy(queues)
    else:
        policy = _stored_policy(own or queues)
    waits = policy.waits
    schedule = named(waits) if waits is None or isinstance(waits, str) else waits
    return Plan(schedule, policy.bounds)


def next_attempt_at(
    plan: Plan,
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
        jitter: Up to this part of the wait is added, so that retries do not come in step, where the policy names
            none.
        random: Gives a number from 0 to 1.
    """
    if not _may_succeed_later(outcome, plan) or attempt > plan.schedule.retries:
        return None
    asked = min(outcome.retry_after_seconds or 0, MAX_RETRY_AFTER_SECONDS)
    wait = max(plan.schedule.delay_before(attempt), asked)
    most = jitter if plan.bounds.jitter is None else plan.bounds.jitter
    return now + timedelta(seconds=wait * (1 + most * random()))


def attempt_after(
    schedule: Schedule, *, attempt: int, due_at: datetime, failed_at: datetime
) -> int | None:
    """The number of the next try of a delivery that waits for a receiver which failed at `failed_at`: tries
    that fell due until then count as made, and as failed. None: the last one did, too.

    Args:
        attempt: The try that was due at `due_at`.
    """
    while due_at <= failed_at:
        if attempt > schedule.retries:
            return None
        due_at += timedelta(seconds=schedule.delay_before(attempt))
        attempt += 1
    return attempt


def _may_succeed_later(outcome: Outcome, plan: Plan) -> bool:
    final = plan.bounds.final_statuses
    if final is not None and outcome.status in final:
        return False
    repeats_refusals = plan.schedule.repeats_refusals if final is None else True
    if outcome.verdict is Verdict.REFUSED and repeats_refusals:
        # An answer of HTTP's. SMTP's 5yz is final, and without a status we refused it ourselves.
        return outcome.status is not None and 400 <= outcome.status < 500
    return outcome.verdict is Verdict.TRY_LATER


def _stored_policy(stored: object) -> RetryPolicy:
    try:
        return parse_policy(stored)
    except ValidationFailed:
        return DEFAULT_POLICY
