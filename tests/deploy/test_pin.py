"""`make pin`: images get digests where a registry answers, and it says where none does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deploy import pin

ROOT = Path(__file__).parents[2]
TODAY, BEFORE = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Copies of the Dockerfile, pinned earlier, and of the compose file."""
    dockerfile, compose = (tmp_path / name for name in ("Dockerfile", "docker-compose.yml"))
    text = (ROOT / dockerfile.name).read_text()
    dockerfile.write_text(re.sub(r"^(FROM python:[\w.-]+)\S*", rf"\1@{BEFORE}", text, flags=re.M))
    compose.write_text((ROOT / compose.name).read_text())
    return dockerfile, compose


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A command of that name on the PATH, alone there; it is to be written."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path / "docker"


def answers(docker: Path, script: str) -> None:
    docker.write_text(f"#!/bin/sh\n{script}\n")
    docker.chmod(0o755)


def test_every_image_of_elsewhere_gets_the_digest_that_its_tag_leads_to(
    files: tuple[Path, Path], docker: Path
) -> None:
    answers(docker, f"echo {TODAY}")

    assert pin.main(files) == 0

    dockerfile, compose = (file.read_text() for file in files)
    assert re.findall(r"^FROM (\S+):\S+@(\S+)", dockerfile, re.M) == [("python", TODAY)]
    images = re.findall(r"^ +image: (\S+)$", compose, re.M)
    assert [image for image in images if not image.endswith(f"@{TODAY}")] == ["zaqar-notify:local"]
    assert re.sub(f"@{TODAY}", "", compose) == (ROOT / "docker-compose.yml").read_text()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (None, "there is no docker command on this machine"),
        ("echo 'dial tcp: no route to host' >&2; exit 1", "dial tcp: no route to host"),
        ("echo latest", "latest"),
    ],
)
def test_an_image_whose_registry_gives_no_digest_stays_as_it_is_and_is_named(
    files: tuple[Path, Path],
    docker: Path,
    capsys: pytest.CaptureFixture[str],
    script: str | None,
    reason: str,
) -> None:
    before = [file.read_text() for file in files]
    if script:
        answers(docker, script)

    assert pin.main(files) == 1

    assert [file.read_text() for file in files] == before
    told = capsys.readouterr().err.splitlines()
    assert all(line.endswith(f"is not pinned and stays as it is: {reason}") for line in told)
    assert any(line.startswith("python:") for line in told)
