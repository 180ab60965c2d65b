"""A file system of a few megabytes, so that a test can fill it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.programs import do_without


@contextmanager
def small_disk(directory: Path, megabytes: int) -> Iterator[Path]:
    """The new directory, as a disk of its own; only root can have one."""
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "zaqar-test", str(directory)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode != 0:
        do_without("no right to mount a small disk. Run the tests as root")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def fill(directory: Path, *, leave: int = 0) -> Path:
    """A file of another program's that takes all room but so many bytes."""
    other = directory / "others-log"
    disk = os.statvfs(directory)
    with other.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, disk.f_bavail * disk.f_frsize - leave)
    return other
