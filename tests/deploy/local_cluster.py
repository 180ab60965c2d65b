"""`make cluster` as a person runs it: a process, its output, and signals."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pymongo

from tests.service import free_port, has_ended, outside_environ

ROOT = Path(__file__).parents[2]
START_SECONDS = 60
STOP_SECONDS = 15
"""The longest stop that it promises."""

_ROW = re.compile(r"^  ([a-z]+(?:-\d)?) +(\d+)  \S+\.log(?:  (\S*))?", re.MULTILINE)
_REPLACED = re.compile(r"^(\S+) is process (\d+) now$", re.MULTILINE)


class LocalCluster:
    """One on `data`; started again it finds its former data."""

    def __init__(self, data: Path, *, environ: Mapping[str, str]) -> None:
        self.data = data
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        self._environ = outside_environ() | dict(environ)
        self._output = data.with_name(f"{data.name}.out")

    def start(self, *options: str) -> None:
        """Start it and wait until it says how to use it."""
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                command("--data", str(self.data), "--port", str(self.port), *options),
                cwd=ROOT,
                env=self._environ,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.wait_for_word(f"zaqar-notify serves {self.url} ", within_seconds=START_SECONDS)

    def stop(self) -> int:
        """Press Ctrl-C and wait for as long as it may take; its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        assert has_ended(self.process, within_seconds=STOP_SECONDS), self.printed()
        return self.process.wait()

    def end(self) -> None:
        """Stop it if it runs, whatever a test has left."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            if not has_ended(self.process, within_seconds=2 * STOP_SECONDS):
                self.process.kill()
                self.process.wait()

    def printed(self) -> str:
        return self._output.read_text()

    def wait_for_word(self, words: str, *, within_seconds: float) -> None:
        """Wait until it has printed `words`."""
        assert self.process is not None
        deadline = time.monotonic() + within_seconds
        while words not in self.printed():
            assert not has_ended(self.process), self.printed()
            assert time.monotonic() < deadline, self.printed()

    def pids(self) -> dict[str, int]:
        """Its present processes, by name."""
        printed = self.printed()
        first = {name: int(pid) for name, pid, _ in _ROW.findall(printed)}
        return first | {name: int(pid) for name, pid in _REPLACED.findall(printed)}

    def members(self) -> dict[str, str]:
        """The names of the MongoDB members, by their addresses."""
        rows = _ROW.findall(self.printed())
        return {address: name for name, _, address in rows if "mongod" in name}

    def primary(self) -> str:
        """The name of the MongoDB member that takes writes."""
        addresses = self.members()
        hosts = ",".join(addresses)
        with pymongo.MongoClient[dict[str, object]](f"mongodb://{hosts}/?replicaSet=rs0") as client:
            client.admin.command("ping")
            assert client.primary is not None
            host, port = client.primary
        return addresses[f"{host}:{port}"]

    def kill(self, name: str) -> None:
        """End one of its processes as a crash would."""
        os.kill(self.pids()[name], signal.SIGKILL)
        self.wait_for_word(f"{name} was ended by SIGKILL", within_seconds=5)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "deploy.local_cluster", *arguments]
