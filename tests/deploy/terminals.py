"""Terminals into which a person pastes the commands that a service prints."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.cluster.processes import Process
from tests.programs import program

RECEIVER_PORT = 9999
"""The printed port of a receiver; a test takes a free one."""


def things_to_try(printed: str, receiver_port: int = RECEIVER_PORT) -> list[str]:
    """The commands below "Try:"; one that goes on in the next line is one."""
    block = re.search(r"^Try:\n((?:  .*\n)+)", printed, re.MULTILINE)
    assert block is not None, printed
    commands = re.split(r"(?<!\\)\n", block[1].rstrip())
    return [command.replace(str(RECEIVER_PORT), str(receiver_port)) for command in commands]


class Terminals:
    """Any number of terminals, each with a shell in `directory` and `environ`; their processes end with them."""

    def __init__(
        self, shell: str, directory: Path, *, environ: Mapping[str, str] | None = None
    ) -> None:
        program("curl")
        self._shell = program(shell)
        self._directory = directory
        self._environ = environ or {}
        self._count = 0
        self._ends = ExitStack()

    def paste(self, command: str) -> str:
        """Run it to its good end; its output."""
        process = self._launch(command)
        assert process.exit_code() == 0, f"{command}\n{process.printed()}"
        return process.printed()

    def paste_and_leave(self, command: str, *, until_it_says: str) -> Process:
        """Run it from now on; returns when it has said that."""
        process = self._launch(command)
        process.wait_until(partial(has_printed, process, until_it_says))
        return process

    def _launch(self, command: str) -> Process:
        self._count += 1
        log = self._directory / f"terminal-{self._count}"
        process = Process(
            [self._shell, "-c", command], environ=self._environ, log=log, cwd=self._directory
        )
        process.launch()
        self._ends.callback(process.kill)
        return process

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._ends.close()


def has_printed(process: Process, words: str) -> bool:
    return words in process.printed()
