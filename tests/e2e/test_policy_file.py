"""A running service follows its policy file; with a bad one it does not start."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.service import Service, command, outside_environ
from zaqar_notify.client import Client, Forbidden

FOLLOWED_SECONDS = 20


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + FOLLOWED_SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def may_post(client: Client) -> bool:
    try:
        client.post("q", [1])
    except Forbidden:
        return False
    return True


def test_a_running_service_takes_the_rules_of_a_changed_file(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text('"messages:create": "!"')
    service = Service(tmp_path / "data", environ={"ZAQAR_POLICY_FILE": str(path)})
    service.start()
    try:
        with Client(service.url) as client:
            assert not may_post(client)

            path.write_text('"messages:create": "role:nobody"\n"messages:create": ')
            wait_until(lambda: "policy_refused" in service.log.read_text())
            assert not may_post(client)

            path.write_text('"messages:create": "role:member"')
            wait_until(lambda: may_post(client))
        assert "policy_changed" in service.log.read_text()
        assert service.stop() == 0
    finally:
        if service.process is not None and service.process.poll() is None:
            service.kill()


@pytest.mark.parametrize(
    "arguments",
    [
        ("up", "--port", "0", "--data", "data"),
        ("api", "--port", "0"),
        ("api", "--port", "0", "--processes", "2"),
    ],
)
def test_a_bad_file_stops_the_start(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("\n\"queues:put\": ''")
    environ = {
        "ZAQAR_POLICY_FILE": str(path),
        "ZAQAR_STORE_URI": "mongodb://localhost/?replicaSet=r",
        "ZAQAR_BROKER_URI": "redis://localhost",
    }

    ended = subprocess.run(
        command(*arguments),
        cwd=tmp_path,
        env=outside_environ() | environ,
        capture_output=True,
        text=True,
    )

    assert ended.returncode == 1
    assert f"ZAQAR_POLICY_FILE={str(path)!r} can't be used: line 2: " in ended.stderr
