"""The load generator of `make bench`, against a running service."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.service import Service

LOAD = Path(__file__).parents[2] / "bench/load.py"
LEAST = shlex.split(
    "--trials 1 --seconds 0.2 --quiet 2 --timeout 30 --calm 0 --noise 0 "
    "--concurrency 2 --consumers 2 --pairs 2 --subscribers 2 "
    "--consume-messages 40 --mixed-messages 40 --fanout-deliveries 20"
)
PROMISED_NEVER = ("lost", "duplicated", "malformed", "unaccepted_but_seen")


@pytest.fixture(scope="module")
def results(service: Service, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A summary of each scenario."""
    out = tmp_path_factory.mktemp("load") / "results.json"
    assert service.process is not None
    of = ("--base-url", service.url, "--server-pid", str(service.process.pid), "--out", str(out))
    subprocess.run([sys.executable, str(LOAD), *of, *LEAST], check=True, timeout=120)
    lines: dict[str, Any] = json.loads(out.read_text())["results"]
    return {name: line["summary"] for name, line in lines.items()}


def test_every_scenario_is_measured_without_an_error(results: dict[str, Any]) -> None:
    assert list(results) == [
        *("consume c=2", "fanout S=2", "fanout_paced S=2", "list c=2"),
        *("mixed 2+2", "post1 c=2", "post10 c=2"),
    ]
    for summary in results.values():
        assert summary["errors"] == {}
        assert summary["p99_ms"]["median"] > 0
        assert "server_cpu_ms_per_op" in summary


def test_what_it_sent_arrived_once(results: dict[str, Any]) -> None:
    counted = [
        summary[what]["max"]
        for summary in results.values()
        for what in PROMISED_NEVER
        if what in summary
    ]

    assert counted
    assert not any(counted)
