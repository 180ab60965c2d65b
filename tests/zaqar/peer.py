"""A real Zaqar, from its released package, in an environment of its own."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import requests

from tests.clients.former import python_with
from tests.service import free_port, has_ended, outside_environ

ROOT = Path(__file__).parents[2]
RELEASE = "zaqar==23.0.1"
LIBRARIES = (
    "gunicorn",
    "redis",
    # With a later one its driver can't open a replica set.
    "pymongo<4",
    "python-memcached",
)
NAMESPACES = (
    "zaqar",
    "keystonemiddleware.auth_token",
    "oslo.cache",
    "oslo.log",
    "oslo.middleware.cors",
    "oslo.policy",
    "oslo.reports",
    "osprofiler",
)
"""Of Zaqar's own configuration of its sample file."""

START_SECONDS = 60


def environment(directory: Path) -> Path:
    """A Python that has Zaqar."""
    return python_with(directory, RELEASE, *LIBRARIES)


def options(python: Path) -> dict[str, list[str]]:
    """The names of all options in Zaqar's sample file, by section."""
    generator = python.with_name("oslo-config-generator")
    spaces = [word for name in NAMESPACES for word in ("--namespace", name)]
    made = subprocess.run(
        [generator, "--format", "json", *spaces], capture_output=True, text=True, check=True
    )
    sections = json.loads(made.stdout)["options"]
    return {
        title: [option["name"] for option in section["opts"]] for title, section in sections.items()
    }


class Zaqar:
    """Zaqar's API, for callers that name their project; started with these options."""

    def __init__(
        self, python: Path, directory: Path, options: Mapping[str, Mapping[str, object]]
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        # Its WSGI application takes no --config-file, and looks here.
        self.conf = directory / ".zaqar" / "zaqar.conf"
        self.conf.parent.mkdir(parents=True)
        self.conf.write_text(_conf(options))
        self.options = options
        self._python = python
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        log = self._directory / "log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [
                    *(self._python, "-W", "ignore", "-m", "gunicorn"),
                    *("--graceful-timeout", "1", "--bind", f"127.0.0.1:{self.port}"),
                    "zaqar.transport.wsgi.app:app",
                ],
                env=outside_environ() | {"HOME": str(self._directory)},
                cwd=self._directory,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            ended = has_ended(self._process)
            assert not ended, log.read_text()[-5000:]
            assert time.monotonic() < deadline, log.read_text()[-5000:]

    def stop(self) -> None:
        """End it. No error when it was not started."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def _answers(self) -> bool:
        try:
            return requests.get(self.url, timeout=5).status_code == 300
        except requests.RequestException:
            return False


def _conf(options: Mapping[str, Mapping[str, object]]) -> str:
    return "".join(
        f"[{title}]\n" + "".join(f"{name} = {value}\n" for name, value in section.items())
        for title, section in options.items()
    )
