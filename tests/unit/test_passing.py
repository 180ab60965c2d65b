"""Looks that pass over many messages, and where the next ones begin."""

from __future__ import annotations

from zaqar_notify.storage.passing import LONG_SECONDS, PART, Passing

QUEUE = b"outbox"
LONG = 2 * LONG_SECONDS


class Seconds:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def look(passing: Passing[int], clock: Seconds, *, took: float, found: int | None) -> int | None:
    """Look without one client's messages; where the look began."""
    begun = passing.begin(QUEUE, ["a"])
    clock.now += took
    begun.end(found)
    return begun.after


def test_a_long_look_spares_others_the_same_way_for_a_while() -> None:
    clock = Seconds()
    passing: Passing[int] = Passing(clock)

    assert look(passing, clock, took=LONG, found=7) is None
    assert look(passing, clock, took=PART * LONG / 2, found=9) == 7
    assert look(passing, clock, took=PART * LONG / 2, found=9) == 7
    assert look(passing, clock, took=0, found=7) is None


def test_a_short_look_is_made_anew_each_time() -> None:
    clock = Seconds()
    passing: Passing[int] = Passing(clock)

    assert [look(passing, clock, took=LONG_SECONDS / 2, found=7) for _ in range(2)] == [None, None]


def test_another_set_of_clients_begins_at_the_head() -> None:
    clock = Seconds()
    passing: Passing[int] = Passing(clock)
    look(passing, clock, took=LONG, found=7)

    assert passing.begin(QUEUE, ["a", "b"]).after is None
    assert passing.begin(b"another", ["a"]).after is None
