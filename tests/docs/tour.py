"""Tours, in the README and in recipes: their blocks, and a place to run them in.

An HTML comment marks each block:

| comment | the `sh` or `python` block below it |
|---|---|
| `<!-- tour -->` | is run after those before it, in the same shell; a `text` block right below is its output |
| `<!-- tour: background NAME -->` | is run in a terminal of its own, until the end |
| `<!-- tour: eventually NAME -->` | (a `text` block) is printed there, sooner or later |

In expected text `…` stands for anything, and white space for any white space.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.docs.pages import ROOT
from tests.service import free_port, outside_environ

PORTS = {"service": 8888, "mailbox": 1025, "receiver": 9999, "second": 9998}
"""The ports in the pages, by the name of the background block that listens."""

DEADLINE_SECONDS = 120.0
"""Of every wait; a good run takes seconds."""
STOP_SECONDS = 15.0

_MARKED = re.compile(
    r"<!-- tour(?:: (?P<kind>background|eventually) (?P<name>\w+))? -->\n"
    r"```(?P<language>sh|python|text)\n(?P<text>.*?)^```\n"
    r"(?:```text\n(?P<output>.*?)^```\n)?",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """A part of a tour, as a shell runs it.

    `kind` is "" for a block that is run in turn; `output` None when the page shows none.
    """

    kind: str
    name: str
    text: str
    output: str | None


def blocks(page: str) -> list[Block]:
    return [
        Block(found["kind"] or "", found["name"] or "", _script(found), found["output"])
        for found in _MARKED.finditer(page)
    ]


def play(page: str, directory: Path) -> None:
    """Run a page's tour in the empty directory, and compare its output with the page's."""
    terminals = Terminals(directory)
    tour = blocks(page)
    in_turn = [block for block in tour if block.kind == ""]

    with contextlib.ExitStack() as open_terminals:
        for block in tour:
            if block.kind == "background":
                open_terminals.enter_context(terminals.background(block))
        printed = terminals.run([block.text for block in in_turn])

        for block, text in zip(in_turn, printed, strict=True):
            assert block.output is None or is_shown(block.output, text), text
        for block in tour:
            if block.kind == "eventually":
                text = terminals.printed_by(block.name, block.text)
                assert is_shown_somewhere(block.text, text), text


def assert_every_block_is_run(text: str) -> None:
    """Every block of a program is one of the tour's, and every output is compared."""
    tour = blocks(text)
    programs = text.count("```sh\n") + text.count("```python\n")

    assert programs == sum(block.kind != "eventually" for block in tour)
    assert text.count("```text\n") == sum(
        (block.kind == "eventually") + (block.output is not None) for block in tour
    )


def is_shown(expected: str, printed: str) -> bool:
    """Whether the whole output is as expected."""
    return re.fullmatch(_pattern(expected), printed.strip(), re.DOTALL) is not None


def is_shown_somewhere(expected: str, printed: str) -> bool:
    return re.search(_pattern(expected), printed, re.DOTALL) is not None


class Terminals:
    """A fresh checkout with free ports, where blocks are run as a reader would.

    The checkout has no virtual environment of its own to set up: its commands run this Python.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ports = {port: free_port() for port in PORTS.values()}
        self._environ = outside_environ() | {
            "PORT": str(self._ports[PORTS["service"]]),
            "ZAQAR_URL": f"http://127.0.0.1:{self._ports[PORTS['service']]}",
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "PIP_NO_INDEX": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }
        _check_out(directory)

    @contextlib.contextmanager
    def background(self, block: Block) -> Iterator[None]:
        """Run the block until the end of the context; it listens when the context begins."""
        log = self._log(block.name)
        with log.open("wb") as file:
            process = subprocess.Popen(
                ["bash", "-c", self._with_free_ports(block.text)],
                cwd=self._directory,
                env=self._environ,
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        try:
            self._wait_until_it_listens(process, block)
            yield
        finally:
            _stop(process)

    def run(self, texts: list[str]) -> list[str]:
        """Run blocks one after another in one shell; the output of each."""
        script = "set -e\n" + "\nprintf '\\0'\n".join(map(self._with_free_ports, texts))
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self._directory,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )
        printed = self._with_documented_ports(done.stdout.decode())
        assert done.returncode == 0, f"{printed}\n{done.stderr.decode()}"
        return printed.split("\0")

    def printed_by(self, name: str, expected: str) -> str:
        """The output of a background block, when it has the expected text, or at the deadline."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            printed = self._log(name).read_text()
            if is_shown_somewhere(expected, printed) or time.monotonic() > deadline:
                return printed
            time.sleep(0.05)

    def _wait_until_it_listens(self, process: subprocess.Popen[bytes], block: Block) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        port = self._ports[PORTS[block.name]]
        while not _listens(port):
            log = self._log(block.name).read_text()
            assert process.poll() is None, f"{block.name} has ended:\n{log}"
            assert time.monotonic() < deadline, f"{block.name} does not listen:\n{log}"
            time.sleep(0.05)

    def _log(self, name: str) -> Path:
        return self._directory / f"{name}.log"

    def _with_free_ports(self, text: str) -> str:
        return _replaced(text, self._ports)

    def _with_documented_ports(self, text: str) -> str:
        return _replaced(text, {free: port for port, free in self._ports.items()})


def _script(found: re.Match[str]) -> str:
    if found["language"] != "python":
        return found["text"]
    return f".venv/bin/python - <<'END'\n{found['text']}END\n"


def _check_out(directory: Path) -> None:
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, directory)
    shutil.copytree(ROOT / "lock", directory / "lock")
    commands = directory / ".venv" / "bin"
    commands.mkdir(parents=True)
    _make_command(commands / "python", "")
    _make_command(commands / "pip", "-m pip")
    _make_command(commands / "zaqar-notify", "-m zaqar_notify")
    installed = directory / ".venv" / ".installed"
    installed.touch()
    later = time.time() + 1
    os.utime(installed, (later, later))


def _make_command(path: Path, module: str) -> None:
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n')
    path.chmod(0o755)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the block's whole session, as closing its terminal would."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _replaced(text: str, ports: Mapping[int, int]) -> str:
    numbers = "|".join(map(str, ports))
    return re.sub(rf"\b({numbers})\b", lambda found: str(ports[int(found[0])]), text)


def _pattern(expected: str) -> str:
    words = [re.escape(word).replace("…", ".+?") for word in expected.split()]
    return r"\s+".join(words)
