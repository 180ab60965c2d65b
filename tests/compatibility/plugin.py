"""Notes the operations that tests call, with `--note-operations FILE`."""

from __future__ import annotations

from pathlib import Path

import pytest

OPTION = "--note-operations"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        OPTION, type=Path, metavar="FILE", help="note which operations of the API tests call"
    )


def pytest_configure(config: pytest.Config) -> None:
    file = config.getoption(OPTION)
    if file is not None:
        # Not at the head: other runs need not wait for the whole application.
        from tests.compatibility.noter import Noter

        config.pluginmanager.register(Noter(file), "operations")
