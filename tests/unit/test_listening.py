"""How long a worker waits before it tries again to listen to its broker."""

from __future__ import annotations

from workers.listening import (
    ITEM_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    STEADY_SECONDS,
    Patience,
)


def pauses(patience: Patience, *, failures: int) -> list[float]:
    """The pause after each of some tries that fail at once."""
    seen = []
    for _ in range(failures):
        patience.begins(0.0)
        patience.failed(0.0)
        seen.append(patience.pause_seconds)
    return seen


def test_pauses_grow_from_none_to_the_longest() -> None:
    assert pauses(Patience(), failures=6) == [
        0,
        1,
        2,
        4,
        LONGEST_PAUSE_SECONDS,
        LONGEST_PAUSE_SECONDS,
    ]


def test_after_a_steady_time_the_next_failure_counts_as_the_first() -> None:
    patience = Patience()
    pauses(patience, failures=4)

    patience.begins(0.0)
    patience.failed(STEADY_SECONDS)

    assert patience.pause_seconds == 0


def test_an_outage_ends_once() -> None:
    patience = Patience()
    pauses(patience, failures=2)

    patience.begins(0.0)

    assert [patience.is_over(at) for at in (1.0, STEADY_SECONDS, STEADY_SECONDS + 1)] == [
        False,
        True,
        False,
    ]
    assert not Patience().is_over(STEADY_SECONDS)


def test_an_item_that_is_no_ring_is_no_outage() -> None:
    patience = Patience()

    patience.met_an_item()

    assert patience.pause_seconds == ITEM_PAUSE_SECONDS
    assert not patience.is_broken
