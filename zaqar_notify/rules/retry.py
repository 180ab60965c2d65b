"""When a delivery that failed is tried again. Pure rules; every kind of subscriber uses them.

A policy that a subscription or its queue has is a sequence of waits in four phases, as in Zaqar:

1. `retries_with_no_delay` retries at once,
2. `minimum_delay_retries` after `minimum_delay` each,
3. a backoff that rises from `minimum_delay` towards `maximum_delay` by a named function,
4. `maximum_delay_retries` after `maximum_delay` each.

Where neither has one, the operator's default counts (`ZAQAR_RETRY_DEFAULT`): by default Standard
Webhooks' schedule, over three days.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import ClassVar, Literal, Protocol, TypeAlias, get_args

import msgspec

from zaqar_notify.errors import ValidationFailed
from zaqar_notify.models import JsonObject, Outcome, Verdict

DefaultName: TypeAlias = Literal["standard", "zaqar", "sns"]
Backoff: TypeAlias = Literal["linear", "arithmetic", "geometric", "exponential"]

POLICY_KEY = "_retry_policy"
"""Where a subscription's options and a queue's metadata keep their policy."""

MAX_RETRIES_PER_PHASE = 100
MAX_DELAY_SECONDS = 43200
"""Longest wait that a policy may ask for: as long as the longest claim."""

MAX_RETRY_AFTER_SECONDS = 86400
"""A receiver's Retry-After counts up to a day; more would let it park deliveries for ever."""

_LEAST_SPREAD_SECONDS = 10
_STEP_SECONDS = 5
_BACKOFFS: tuple[Backoff, ...] = get_args(Backoff)
_COUNTS = ("retries_with_no_delay", "minimum_delay_retries", "maximum_delay_retries")
_DELAYS = ("minimum_delay", "maximum_delay")


class Schedule(Protocol):
    """How many retries a delivery gets, and how long each waits."""

    @property
    def repeats_refusals(self) -> bool:
        """Whether a receiver's 4xx is tried again, too: while it is deployed, it answers so."""

    @property
    def retries(self) -> int: ...

    def delay_before(self, retry: int) -> int:
        """Seconds before this retry, counted from 1 to `retries`."""


