"""The wheel, installed by itself: it runs far from the source tree."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.service import has_ended, outside_environ
from zaqar_notify import __version__
from zaqar_notify.client import Client

ROOT = Path(__file__).parents[2]
STOP_SECONDS = 10


def environ() -> dict[str, str]:
    """This process's environment without what could lead to the source tree."""
    return {name: value for name, value in outside_environ().items() if name != "PYTHONPATH"}


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, env=environ(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of an environment with the wheel, and our dependencies but not our source."""
    directory = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    run(
        *pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", directory, ROOT, cwd=ROOT
    )
    (wheel,) = directory.glob("zaqar_notify-*.whl")
    environment = directory / "environment"
    venv.create(environment, symlinks=True)
    python = environment / "bin" / "python"
    packages = Path(run(python, "-c", _PACKAGES, cwd=directory))
    # A directory added this way has its own .pth files ignored, an editable install's among them.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    run(*pip, "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=directory)
    return environment / "bin"


_PACKAGES = "import sysconfig; print(sysconfig.get_path('purelib'))"


@contextmanager
def serving(installed: Path, directory: Path) -> Iterator[str]:
    """The address of an `up` from the wheel."""
    process = subprocess.Popen(
        [installed / "zaqar-notify", "up", "--port", "0"],
        cwd=directory,
        env=environ(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    try:
        words = process.stdout.readline().decode().split()
        assert words[:2] == ["zaqar-notify", "serves"], words
        yield words[2]
    finally:
        process.terminate()
        if not has_ended(process, within_seconds=STOP_SECONDS):
            process.kill()
        process.communicate()


def test_the_wheel_is_what_runs(installed: Path, tmp_path: Path) -> None:
    code = "import zaqar_notify, api, workers, sinks; print(zaqar_notify.__file__)"

    where = run(installed / "python", "-c", code, cwd=tmp_path)

    assert Path(where).is_relative_to(installed.parent)


def test_the_command_says_its_version(installed: Path, tmp_path: Path) -> None:
    assert run(installed / "zaqar-notify", "--version", cwd=tmp_path).endswith(__version__)


def test_up_serves_from_any_directory(installed: Path, tmp_path: Path) -> None:
    with serving(installed, tmp_path) as url, Client(url) as client:
        client.post("orders", {"order": 1})

        assert [m.body for m in client.messages("orders", echo=True).messages] == [{"order": 1}]
    assert (tmp_path / "data" / "zaqar-notify.db").exists()
