"""`.ci/run`: a fresh machine gets the programs that the tests need."""

from __future__ import annotations

from pathlib import Path

from tests.programs import PACKAGES

ROOT = Path(__file__).parents[2]


def test_it_installs_the_programs_that_tests_run() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    wanted = " ".join(f"{program}:{package}" for program, package in sorted(PACKAGES.items()))

    assert f"for program in {wanted}; do" in script
