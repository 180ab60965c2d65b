"""The example kind, in a package that is really installed, used by a real service."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks, named, read, rows, section
from tests.service import Service, command, outside_environ
from tests.workers.office import until
from zaqar_notify.client import BadRequest, Client

PAGE = read("add-a-sink.md")


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of a process that finds the example's package, and writes its files to an empty directory."""
    source, installed, files = (tmp_path_factory.mktemp(name) for name in ("source", "site", "out"))
    (module,) = blocks(PAGE, "python")
    (project,) = blocks(PAGE, "toml")
    (source / "lines_sink.py").write_text(module)
    (source / "pyproject.toml").write_text(project)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run(
        [*pip, "--no-build-isolation", "--target", str(installed), str(source)], check=True
    )
    return {
        "PYTHONPATH": str(installed),
        "LINES_DIRECTORY": str(files),
        "ZAQAR_SUBSCRIBER_TYPES": "http,lines",
    }


@pytest.fixture(scope="module")
def service(environ: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("lines") / "data", environ=environ)
    service.start()
    yield service
    service.stop()


async def test_a_message_is_delivered_by_the_sink_of_another_package(
    service: Service, environ: dict[str, str]
) -> None:
    file = Path(environ["LINES_DIRECTORY"]) / "orders.jsonl"
    with Client(service.url, project="demo") as client:
        client.subscribe("q", "lines:Orders", ttl=600)
        client.post("q", {"order": 1})

    await until(lambda: file.exists() and file.read_text().endswith("\n"))

    (line,) = file.read_text().splitlines()
    assert json.loads(line)["body"] == {"order": 1}


def test_the_check_of_another_package_refuses_a_subscriber(service: Service) -> None:
    with (
        Client(service.url, project="demo") as client,
        pytest.raises(BadRequest, match="subscriber must be lines: and a name"),
    ):
        client.subscribe("q", "lines:../etc/passwd", ttl=600)


def test_a_kind_that_can_not_be_loaded_stops_the_start(
    environ: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "lines_sink.py").write_text("raise ImportError('no such library')")

    sentence = refusal(environ | {"PYTHONPATH": f"{tmp_path}:{environ['PYTHONPATH']}"}, tmp_path)

    assert "lines_sink:LinesKind" in sentence
    assert "no such library" in sentence


def test_a_kind_that_lacks_a_setting_stops_the_start(
    environ: dict[str, str], tmp_path: Path
) -> None:
    assert refusal(environ | {"LINES_DIRECTORY": ""}, tmp_path) == (
        "LINES_DIRECTORY is not set: name the directory of the files"
    )


def refusal(environ: dict[str, str], directory: Path) -> str:
    """The sentence that ends a start."""
    ended = subprocess.run(
        command("up", "--port", "0", "--data", str(directory / "data")),
        env=outside_environ() | environ,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1
    (sentence,) = ended.stderr.splitlines()
    return sentence


def test_the_places_to_change_exist() -> None:
    for row in rows(section(PAGE, "## In this repository")):
        assert (ROOT / named(row[0])[0].replace("NAME", "queue")).exists()
