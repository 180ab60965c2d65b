"""How many files a process may have open (each connection is one), and names that outlast a crash."""

from __future__ import annotations

import os
import resource
from pathlib import Path

MOST_FILES = 65_536


def attainable_files() -> int | None:
    """The number of files that `raise_file_limit` gives this process; None: any number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return None
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    return max(soft, most)


def raise_file_limit() -> None:
    """Shells and service managers give a process 1,024 of them unless it asks for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = attainable_files()
    if files is not None and soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))


def sync_directory(directory: Path) -> None:
    """Make the names in it survive a loss of power."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
