"""A retry policy, as clients write it: a sequence of waits in four phases, as in Zaqar.

1. `retries_with_no_delay` retries at once,
2. `minimum_delay_retries` after `minimum_delay` each,
3. a backoff that rises from `minimum_delay` towards `maximum_delay` by a named function,
4. `maximum_delay_retries` after `maximum_delay` each.
"""

from __future__ import annotations

from typing import ClassVar, Literal, TypeAlias, get_args

import msgspec

from zaqar_notify.errors import ValidationFailed
from zaqar_notify.models import JsonObject

Backoff: TypeAlias = Literal["linear", "arithmetic", "geometric", "exponential"]

POLICY_KEY = "_retry_policy"
"""The key of the policy in a subscription's options and in a queue's metadata."""

MAX_RETRIES_PER_PHASE = 100
MAX_DELAY_SECONDS = 43200
"""Longest wait that a policy may ask for: as long as the longest claim."""

_LEAST_SPREAD_SECONDS = 10
_STEP_SECONDS = 5
_BACKOFFS: tuple[Backoff, ...] = get_args(Backoff)
_COUNTS = ("retries_with_no_delay", "minimum_delay_retries", "maximum_delay_retries")
_DELAYS = ("minimum_delay", "maximum_delay")


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


def _backoff_delay(policy: RetryPolicy, step: int) -> int:
    """Seconds before step 1, 2, … of phase 3, rounded down."""
    least, most, steps = policy.minimum_delay, policy.maximum_delay, policy.backoff_retries
    match policy.retry_backoff_function:
        case "linear":
            return least + _STEP_SECONDS * (step - 1)
        case "arithmetic":
            return least + step * (step - 1) * (most - least) // (steps * (steps - 1))
        case "geometric" | "exponential":
            return geometric(least, most, step - 1, steps - 1)


def geometric(least: int, most: int, step: int, last: int) -> int:
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
