"""Variables that the tests take from the shell that starts them."""

from __future__ import annotations

import os
import signal

import pytest

from tests.conftest import pytest_configure


def test_settings_of_the_shell_are_forgotten_but_not_how_to_test(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ZAQAR_PROJECT", "demo")
    monkeypatch.setenv("ZAQAR_TEST_OF_THIS", "1")

    pytest_configure()

    assert "ZAQAR_PROJECT" not in os.environ
    assert os.environ["ZAQAR_TEST_OF_THIS"] == "1"


def test_a_shell_that_runs_the_tests_in_the_background_makes_no_process_deaf_to_ctrl_c() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        pytest_configure()

        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
