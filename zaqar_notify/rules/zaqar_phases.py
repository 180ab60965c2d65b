"""Zaqar's retry policy: a sequence of waits in four phases.

1. `retries_with_no_delay` retries at once,
2. `minimum_delay_retries` after `minimum_delay` each,
3. a backoff that rises from `minimum_delay` towards `maximum_delay` by a named function,
4. `maximum_delay_retries` after `maximum_delay` each.

Source: Zaqar user guide, "Notification delivery policy".
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from zaqar_notify.errors import ValidationFailed
from zaqar_notify.models import JsonObject
from zaqar_notify.rules.backoffs import BACKOFFS, Backoff, rising

MAX_RETRIES_PER_PHASE = 100
MAX_DELAY_SECONDS = 43200
"""Longest wait that a policy may ask for: as long as the longest claim."""

_LEAST_SPREAD_SECONDS = 10
_STEP_SECONDS = 5
_COUNTS = ("retries_with_no_delay", "minimum_delay_retries", "maximum_delay_retries")
_DELAYS = ("minimum_delay", "maximum_delay")


class ZaqarPhases(msgspec.Struct, frozen=True):
    """Zaqar's fields and defaults. Delays are seconds."""

    repeats_refusals: ClassVar[bool] = False

    retries_with_no_delay: int = 3
    minimum_delay_retries: int = 3
    minimum_delay: int = 5
    maximum_delay: int = 30
    maximum_delay_retries: int = 3
    retry_backoff_function: Backoff = "linear"

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
            return self._backoff_delay(retry)
        return self.maximum_delay

    def _backoff_delay(self, step: int) -> int:
        if self._is_linear:  # In steps of five seconds, whatever their number.
            return self.minimum_delay + _STEP_SECONDS * (step - 1)
        return rising(
            self.retry_backoff_function,
            self.minimum_delay,
            self.maximum_delay,
            step=step,
            steps=self.backoff_retries,
        )

    @property
    def _is_linear(self) -> bool:
        return self.retry_backoff_function == "linear"


DEFAULT_PHASES = ZaqarPhases()
FIELDS = ZaqarPhases.__struct_fields__

_DEFAULTS: dict[str, int] = {
    field: getattr(DEFAULT_PHASES, field) for field in (*_COUNTS, *_DELAYS)
}


def read_zaqar_phases(document: JsonObject, *, where: str) -> ZaqarPhases:
    """Read the fields from a client's policy. A null field counts as absent.

    Raises:
        ValidationFailed: Names the field, its limit and the unit.
    """
    phases = ZaqarPhases(
        **{field: _count(document, field, where) for field in _COUNTS},
        **{field: _delay(document, field, where) for field in _DELAYS},
        retry_backoff_function=_backoff(document, where),
    )
    if phases.maximum_delay - phases.minimum_delay < _LEAST_SPREAD_SECONDS:
        raise ValidationFailed(
            f"{where}: maximum_delay ({phases.maximum_delay} seconds) must be at least "
            f"{_LEAST_SPREAD_SECONDS} seconds above minimum_delay ({phases.minimum_delay} seconds)"
        )
    if phases.minimum_delay == 0 and phases.retry_backoff_function in ("geometric", "exponential"):
        raise ValidationFailed(
            f"{where}: minimum_delay must be at least 1 second "
            f"with retry_backoff_function {phases.retry_backoff_function}"
        )
    return phases


def _count(document: JsonObject, field: str, where: str) -> int:
    return _integer(document, field, where, limit=MAX_RETRIES_PER_PHASE, unit="retries")


def _delay(document: JsonObject, field: str, where: str) -> int:
    return _integer(document, field, where, limit=MAX_DELAY_SECONDS, unit="seconds")


def _integer(document: JsonObject, field: str, where: str, *, limit: int, unit: str) -> int:
    value = document.get(field)
    if value is None:
        return _DEFAULTS[field]
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= limit:
        raise ValidationFailed(f"{where}: {field} must be an integer from 0 to {limit} {unit}")
    return value


def _backoff(document: JsonObject, where: str) -> Backoff:
    value = document.get("retry_backoff_function")
    if value is None:
        return DEFAULT_PHASES.retry_backoff_function
    for backoff in BACKOFFS:
        if value == backoff:
            return backoff
    raise ValidationFailed(f"{where}: retry_backoff_function must be one of {', '.join(BACKOFFS)}")
