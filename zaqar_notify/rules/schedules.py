"""Schedules: how many retries a delivery gets, and how long each waits; those with a name among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias, get_args

import msgspec

from zaqar_notify.rules.backoffs import geometric
from zaqar_notify.rules.zaqar_phases import DEFAULT_PHASES

Preset: TypeAlias = Literal["standard", "zaqar", "sns"]
PRESETS: tuple[Preset, ...] = get_args(Preset)


class Schedule(Protocol):
    """How many retries a delivery gets, and how long each waits."""

    @property
    def repeats_refusals(self) -> bool:
        """Whether a receiver's 4xx is tried again, too: while it is deployed, it answers so."""

    @property
    def retries(self) -> int: ...

    def delay_before(self, retry: int) -> int:
        """Seconds before this retry, counted from 1 to `retries`."""


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


def delays(schedule: Schedule) -> Sequence[int]:
    """Seconds to wait before each retry, in order."""
    return [schedule.delay_before(retry) for retry in range(1, schedule.retries + 1)]


STANDARD_WEBHOOKS = Steps(
    tuple((1, wait) for wait in (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)),
    repeats_refusals=True,
)
"""Nine retries over three days and three hours. Source: Standard Webhooks 1.0.0, "Deliverability"."""

ZAQAR = Steps(tuple((1, max(1, wait)) for wait in delays(DEFAULT_PHASES)))
"""Zaqar's defaults, with a second where Zaqar tries again at once: 14 retries over three minutes."""

_SNS_BACKOFF_RETRIES = 10


def _sns(immediate: int, before: tuple[int, int], most: int, after: int) -> Steps:
    """Retries at once, before, during and after an exponential backoff that ends at `most` seconds."""
    _, least = before
    last = _SNS_BACKOFF_RETRIES - 1
    backoff = ((1, geometric(least, most, step, last)) for step in range(_SNS_BACKOFF_RETRIES))
    return Steps(((immediate, 0), before, *backoff, (after, most)))


SNS_HTTP = Steps(((3, 20),))
SNS_MAIL = _sns(0, (2, 10), 600, 38)
SNS_MANAGED = _sns(3, (2, 1), 20, 100_000)
"""As SNS treats its HTTP, mail and queue (SQS) endpoints by default; 4xx are final, as there.

Source: Amazon SNS developer guide, "Message delivery retries".
"""


def preset_schedule(name: Preset, *, sns: Schedule) -> Schedule:
    """The schedule of that name.

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
