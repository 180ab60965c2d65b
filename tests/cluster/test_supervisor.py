"""The processes of one command: kept, and stopped together."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.processes import Process, is_alive

WORK = """
import os, signal, sys
from zaqar_notify.operations import logs
from zaqar_notify.cli.supervisor import Supervisor, tell_ready

def say(word):
    # In one write: several processes print to one file.
    os.write(1, word.encode() + b"\\n")

class Told(Exception):
    pass

def told(*_):
    raise Told

def work(place):
    signal.signal(signal.SIGTERM, told)
    tell_ready()
    say(f"ready at {{place}}")
    say("ready")
    try:
        while True:
            signal.pause()
    except Told:
        {at_end}

logs.configure("info", "text")
Supervisor(
    {work},
    count={count},
    stop_seconds={stop_seconds},
    on_ready=lambda: say("serving"),
    on_stop=lambda: say("stopping"),
).run()
"""


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[list[Process]]:
    """Those that the test has started."""
    started: list[Process] = []
    yield started
    for process in started:
        process.kill()


def supervised(
    tmp_path: Path,
    processes: list[Process],
    *,
    count: int = 2,
    work: str = "work",
    at_end: str = 'say("done")',
    stop_seconds: float = 5,
) -> Process:
    program = WORK.format(work=work, count=count, at_end=at_end, stop_seconds=stop_seconds)
    arguments = [sys.executable, "-c", program]
    process = Process(arguments, environ={}, log=tmp_path / f"{len(processes)}.log")
    processes.append(process)
    process.launch()
    return process


def wait_for(process: Process, word: str, times: int) -> None:
    process.wait_until(lambda: process.printed().count(f"{word}\n") >= times)


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_all_processes_are_told_to_stop_and_waited_for(
    tmp_path: Path, processes: list[Process], signal_number: signal.Signals
) -> None:
    process = supervised(tmp_path, processes, count=3)
    wait_for(process, "ready", 3)

    process.send(signal_number)

    assert process.exit_code() == 0
    assert process.printed().count("done\n") == 3
    assert process.printed().count("stopping\n") == 1


def test_a_process_that_ends_is_started_again(tmp_path: Path, processes: list[Process]) -> None:
    process = supervised(tmp_path, processes)
    wait_for(process, "ready", 2)
    first, second = process.children()

    os.kill(second, signal.SIGKILL)

    wait_for(process, "ready", 3)
    now = process.children()
    assert len(now) == 2
    assert first in now
    assert second not in now
    assert process.printed().count("ready at 1\n") == 2
    assert f"action=process_ended pid={second} exit_code=-9" in process.printed()
    assert process.stop() == 0


def test_a_process_that_keeps_ending_is_started_less_and_less_often(
    tmp_path: Path, processes: list[Process]
) -> None:
    process = supervised(tmp_path, processes, count=1)
    for number in range(3):
        wait_for(process, "ready", number + 1)
        os.kill(process.children()[0], signal.SIGKILL)

    wait_for(process, "ready", 4)

    pauses = [
        float(line.rpartition("pause_seconds=")[2])
        for line in process.printed().splitlines()
        if "pause_seconds=" in line
    ]
    assert pauses == [0.1, 0.2, 0.4]
    assert process.stop() == 0


def test_a_first_process_that_never_gets_ready_ends_it_all_with_its_exit_code(
    tmp_path: Path, processes: list[Process]
) -> None:
    process = supervised(tmp_path, processes, work="lambda place: sys.exit(7)")

    assert process.exit_code() == 7
    assert "serving" not in process.printed()


def test_processes_end_when_their_parent_is_killed(
    tmp_path: Path, processes: list[Process]
) -> None:
    process = supervised(tmp_path, processes)
    wait_for(process, "ready", 2)
    orphans = process.children()

    process.kill()

    process.launch()
    process.wait_until(lambda: process.printed().count("done\n") == 2)
    process.wait_until(lambda: not any(map(is_alive, orphans)))


def test_a_process_that_does_not_stop_in_time_is_killed(
    tmp_path: Path, processes: list[Process]
) -> None:
    process = supervised(tmp_path, processes, count=1, at_end="signal.pause()", stop_seconds=-4.5)
    wait_for(process, "ready", 1)

    assert process.stop() == 1


def test_a_child_that_it_did_not_start_is_buried_and_changes_nothing(
    tmp_path: Path, processes: list[Process]
) -> None:
    """As process 1 of a container it inherits orphans; here, those of the shell that it replaced."""
    program = WORK.format(work="work", count=2, at_end='say("done")', stop_seconds=5)
    script = '"$0" -c "import os; os.write(1, b\'gone\\n\')" & exec "$0" -c "$1"'
    arguments = ["/bin/sh", "-c", script, sys.executable, program]
    process = Process(arguments, environ={}, log=tmp_path / "0.log")
    processes.append(process)
    process.launch()
    wait_for(process, "ready", 2)
    wait_for(process, "gone", 1)

    os.kill(process.children()[0], signal.SIGKILL)
    wait_for(process, "ready", 3)

    assert len(process.children()) == 2
    assert process.stop() == 0