class RetryPolicy(msgspec.Struct, frozen=True):
    """Zaqar's fields and defaults. Delays are seconds."""

    repeats_refusals: ClassVar[bool] = False

    retries_with_no_delay: int = 3
    minimum_delay_retries: int = 3
    minimum_delay: int = 5
    maximum_delay: int = 30
    maximum_delay_retries: int = 3
    retry_backoff_function: Backoff = "linear"
    ignore_subscription_override: bool = False

    @property
    def backoff_retries(self) -> int:
        """How many retries phase 3 has."""
        spread = self.maximum_delay - self.minimum_delay
        return -(-spread // _STEP_SECONDS) if self._is_linear else spread // _STEP_SECONDS

    @property
    def retries(self) -> int:
        return (
            self.retries_with_no_delay
            + self.minimum_delay_retries
            + self.backoff_retries
            + self.maximum_delay_retries
        )

    def delay_before(self, retry: int) -> int:
        if retry <= self.retries_with_no_delay:
            return 0
        retry -= self.retries_with_no_delay
        if retry <= self.minimum_delay_retries:
            return self.minimum_delay
        retry -= self.minimum_delay_retries
        if retry <= self.backoff_retries:
            return _backoff_delay(self, retry)
        return self.maximum_delay

    @property
    def _is_linear(self) -> bool:
        return self.retry_backoff_function == "linear"


class Steps(msgspec.Struct, frozen=True):
    """A schedule without a formula: so many retries after so many seconds each, in order."""

    steps: tuple[tuple[int, int], ...]
    repeats_refusals: bool = False

    @property
    def retries(self) -> int:
        return sum(times for times, _ in self.steps)

    def delay_before(self, retry: int) -> int:
        for times, seconds in self.steps:
            if retry <= times:
                return seconds
            retry -= times
        raise IndexError(f"There is no such retry; {retry} too many")


DEFAULT_POLICY = RetryPolicy()
_DEFAULTS: dict[str, int] = {
    field: getattr(DEFAULT_POLICY, field) for field in (*_COUNTS, *_DELAYS)
}


def parse_policy(document: object) -> RetryPolicy:
    """Read a client's policy. A null field, and a null policy, count as absent; unknown keys pass.

    Raises:
        ValidationFailed: Names the field, its limit and the unit.

    Source: Zaqar user guide, "Notification delivery policy".
    """
    if document is None:
        return DEFAULT_POLICY
    if not isinstance(document, dict):
        raise ValidationFailed(f"{POLICY_KEY} must be an object")
    policy = RetryPolicy(
        **{field: _count(document, field) for field in _COUNTS},
        **{field: _delay(document, field) for field in _DELAYS},
        retry_backoff_function=_backoff(document),
        ignore_subscription_override=_ignores_override(document),
    )
    if policy.maximum_delay - policy.minimum_delay < _LEAST_SPREAD_SECONDS:
        raise ValidationFailed(
            f"{POLICY_KEY}: maximum_delay ({policy.maximum_delay} seconds) must be at least "
            f"{_LEAST_SPREAD_SECONDS} seconds above minimum_delay ({policy.minimum_delay} seconds)"
        )
    if policy.minimum_delay == 0 and policy.retry_backoff_function in ("geometric", "exponential"):
        raise ValidationFailed(
            f"{POLICY_KEY}: minimum_delay must be at least 1 second "
            f"with retry_backoff_function {policy.retry_backoff_function}"
        )
    return policy


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


def default_schedule(name: DefaultName, *, sns: Schedule) -> Schedule:
    """The schedule where neither the subscription nor its queue has a policy.

    Args:
        sns: SNS's schedule for this kind of subscriber.
    """
    match name:
        case "standard":
            return STANDARD_WEBHOOKS
        case "zaqar":
            return ZAQAR
        case "sns":
            return sns


def delays(schedule: Schedule) -> Sequence[int]:
    """Seconds to wait before each retry, in order."""
    return [schedule.delay_before(retry) for retry in range(1, schedule.retries + 1)]


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


def _backoff_delay(policy: RetryPolicy, step: int) -> int:
    """Seconds before step 1, 2, … of phase 3, rounded down."""
    least, most, steps = policy.minimum_delay, policy.maximum_delay, policy.backoff_retries
    match policy.retry_backoff_function:
        case "linear":
            return least + _STEP_SECONDS * (step - 1)
        case "arithmetic":
            return least + step * (step - 1) * (most - least) // (steps * (steps - 1))
        case "geometric" | "exponential":
            return _geometric(least, most, step - 1, steps - 1)


def _geometric(least: int, most: int, step: int, last: int) -> int:
    """The whole part of `least * (most / least) ** (step / last)`, exactly."""
    estimate: float = least * (most / least) ** (step / last)
    nearest: int = round(estimate)
    if abs(estimate - nearest) > 1e-6:
        return int(estimate)
    # Too close to a whole number for floats to say on which side: compare the `last`th powers.
    reached: bool = nearest**last <= least ** (last - step) * most**step
    return nearest if reached else nearest - 1


def _count(document: JsonObject, field: str) -> int:
    return _integer(field, document.get(field), limit=MAX_RETRIES_PER_PHASE, unit="retries")


def _delay(document: JsonObject, field: str) -> int:
    return _integer(field, document.get(field), limit=MAX_DELAY_SECONDS, unit="seconds")


def _integer(field: str, value: object, *, limit: int, unit: str) -> int:
    if value is None:
        return _DEFAULTS[field]
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= limit:
        raise ValidationFailed(f"{POLICY_KEY}: {field} must be an integer from 0 to {limit} {unit}")
    return value


def _backoff(document: JsonObject) -> Backoff:
    value = document.get("retry_backoff_function")
    if value is None:
        return DEFAULT_POLICY.retry_backoff_function
    for backoff in _BACKOFFS:
        if value == backoff:
            return backoff
    raise ValidationFailed(
        f"{POLICY_KEY}: retry_backoff_function must be one of {', '.join(_BACKOFFS)}"
    )


def _ignores_override(document: JsonObject) -> bool:
    value = document.get("ignore_subscription_override")
    if value is None:
        return DEFAULT_POLICY.ignore_subscription_override
    if not isinstance(value, bool):
        raise ValidationFailed(f"{POLICY_KEY}: ignore_subscription_override must be true or false")
    return value


def _overrides(stored: object) -> bool:
    return isinstance(stored, dict) and stored.get("ignore_subscription_override") is True


def _stored_policy(stored: object) -> RetryPolicy:
    try:
        return parse_policy(stored)
    except ValidationFailed:
        return DEFAULT_POLICY


STANDARD_WEBHOOKS = Steps(
    tuple((1, wait) for wait in (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)),
    repeats_refusals=True,
)
"""Nine retries over three days and three hours. Source: Standard Webhooks 1.0.0, "Deliverability"."""

ZAQAR = Steps(tuple((1, max(1, wait)) for wait in delays(DEFAULT_POLICY)))
"""Zaqar's defaults, with a second where Zaqar tries again at once: 14 retries over three minutes."""

_SNS_BACKOFF_RETRIES = 10


def _sns(immediate: int, before: tuple[int, int], most: int, after: int) -> Steps:
    """Retries at once, before, during and after an exponential backoff that ends at `most` seconds."""
    _, least = before
    last = _SNS_BACKOFF_RETRIES - 1
    backoff = ((1, _geometric(least, most, step, last)) for step in range(_SNS_BACKOFF_RETRIES))
    return Steps(((immediate, 0), before, *backoff, (after, most)))


SNS_HTTP = Steps(((3, 20),))
SNS_MAIL = _sns(0, (2, 10), 600, 38)
SNS_MANAGED = _sns(3, (2, 1), 20, 100_000)
"""As SNS treats its HTTP, mail and queue (SQS) endpoints by default; 4xx are final, as there.

Source: Amazon SNS developer guide, "Message delivery retries".
"""
