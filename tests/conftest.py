"""Fixtures for every suite."""

from __future__ import annotations

import os

import pytest

from tests.clock import ManualClock


def pytest_configure() -> None:
    """Forget settings of the shell: the README's tour leaves some. What says how to test stays."""
    for name in list(os.environ):
        if name.startswith("ZAQAR_") and not name.startswith("ZAQAR_TEST_"):
            del os.environ[name]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()
