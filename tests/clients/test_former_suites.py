"""Zaqar's own functional tests of the versions before 2, from the last releases that have them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.clients.conftest import single_process
from tests.clients.former import python_with

SCRIPT = Path(__file__).with_name("former_suite.py")
IMPORTED = ("pymongo", "redis", "ddt", "testtools", "fixtures", "jsonschema", "requests")

ASKS_FOR_405 = "test_check_queue_exists"
"""We answer HEAD as GET, also in version 1.1."""


@pytest.mark.parametrize(
    ("zaqar", "version", "count", "differing"),
    [
        ("zaqar==18.0.0", "v1", 99, []),
        ("zaqar==21.0.0", "v1_1", 93, [ASKS_FOR_405]),
    ],
)
def test_zaqar_s_own_tests_pass(
    tmp_path: Path, zaqar: str, version: str, count: int, differing: list[str]
) -> None:
    python = python_with(tmp_path / "zaqar", zaqar, "falcon<5", *IMPORTED)
    modules = [
        f"zaqar.tests.functional.wsgi.{version}.test_{each}"
        for each in ("queues", "messages", "claims")
    ]

    with single_process(tmp_path) as url:
        done = subprocess.run(
            [python, "-W", "ignore", SCRIPT, url, *modules],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["failed"] == differing, done.stderr[-5000:]
    assert result["run"] - result["skipped"] == count
