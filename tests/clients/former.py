"""Environments of their own for programs that can't share ours."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from tests.programs import do_without

BRINGS_PKG_RESOURCES = "setuptools<80"


def python_with(directory: Path, *packages: str) -> Path:
    """A Python that has these packages. Skips the test, or fails it, where they can't be had."""
    if find_spec("uv") is None:
        do_without("no uv. Install the packages of this checkout: make install")
    made = _uv("venv", "--python", sys.executable, str(directory))
    python = directory / "bin" / "python"
    if made.returncode == 0:
        made = _uv("pip", "install", "--python", str(python), *packages, BRINGS_PKG_RESOURCES)
    if made.returncode != 0:
        do_without(f"{packages[0]} can't be installed: {made.stderr[-500:]}")
    return python


def _uv(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "uv", "--quiet", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
