"""The load generator of `make bench`, against a running service."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.service import Service

LOAD = Path(__file__).parents[2] / "bench/load.py"
LEAST = shlex.split(
    "--trials 1 --seconds 0.2 --quiet 2 --timeout 30 --calm 0 --noise 0 "
    "--concurrency 2 --consumers 2 --pairs 2 --subscribers 2 "
    "--consume-messages 40 --mixed-messages 40 --fanout-producers 2,3 --fanout-deliveries 20"
)
WAIT_SECONDS = 15.0
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
        *("consume c=2", "fanout S=2 c=2", "fanout S=2 c=3", "fanout_paced S=2", "list c=2"),
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


def test_each_line_has_a_title_in_words() -> None:
    script = (
        "import argparse, load, report; parser = argparse.ArgumentParser(); load.add_options(parser); "
        "print(*(report.title(name) for name, _ in load.plan(parser.parse_args())), sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *LEAST],
        cwd=LOAD.parent,
        env=os.environ | {"PYTHONPATH": str(LOAD.parents[1])},
        check=True,
        capture_output=True,
        text=True,
    )

    titles = done.stdout.splitlines()
    assert titles == [
        *("post 1 message, 2 at a time", "post 10 messages, 2 at a time"),
        *("page of 10, 2 at a time", "claim 10, delete each, 2 at a time"),
        "post, claim and delete, 2+2 at a time",
        *("fan-out, to 2 webhooks, 2 at a time", "fan-out, to 2 webhooks, 3 at a time"),
        "fan-out, one message at a time, to 2 webhooks",
    ]


def test_a_trial_waits_for_what_the_one_before_left_behind(
    load: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    cores_used = [0.02] * 4 + [0.9] * 3 + [0.02] * 100
    passed = asyncio.run(_calm_after(load, cores_used, monkeypatch))

    assert passed == 4 * 0.25 + 3 * 0.25 + load.CALM_SECONDS


def test_a_machine_that_is_never_calm_is_waited_for_so_long_and_no_longer(
    load: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert asyncio.run(_calm_after(load, [0.9] * 100, monkeypatch)) == WAIT_SECONDS


@pytest.fixture(scope="module")
def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("load", LOAD)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def _calm_after(
    load: ModuleType, cores_used: list[float], monkeypatch: pytest.MonkeyPatch
) -> float:
    """After how many seconds a trial begins on a machine that is so busy from one look to the next."""
    now = used = 0.0
    left = iter(cores_used)

    async def sleep(seconds: float) -> None:
        nonlocal now, used
        now += seconds
        used += seconds * next(left)

    monkeypatch.setattr(load, "asyncio", SimpleNamespace(sleep=sleep))
    monkeypatch.setattr(load, "time", SimpleNamespace(perf_counter=lambda: now))
    monkeypatch.setattr(load, "machine_cpu", lambda: used)
    await load.wait_calm(SimpleNamespace(calm=0.3, calm_wait=WAIT_SECONDS))
    return now
