"""How waits rise from the least to the most, by a named function. Whole seconds, rounded down."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

Backoff: TypeAlias = Literal["linear", "arithmetic", "geometric", "exponential"]
BACKOFFS: tuple[Backoff, ...] = get_args(Backoff)


def rising(function: Backoff, least: int, most: int, *, step: int, steps: int) -> int:
    """Seconds before a step, of 1 to `steps`: the first waits `least`, and the last of several `most`."""
    if steps == 1:
        return least
    match function:
        case "linear":
            return least + (most - least) * (step - 1) // (steps - 1)
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
