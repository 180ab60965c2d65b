"""The modules that commands load: a start takes as long as its imports."""

from __future__ import annotations

import subprocess
import sys

import pytest

CLUSTER = ("celery", "kombu", "billiard", "redis", "pymongo")
SERVER = ("uvicorn", "fastapi", "workers", "sinks")


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("zaqar_notify.cli", CLUSTER + SERVER),
        ("zaqar_notify.cli.serve", (*CLUSTER, "aiohttp")),
        ("workers.build", (*CLUSTER, "aiohttp")),
        ("workers.app", ("fastapi", "aiohttp")),
        ("api.app", (*CLUSTER, "workers", "sinks")),
    ],
)
def test_a_command_loads_only_what_it_needs(module: str, unwanted: tuple[str, ...]) -> None:
    program = f"import sys, {module}; print(*sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    loaded = {name.partition(".")[0] for name in ended.stdout.split()}

    assert loaded.isdisjoint(unwanted), loaded.intersection(unwanted)
