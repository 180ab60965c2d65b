"""The Dockerfile's packages, installed by its own commands below a directory of a test."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
INSTALLED = "/opt/zaqar-notify"
"""Where the image has it."""


def build(root: Path) -> Path:
    """Run the steps of the stage `build` as if `root` were the root of the image; the scripts that are installed."""
    directory = root
    for instruction, arguments in _steps(_stage("build")):
        if instruction == "WORKDIR":
            directory = root / arguments.lstrip("/")
            directory.mkdir(parents=True)
        elif instruction == "COPY":
            _copy(*arguments.split(), into=directory)
        elif instruction == "RUN":
            _run(arguments.replace(" /", f" {root}/"), directory)
        else:
            raise AssertionError(f"A step that is not known here: {instruction}")
    return root / INSTALLED.lstrip("/") / "bin"


def _stage(name: str) -> str:
    found = re.search(rf"^FROM \S+ AS {name}$(.*?)^FROM ", DOCKERFILE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def _steps(stage: str) -> list[tuple[str, str]]:
    lines = re.sub(r"\\\n\s*", "", stage).split("\n")
    steps = [line.partition(" ") for line in lines if line and not line.startswith("#")]
    return [
        (instruction, re.sub(r"--mount=\S+ +", "", arguments))
        for instruction, _, arguments in steps
    ]


def _copy(*words: str, into: Path) -> None:
    *sources, target = words
    for source in sources:
        if (ROOT / source).is_dir():
            shutil.copytree(
                ROOT / source, into / target, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            (into / target).mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, into / target)


def _run(command: str, directory: Path) -> None:
    # `python` and `pip` are this environment's, as they are the image's there.
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=directory,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
