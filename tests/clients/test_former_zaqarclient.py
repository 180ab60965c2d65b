"""python-zaqarclient 1.13.2, the last one that speaks the versions before 2, in an environment of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.programs import do_without
from zaqar_notify.clock import new_id

CLIENT = "python-zaqarclient==1.13.2"
BRINGS_PKG_RESOURCES = "setuptools<80"
SCRIPT = Path(__file__).with_name("former_calls.py")
VERSIONS = ["1", "1.1"]
CALLS = re.findall(r"@call\n(?: {4})?def (\w+)", SCRIPT.read_text())


@pytest.fixture(scope="session")
def former_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has the former client."""
    if find_spec("uv") is None:
        do_without("no uv. Install the packages of this checkout: make install")
    python = tmp_path_factory.mktemp("former") / "bin" / "python"
    made = _uv("venv", "--python", sys.executable, str(python.parents[1]))
    if made.returncode == 0:
        made = _uv("pip", "install", "--python", str(python), CLIENT, BRINGS_PKG_RESOURCES)
    if made.returncode != 0:
        do_without(f"{CLIENT} can't be installed: {made.stderr[-500:]}")
    return python


def _uv(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "uv", "--quiet", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module", params=VERSIONS)
def results(request: pytest.FixtureRequest, former_python: Path, url: str) -> dict[str, str | None]:
    """Each call's failure, or None, by the call's name."""
    done = subprocess.run(
        [former_python, "-W", "ignore", SCRIPT, url, f"project-{new_id()}", request.param],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str | None] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("call", CALLS)
def test_the_former_client_works(results: dict[str, str | None], call: str) -> None:
    assert results.get(call) is None


def test_every_call_was_made(results: dict[str, str | None]) -> None:
    assert set(results) <= set(CALLS)
    assert len(results) > 12
