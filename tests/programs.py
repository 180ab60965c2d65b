"""Programs of the system that some tests run for real: `.ci/run` installs them, a laptop may do without."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

REQUIRE_VARIABLE = "ZAQAR_TEST_REQUIRE_ALL"

PACKAGES = {
    "apache2": "apache2",
    "bash": "bash",
    "caddy": "caddy",
    "chromium": "chromium",
    "curl": "curl",
    "go": "golang-go",
    "haproxy": "haproxy",
    "nginx": "nginx",
    "node": "nodejs",
    "npm": "npm",
    "promtool": "prometheus",
    "tinyproxy": "tinyproxy-bin",
    "zsh": "zsh",
}
"""Each program, with the package of Debian that brings it."""


def program(name: str) -> str:
    """The path of one of them. Skips the test, or fails it, where it is missing."""
    # Servers are where the PATH of a person does not look.
    path = f"{os.environ['PATH']}:/usr/local/sbin:/usr/sbin:/sbin"
    found = shutil.which(name, path=path)
    if found is None:
        do_without(f"no {name}. Install {PACKAGES[name]}")
    return found


def do_without(missing: str) -> NoReturn:
    """Skip the test, which the end of the run says; with `ZAQAR_TEST_REQUIRE_ALL=1` fail it."""
    reason = f"NOT RUN: {missing}"
    if os.environ.get(REQUIRE_VARIABLE) == "1":
        pytest.fail(reason)
    pytest.skip(reason)
