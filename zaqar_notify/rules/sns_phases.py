"""SNS's delivery policy for HTTP: waits in four phases, all together an hour at most.

1. `numNoDelayRetries` retries at once,
2. `numMinDelayRetries` after `minDelayTarget` each,
3. the rest of `numRetries`, in a backoff that rises from `minDelayTarget` to `maxDelayTarget`,
4. `numMaxDelayRetries` after `maxDelayTarget` each.

A subscription has it as `{"healthyRetryPolicy": {…}}`, a topic as `{"http": {"defaultHealthyRetryPolicy": {…}}}`.

Source: Amazon SNS developer guide, "Creating an HTTP/S delivery policy".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import msgspec

from zaqar_notify.errors import ValidationFailed
from zaqar_notify.models import JsonObject
from zaqar_notify.rules.backoffs import BACKOFFS, Backoff, rising

MAX_RETRIES = 100
MAX_DELAY_SECONDS = 3600
MAX_TOTAL_SECONDS = 3600
"""Of all waits of a policy together."""

HEALTHY = "healthyRetryPolicy"
HTTP = "http"
"""The key of a topic's form; inside it keys begin with `default`."""
DEFAULT_HEALTHY = "defaultHealthyRetryPolicy"
NO_OVERRIDES = "disableSubscriptionOverrides"
WITHOUT_EFFECT = {
    "throttlePolicy": "a subscription's _max_receives_per_second bounds its rate",
    "requestPolicy": "a subscription's post_headers name its Content-Type",
    "sicklyRetryPolicy": "a receiver that fails is left alone, and probed, in any case",
    "guaranteed": "every delivery is kept until it arrives or is given up",
}
"""Parts of SNS's policy that are accepted without effect, with the way to have it."""

FIELDS = (HEALTHY, HTTP, *WITHOUT_EFFECT)
_FIELDS_OF_HTTP = (DEFAULT_HEALTHY, NO_OVERRIDES)
_WITHOUT_EFFECT_IN_HTTP = {
    f"default{name[0].upper()}{name[1:]}": hint for name, hint in WITHOUT_EFFECT.items()
}


class SnsPhases(msgspec.Struct, frozen=True, rename="camel"):
    """SNS's fields and defaults. Delays are seconds."""

    repeats_refusals: ClassVar[bool] = False

    min_delay_target: int = 20
    max_delay_target: int = 20
    num_retries: int = 3
    num_no_delay_retries: int = 0
    num_min_delay_retries: int = 0
    num_max_delay_retries: int = 0
    backoff_function: Backoff = "linear"

    @property
    def backoff_retries(self) -> int:
        """How many retries phase 3 has; negative in a policy that is refused."""
        others = self.num_no_delay_retries + self.num_min_delay_retries + self.num_max_delay_retries
        return self.num_retries - others

    @property
    def retries(self) -> int:
        return self.num_retries

    def delay_before(self, retry: int) -> int:
        if retry <= self.num_no_delay_retries:
            return 0
        retry -= self.num_no_delay_retries
        if retry <= self.num_min_delay_retries:
            return self.min_delay_target
        retry -= self.num_min_delay_retries
        if retry > self.backoff_retries:
            return self.max_delay_target
        return rising(
            self.backoff_function,
            self.min_delay_target,
            self.max_delay_target,
            step=retry,
            steps=self.backoff_retries,
        )


_COUNTS = ("numRetries", "numNoDelayRetries", "numMinDelayRetries", "numMaxDelayRetries")
_DELAYS = ("minDelayTarget", "maxDelayTarget")
_FIELDS_OF_HEALTHY = SnsPhases.__struct_encode_fields__


