"""The alarms, judged by Prometheus' own tool: each is raised by its first event, and by nothing else."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.programs import program

HERE = Path(__file__).parent
RULES = HERE.parents[1] / "deploy" / "alarms.yml"
CASES = HERE / "alarms_test.yml"


def promtool(*arguments: str) -> None:
    done = subprocess.run(
        [program("promtool"), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_can_read_the_alarms() -> None:
    promtool("check", "rules", str(RULES))


def test_each_alarm_is_raised_by_what_it_is_for_and_by_nothing_else() -> None:
    promtool("test", "rules", str(CASES))


def test_every_alarm_has_a_case_that_raises_it() -> None:
    alarms = set(re.findall(r"alert: (\w+)", RULES.read_text()))
    cases = re.split(r"  - name: ", CASES.read_text())

    raised = {
        name
        for case in cases
        if "exp_alerts" in case
        for name in re.findall(r"alertname: (\w+)", case)
    }

    assert raised == alarms
