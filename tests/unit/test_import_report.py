"""The report of an import, as an operator reads it."""

from __future__ import annotations

from zaqar_notify.operations.zaqar.importing import report
from zaqar_notify.operations.zaqar.importing.found import Odd


def test_things_with_one_reason_are_counted_and_some_are_named() -> None:
    told = report.Report(is_dry=False)
    for number in range(12):
        told.note_left_out(Odd("queue", "p", f"q{number}", "it is odd"))
    told.note_kept(Odd("pool", "", "one", "it differs"))

    lines = list(told.lines())

    assert lines[:2] == ["Kept as they are here: 1 pool: it differs.", "  one"]
    assert lines[2:4] == ["Left out: 12 queues: it is odd.", "  p q0"]
    assert lines[-1] == "  and 2 more, which --json names"
    assert not told.is_complete


def test_a_report_has_a_bound_and_counts_the_rest() -> None:
    told = report.Report(is_dry=False)
    for number in range(report.MOST_TOLD + 5):
        told.note_left_out(Odd("queue", "p", f"q{number}", "it is odd"))

    assert len(told.left_out) == report.MOST_TOLD
    assert list(told.lines())[-1] == "5 more were kept or left out."


def test_a_trial_says_what_would_be() -> None:
    told = report.Report(is_dry=True)
    told.queues.imported = 3
    told.messages.copied = 2

    assert list(told.lines()) == [
        "Queues and topics: 3 would be imported, 0 were here already.",
        "Messages: 2 would be here, 0 were gone.",
    ]
    assert told.is_complete