def read_sns_phases(document: JsonObject, *, where: str) -> SnsPhases:
    """Read a delivery policy in either form. A null field counts as absent.

    Raises:
        ValidationFailed: Names the field, its limit and the unit.
    """
    place, healthy = _healthy(document, where)
    values: dict[str, object] = {
        name: value for name in _FIELDS_OF_HEALTHY if (value := healthy.get(name)) is not None
    }
    for name in _COUNTS:
        _check_integer(values, name, place, least=0, most=MAX_RETRIES, unit="retries")
    for name in _DELAYS:
        _check_integer(values, name, place, least=1, most=MAX_DELAY_SECONDS, unit="seconds")
    if values.get("backoffFunction", BACKOFFS[0]) not in BACKOFFS:
        raise ValidationFailed(f"{place}: backoffFunction must be one of {', '.join(BACKOFFS)}")
    phases = msgspec.convert(values, SnsPhases)
    _check_whole(phases, place)
    return phases


def disables_overrides(document: JsonObject) -> bool:
    """Whether the topic's form says that subscriptions have no policies of their own."""
    http = document.get(HTTP)
    return isinstance(http, dict) and http.get(NO_OVERRIDES) is True


def parts_of_sns(
    document: JsonObject, *, where: str
) -> Iterator[tuple[str, JsonObject, tuple[str, ...], dict[str, str]]]:
    """The objects inside a policy: the place, the object, the fields that count there, and those without an effect,
    each with the reason."""
    healthy, http = document.get(HEALTHY), document.get(HTTP)
    yield f"{where}:", document, (), WITHOUT_EFFECT
    if isinstance(healthy, dict):
        yield f"{where}: {HEALTHY}:", healthy, _FIELDS_OF_HEALTHY, {}
    if isinstance(http, dict):
        yield f"{where}: {HTTP}:", http, _FIELDS_OF_HTTP, _WITHOUT_EFFECT_IN_HTTP
        of_topic = http.get(DEFAULT_HEALTHY)
        if isinstance(of_topic, dict):
            yield f"{where}: {HTTP}: {DEFAULT_HEALTHY}:", of_topic, _FIELDS_OF_HEALTHY, {}


def _healthy(document: JsonObject, where: str) -> tuple[str, JsonObject]:
    """The object with the fields, and its place."""
    http = _object(document, HTTP, where)
    healthy = _object(document, HEALTHY, where)
    if http and healthy:
        raise ValidationFailed(f"{where}: {HEALTHY} and {HTTP} can't be combined; give one of them")
    if not http:
        return f"{where}: {HEALTHY}", healthy
    place = f"{where}: {HTTP}"
    overrides = http.get(NO_OVERRIDES)
    if overrides is not None and not isinstance(overrides, bool):
        raise ValidationFailed(f"{place}: {NO_OVERRIDES} must be true or false")
    return f"{place}: {DEFAULT_HEALTHY}", _object(http, DEFAULT_HEALTHY, place)


def _object(document: JsonObject, name: str, where: str) -> JsonObject:
    value = document.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValidationFailed(f"{where}: {name} must be an object")
    return value


def _check_integer(
    values: JsonObject, name: str, place: str, *, least: int, most: int, unit: str
) -> None:
    value = values.get(name, least)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValidationFailed(f"{place}: {name} must be an integer from {least} to {most} {unit}")


def _check_whole(phases: SnsPhases, place: str) -> None:
    if phases.min_delay_target > phases.max_delay_target:
        raise ValidationFailed(
            f"{place}: minDelayTarget ({phases.min_delay_target} seconds) must not be above "
            f"maxDelayTarget ({phases.max_delay_target} seconds)"
        )
    if phases.backoff_retries < 0:
        raise ValidationFailed(
            f"{place}: numNoDelayRetries, numMinDelayRetries and numMaxDelayRetries make "
            f"{phases.num_retries - phases.backoff_retries} retries, and numRetries, which includes "
            f"them, is {phases.num_retries}"
        )
    total = sum(phases.delay_before(retry) for retry in range(1, phases.retries + 1))
    if total > MAX_TOTAL_SECONDS:
        raise ValidationFailed(
            f"{place}: its retries take {total} seconds; at most {MAX_TOTAL_SECONDS} seconds are allowed"
        )
