"""python-zaqarclient 1.13.2, the last one that speaks the versions before 2, in an environment of its own."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.clients.former import python_with
from zaqar_notify.clock import new_id

CLIENT = "python-zaqarclient==1.13.2"
SCRIPT = Path(__file__).with_name("former_calls.py")
VERSIONS = ["1", "1.1"]
CALLS = re.findall(r"@call\n(?: {4})?def (\w+)", SCRIPT.read_text())


pytestmark = pytest.mark.client("zaqarclient 1.13")


@pytest.fixture(scope="session")
def former_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has the former client."""
    return python_with(tmp_path_factory.mktemp("former"), CLIENT)


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
