"""Zaqar's own tests: those of the versions before 2, from the last releases that have them, and those of topics, pools, flavors and the WebSocket."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import single_process
from tests.clients.former import python_with
from tests.service import Service

SCRIPT = Path(__file__).with_name("former_suite.py")
POOLS = Path(__file__).with_name("pool_suite.py")
SOCKETS = Path(__file__).with_name("socket_suite.py")
TOPICS = Path(__file__).with_name("topic_suite.py")
IMPORTED = ("pymongo", "redis", "ddt", "testtools", "fixtures", "jsonschema", "requests")

pytestmark = pytest.mark.client("Zaqar's tests")

ASKS_FOR_405 = "test_check_queue_exists"
"""We answer HEAD as GET, also in version 1.1."""
ASK_FOR_MONGODB = [
    "test_detailed_listing_works",
    "test_get_works",
    "test_patch_works",
    "test_patch_works_with_extra_fields",
]
"""Of flavors: they expect the capabilities of MongoDB, and the pools here are SQLite files, without HIGH_THROUGHPUT."""
ASK_FOR_VERSION_1_1 = ["test_list_pools_1", "test_pool_details_1"]
"""Their links begin with /v1.1."""
FAIL_EVERYWHERE = [f"test_insert_pool_bad_data_{number}" for number in (1, 2, 3)]
"""They call a method that there is not."""
LOOK_INSIDE_ZAQAR = [
    "test_list_returns_503_on_nopoolfound_exception",
    "test_update_metadata",
    "test_ipv6_escaped",
]
"""Of the WebSocket: they put other objects into Zaqar's server, or call a method that there is not."""


@pytest.fixture(scope="module")
def zaqar_21(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with the last Zaqar that has tests of version 1.1."""
    directory = tmp_path_factory.mktemp("zaqar") / "21"
    return python_with(directory, "zaqar==21.0.0", "falcon<5", "websocket-client", *IMPORTED)


@pytest.fixture
def zaqar_18(tmp_path: Path) -> Path:
    """A Python with the last Zaqar that has tests of version 1."""
    return python_with(tmp_path / "zaqar", "zaqar==18.0.0", "falcon<5", *IMPORTED)


@pytest.mark.parametrize(
    ("zaqar", "version", "count", "differing"),
    [("zaqar_18", "v1", 99, []), ("zaqar_21", "v1_1", 93, [ASKS_FOR_405])],
)
def test_zaqar_s_own_tests_pass(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    zaqar: str,
    version: str,
    count: int,
    differing: list[str],
) -> None:
    python = request.getfixturevalue(zaqar)
    modules = [
        f"zaqar.tests.functional.wsgi.{version}.test_{each}"
        for each in ("queues", "messages", "claims")
    ]

    with single_process(tmp_path) as url:
        result, told = _run(python, SCRIPT, url, *modules)

    assert result["failed"] == differing, told
    assert result["run"] - result["skipped"] == count


def test_zaqar_s_own_tests_of_topics_pass(zaqar_21: Path, tmp_path: Path) -> None:
    service = Service(tmp_path / "data", environ={"ZAQAR_CLIENT_ID_UUID_SAFE": "off"})
    service.start()

    result, told = _run(zaqar_21, TOPICS, service.url)

    assert result == {"run": 20, "skipped": 0, "failed": []}, told
    assert service.stop() == 0


@pytest.fixture
def memory() -> Iterator[Path]:
    """A directory in memory, where there is one: the suite makes two hundred stores."""
    shared = Path("/dev/shm")
    parent = shared if os.access(shared, os.W_OK) else None
    directory = Path(tempfile.mkdtemp(prefix="zaqar-", dir=parent))
    yield directory
    shutil.rmtree(directory)


def test_zaqar_s_own_tests_of_pools_and_flavors_pass(zaqar_21: Path, memory: Path) -> None:
    service = Service(memory / "data", environ={"ZAQAR_ADMIN_MODE": "true"})
    service.start()

    result, told = _run(
        zaqar_21,
        POOLS,
        service.url,
        f"sqlite://{memory}/store.db",
        "zaqar.tests.unit.transport.wsgi.v2_0.test_pools_new",
        "zaqar.tests.unit.transport.wsgi.v2_0.test_flavors_new",
        "zaqar.tests.functional.wsgi.v1_1.test_pools",
    )

    assert service.stop() == 0
    assert result["failed"] == [*ASK_FOR_MONGODB, *ASK_FOR_VERSION_1_1, *FAIL_EVERYWHERE], told
    assert result["run"] - result["skipped"] == 85


def test_zaqar_s_own_tests_of_the_websocket_pass(zaqar_21: Path, tmp_path: Path) -> None:
    modules = [
        f"zaqar.tests.unit.transport.websocket.{each}"
        for each in (
            "v2.test_queue_lifecycle",
            "v2.test_messages",
            "v2.test_claims",
            "test_protocol",
        )
    ]

    with single_process(tmp_path) as url:
        result, told = _run(zaqar_21, SOCKETS, url.replace("http", "ws"), *modules)

    assert result["failed"] == LOOK_INSIDE_ZAQAR, told
    assert result["run"] - result["skipped"] == 72


def _run(python: Path, script: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    """The result of a suite, and the end of what it told."""
    done = subprocess.run(
        [python, "-W", "ignore", script, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1]), done.stderr[-5000:]
