"""A retry policy, as clients write it: Zaqar's fields, SNS's delivery policy, or a schedule by name; with options.

The options count beside each of the three: `jitter`, `final_statuses`, `max_age` and Zaqar's
`ignore_subscription_override`.
"""

from __future__ import annotations

import msgspec

from zaqar_notify.errors import ValidationFailed
from zaqar_notify.models import JsonObject
from zaqar_notify.rules import sns_phases, zaqar_phases
from zaqar_notify.rules.schedules import PRESETS, Preset, Schedule
from zaqar_notify.rules.sns_phases import disables_overrides, read_sns_phases
from zaqar_notify.rules.zaqar_phases import DEFAULT_PHASES, read_zaqar_phases

POLICY_KEY = "_retry_policy"
"""The key of the policy in a subscription's options and in a queue's metadata."""

PRESET = "preset"
JITTER = "jitter"
FINAL_STATUSES = "final_statuses"
MAX_AGE = "max_age"
IGNORE_OVERRIDE = "ignore_subscription_override"

MAX_AGE_SECONDS = 31_536_000
_STATUSES = range(300, 600)
_CLASSES = {f"{digit}xx": range(100 * digit, 100 * digit + 100) for digit in (3, 4, 5)}

_BOUNDS = (JITTER, FINAL_STATUSES, MAX_AGE)
_FORMS = {
    "a preset": (PRESET,),
    "Zaqar's fields": zaqar_phases.FIELDS,
    "SNS's delivery policy": sns_phases.FIELDS,
}
POLICY_FIELDS = (*zaqar_phases.FIELDS, IGNORE_OVERRIDE, PRESET, *_BOUNDS, *sns_phases.FIELDS)


class Bounds(msgspec.Struct, frozen=True):
    """What a policy says beside its waits; None: what holds without it.

    `jitter` is the part of a wait that is added at most, by chance. `final_statuses` are the answers after
    which a delivery is given up, in place of those that the schedule has. `max_age` are the seconds for
    which a delivery is owed at most.
    """

    jitter: float | None = None
    final_statuses: frozenset[int] | None = None
    max_age: int | None = None


NO_BOUNDS = Bounds()


class RetryPolicy(msgspec.Struct, frozen=True):
    """`waits` is None: the operator's default."""

    waits: Schedule | Preset | None
    bounds: Bounds = NO_BOUNDS


DEFAULT_POLICY = RetryPolicy(DEFAULT_PHASES)
"""Zaqar's defaults."""


def parse_policy(document: object) -> RetryPolicy:
    """Read a client's policy. A null field, and a null policy, count as absent; unknown keys pass.

    Raises:
        ValidationFailed: Names the field, its limit and the unit.
    """
    if document is None:
        return DEFAULT_POLICY
    if not isinstance(document, dict):
        raise ValidationFailed(
            f'{POLICY_KEY} must be an object; a schedule by name is {{"{PRESET}": "{PRESETS[0]}"}}'
        )
    _check_override(document)
    return RetryPolicy(_waits(document), _bounds(document))


def overrides_subscriptions(stored: object) -> bool:
    """Whether a stored policy says that the queue's counts for every subscription, even one that can't be read."""
    if not isinstance(stored, dict):
        return False
    return stored.get(IGNORE_OVERRIDE) is True or disables_overrides(stored)


def _waits(document: JsonObject) -> Schedule | Preset | None:
    given = {
        form: key for form, keys in _FORMS.items() for key in keys if document.get(key) is not None
    }
    match list(given):
        case []:
            # Zaqar's form, unless all that it says is about another schedule.
            has_bounds = any(document.get(key) is not None for key in _BOUNDS)
            return None if has_bounds else DEFAULT_PHASES
        case ["a preset"]:
            return _preset(document[PRESET])
        case ["Zaqar's fields"]:
            return read_zaqar_phases(document, where=POLICY_KEY)
        case ["SNS's delivery policy"]:
            return read_sns_phases(document, where=POLICY_KEY)
        case _:
            named = " and ".join(f"{key} ({form})" for form, key in given.items())
            raise ValidationFailed(f"{POLICY_KEY}: {named} can't be combined; give one of them")


def _preset(value: object) -> Preset:
    for preset in PRESETS:
        if value == preset:
            return preset
    raise ValidationFailed(f"{POLICY_KEY}: {PRESET} must be one of {', '.join(PRESETS)}")


def _bounds(document: JsonObject) -> Bounds:
    return Bounds(
        jitter=_jitter(document.get(JITTER)),
        final_statuses=_final_statuses(document.get(FINAL_STATUSES)),
        max_age=_max_age(document.get(MAX_AGE)),
    )


def _jitter(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValidationFailed(
            f"{POLICY_KEY}: {JITTER} must be a number from 0 to 1: the part of a wait that is added at most"
        )
    return float(value)


def _final_statuses(value: object) -> frozenset[int] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) > len(_STATUSES):
        raise ValidationFailed(
            f"{POLICY_KEY}: {FINAL_STATUSES} must be an array of at most {len(_STATUSES)} statuses"
        )
    return frozenset(status for each in value for status in _statuses(each))


def _statuses(value: object) -> range | tuple[int]:
    if isinstance(value, str) and value in _CLASSES:
        return _CLASSES[value]
    if isinstance(value, int) and not isinstance(value, bool) and value in _STATUSES:
        return (value,)
    raise ValidationFailed(
        f"{POLICY_KEY}: {FINAL_STATUSES} must have integers from {_STATUSES[0]} to {_STATUSES[-1]}, "
        f"and any of {', '.join(_CLASSES)}"
    )


def _max_age(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_AGE_SECONDS:
        raise ValidationFailed(
            f"{POLICY_KEY}: {MAX_AGE} must be an integer from 1 to {MAX_AGE_SECONDS} seconds"
        )
    return value


def _check_override(document: JsonObject) -> None:
    value = document.get(IGNORE_OVERRIDE)
    if value is not None and not isinstance(value, bool):
        raise ValidationFailed(f"{POLICY_KEY}: {IGNORE_OVERRIDE} must be true or false")
