"""`make`, with nothing or `help`: the list of targets."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_make_lists_every_target_and_sets_nothing_up(tmp_path: Path) -> None:
    makefile = ROOT / "Makefile"
    (targets,) = re.findall(r"^\.PHONY: (.*)$", makefile.read_text(), re.M)

    printed = subprocess.check_output(["make", "-f", makefile], cwd=tmp_path, text=True)

    assert re.findall(r"^  make ([a-z]+) +\S", printed, re.M) == targets.split()
    assert list(tmp_path.iterdir()) == []
