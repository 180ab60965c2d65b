"""Fixtures for every suite."""

from __future__ import annotations

import os
import signal

import pytest

from tests.clock import ManualClock


def pytest_configure() -> None:
    """Forget what the shell left us.

    Its settings: the README's tour leaves some. What says how to test stays. And that Ctrl-C is ignored, as
    in a job in the background: the processes we start would ignore it, too.
    """
    for name in list(os.environ):
        if name.startswith("ZAQAR_") and not name.startswith("ZAQAR_TEST_"):
            del os.environ[name]
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()
