"""The form of a log line, and the number of them."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Iterator

import pytest

from zaqar_notify.operations import log_rate, logs
from zaqar_notify.operations.log_rate import AUDIT, PER_KIND, PER_PROJECT, LogRate


class Log:
    """A logger with our text form and rate, and its output."""

    def __init__(self) -> None:
        self._written = io.StringIO()
        handler = logging.StreamHandler(self._written)
        handler.setFormatter(logs.TextFormatter())
        self.rate = LogRate(handler)
        handler.addFilter(self.rate)
        self.logger = logging.Logger("tests", logging.DEBUG)
        self.logger.addHandler(handler)

    @property
    def lines(self) -> list[str]:
        return self._written.getvalue().splitlines()

    def told(self) -> int:
        """How many records were written, or counted as left out."""
        counts = [line.rpartition("=")[2] for line in self.lines if "records_left_out" in line]
        return sum("action=junk" in line for line in self.lines) + sum(map(int, counts))


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    monkeypatch.setattr(log_rate, "WINDOW_SECONDS", 3600)
    log = Log()
    yield log
    log.rate.tell()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain", "plain"),
        (5, "5"),
        ("", '""'),
        ("a b", '"a b"'),
        ("x action=delivered", '"x action=delivered"'),
        ('say "hi"', '"say \\"hi\\""'),
        ("back\\slash", '"back\\\\slash"'),
        ("two\nlines", '"two\\nlines"'),
        ("a\r\x1b[2J\x7f", '"a\\r\\x1b[2J\\x7f"'),
        ("next\u2028line\u202e", '"next\\u2028line\\u202e"'),
        ("Zürich", "Zürich"),
    ],
)
def test_no_value_passes_for_a_fact_or_a_line(log: Log, value: object, shown: str) -> None:
    log.logger.info("said", extra={"detail": value, "status": 400})

    [line] = log.lines
    assert line.endswith(f" info said detail={shown} status=400")


def test_no_message_passes_for_facts_or_lines(log: Log) -> None:
    log.logger.info("a library says\naction=delivered")

    [line] = log.lines
    assert line.endswith('info "a library says\\naction=delivered"')


def test_no_line_of_a_traceback_passes_for_a_record(log: Log) -> None:
    try:
        raise ValueError("first\n2026-11-30T00:00:00.000+00:00 info forged action=delivered")
    except ValueError:
        log.logger.exception("failed")

    assert all(line.startswith("  ") for line in log.lines[1:])


def test_records_of_a_kind_have_a_rate_and_those_left_out_are_counted(log: Log) -> None:
    for _ in range(PER_PROJECT + 42):
        log.logger.info("junk", extra={"action": "junk"})
    log.logger.info("another", extra={"action": "another"})
    log.rate.tell()

    assert sum("action=junk" in line for line in log.lines) == PER_PROJECT
    assert "action=another" in log.lines[PER_PROJECT]
    assert log.lines[-1].endswith("action=records_left_out kind=junk count=42")


def test_one_project_s_records_leave_room_for_another_s(log: Log) -> None:
    for project in ("noisy", "quiet"):
        for _ in range(PER_PROJECT if project == "noisy" else 1):
            log.logger.warning("failed", extra={"action": "failed", "project": project})

    assert "project=quiet" in log.lines[-1]


def test_invented_projects_do_not_lift_the_rate(log: Log) -> None:
    for number in range(PER_KIND + 5):
        log.logger.warning("failed", extra={"action": "failed", "project": f"p{number}"})

    assert len(log.lines) == PER_KIND


def test_debug_records_are_all_written(log: Log) -> None:
    for _ in range(PER_KIND + 1):
        log.logger.debug("flow", extra={"action": "flow"})

    assert len(log.lines) == PER_KIND + 1


def test_records_of_the_audit_are_all_written(log: Log) -> None:
    for _ in range(PER_KIND + 1):
        log.logger.info("asked", extra={"action": AUDIT, "project": "p"})

    assert len(log.lines) == PER_KIND + 1


def test_what_was_left_out_is_told_though_nothing_else_is_logged(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_rate, "WINDOW_SECONDS", 0.05)
    records = 100 * PER_PROJECT

    for _ in range(records):
        log.logger.info("junk", extra={"action": "junk"})

    deadline = time.monotonic() + 10
    while log.told() < records:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert log.told() == records
