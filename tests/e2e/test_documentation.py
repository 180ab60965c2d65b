"""`/docs` in a real browser that reaches nothing but the service."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.service import Service

NOTHING_ELSE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"


def test_the_page_shows_the_operations_without_a_network(tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        # Too large to be installed for this alone; another test checks the page's files without it.
        pytest.skip("NOT RUN: no chromium")
    service = Service(tmp_path / "data")
    service.start()
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    options = ("--headless", "--no-sandbox", "--disable-gpu", profile, NOTHING_ELSE)

    try:
        shown = subprocess.run(
            [chromium, *options, "--virtual-time-budget=8000", "--dump-dom", f"{service.url}/docs"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
    finally:
        service.stop()

    assert "Claim messages" in shown
    assert "Subscribe to a queue" in shown
