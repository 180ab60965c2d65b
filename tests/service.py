"""A real `zaqar-notify up`, in a process of its own."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tests.compatibility.notes import FOLLOWED
from zaqar_notify.client import Client, ServiceUnavailable, ServiceUnreachable, Unauthorized

START_SECONDS = 30
STOP_SECONDS = 10
PORTS = range(20_000, 32_000)
"""Not those that the kernel gives to outgoing connections: one could take a server's port while that is down."""


class Service:
    """One single-process service on `data`; started again it finds its former data, on its port.

    `log` holds all that its processes printed.
    """

    def __init__(
        self,
        data: Path,
        *,
        host: str = "127.0.0.1",
        port: int | None = None,
        environ: Mapping[str, str] | None = None,
        python: str | Path = sys.executable,
    ) -> None:
        self.data = data
        self._host = host
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = data.with_name(data.name + ".log")
        self.process: subprocess.Popen[bytes] | None = None
        self._environ = outside_environ() | dict(environ or {})
        self._python = str(python)

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command(
                    *("up", "--host", self._host, "--port", str(self.port)),
                    *("--data", str(self.data)),
                    python=self._python,
                ),
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environ,
            )
        try:
            self._wait_for_answer(self.process)
        except BaseException:
            self.kill()
            raise
        FOLLOWED.start(self.url)

    def stop(self) -> int:
        """Ask it to stop, and wait; its exit code."""
        process = self._running()
        FOLLOWED.end(self.url)
        process.terminate()
        try:
            return process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"The service did not stop:\n{self.log.read_text()}") from None

    def kill(self) -> None:
        """End it as a crash would, with SIGKILL."""
        process = self._running()
        FOLLOWED.forget(self.url)
        process.kill()
        process.wait()

    def restart(self) -> None:
        """Stop it properly, and start it again."""
        assert self.stop() == 0
        self.start()

    def _wait_for_answer(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        with Client(self.url, timeout_seconds=2, pauses_seconds=()) as client:
            while not _answers(client):
                if has_ended(process) or time.monotonic() > deadline:
                    raise AssertionError(f"The service did not start:\n{self.log.read_text()}")

    def _running(self) -> subprocess.Popen[bytes]:
        assert self.process is not None, "The service was not started"
        return self.process


def command(*arguments: str, python: str | Path = sys.executable) -> list[str]:
    """The command line of `zaqar-notify` with these arguments, in this Python or another one."""
    return [str(python), "-m", "zaqar_notify", *arguments]


def outside_environ() -> dict[str, str]:
    """This process's environment without settings of ours."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ZAQAR_")}


def free_port(*, and_also: int | None = None) -> int:
    """A port that no server has. Its server may stop and start again on it.

    Args:
        and_also: The server takes a second port, so much above the first; both are free.
    """
    offsets = (0,) if and_also is None else (0, and_also)
    while True:
        port = secrets.choice(PORTS)
        if all(port + offset in PORTS and _is_free(port + offset) for offset in offsets):
            return port


def _is_free(port: int) -> bool:
    with suppress(OSError), socket.socket() as probe:
        probe.bind(("127.0.0.1", port))
        return True
    return False


def has_ended(process: subprocess.Popen[bytes], *, within_seconds: float = 0.05) -> bool:
    try:
        process.wait(within_seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _answers(client: Client) -> bool:
    try:
        client.ping()
    except (ServiceUnreachable, ServiceUnavailable):
        return False
    except Unauthorized:
        return True
    return True
