"""Fixtures for every suite."""

from __future__ import annotations

import os
import signal

import pytest

from tests.clock import ManualClock

pytest_plugins = ["tests.compatibility.plugin"]


def pytest_configure() -> None:
    """Forget the shell's settings, and whether it ignores Ctrl-C.

    The README's tour leaves settings. Those of the tests stay. A job in the background ignores Ctrl-C, and
    the processes that it starts would ignore it, too.
    """
    for name in list(os.environ):
        if name.startswith("ZAQAR_") and not name.startswith("ZAQAR_TEST_"):
            del os.environ[name]
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()
