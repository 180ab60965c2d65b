"""A real browser that reaches nothing but this machine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

NOTHING_ELSE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"


def shown(url: str, profile: Path) -> str:
    """The page as it stands after its scripts have run. Skips the test without a browser."""
    chromium = shutil.which("chromium")
    if chromium is None:
        # Too large to be installed for these tests alone; others check the same without it.
        pytest.skip("NOT RUN: no chromium")
    options = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}")
    return subprocess.run(
        [chromium, *options, NOTHING_ELSE, "--virtual-time-budget=8000", "--dump-dom", url],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
