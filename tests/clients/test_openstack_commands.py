"""Every command of `openstack messaging`: python-zaqarclient brings them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from tests.service import Service
from zaqar_notify.clock import new_id

pytestmark = pytest.mark.client("openstack messaging")

SCRIPT = Path(__file__).with_name("openstack_calls.py")
COMMANDS = {
    point.name.removeprefix("messaging_").replace("_", " ")
    for point in entry_points(group="openstack.messaging.v2")
}
CAPABILITIES = ["FIFO", "CLAIMS", "DURABILITY", "AOD"]
SUBSCRIBER = "http://example.org/hook"


class Shell:
    """The program `openstack`. `called` has the commands that succeeded."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.called: set[str] = set()

    def run(self, command: str, *words: str) -> str:
        """What the command prints."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = json.dumps(["messaging", *command.split(), *words])
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        printed, code = json.loads(self._process.stdout.readline())
        assert code == 0, f"{line}: {printed}"
        self.called.add(command)
        return str(printed)

    def show(self, command: str, *words: str) -> Any:
        """What it prints as JSON."""
        return json.loads(self.run(command, *words, "-f", "json"))


@contextmanager
def openstack(environ: Mapping[str, str]) -> Iterator[Shell]:
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", SCRIPT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | dict(environ),
    ) as process:
        yield Shell(process)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    environ = {"ZAQAR_ADMIN_MODE": "true", "ZAQAR_DEFAULT_PROJECT": "operators"}
    service = Service(tmp_path / "data", environ=environ)
    service.start()
    yield service
    assert service.stop() == 0
    assert "Traceback" not in service.log.read_text()


def test_every_command(service: Service, tmp_path: Path) -> None:
    environ = {
        "OS_AUTH_TYPE": "none",
        "OS_ENDPOINT": service.url,
        "OS_MESSAGE_CLIENT_ID": new_id(),
        "HOME": str(tmp_path),
    }

    with openstack(environ) as shell:
        call_the_service(shell)
        call_queues(shell)
        call_messages(shell)
        call_claims(shell)
        call_subscriptions(shell)
        call_pools(shell, f"sqlite://{tmp_path}")

    assert shell.called == COMMANDS


def call_the_service(shell: Shell) -> None:
    assert shell.show("ping") == {"Pingable": True}
    assert "rel/queue" in shell.run("homedoc")
    assert "storage_reachable" in shell.run("health")


def call_queues(shell: Shell) -> None:
    shell.run("queue create", "jobs")
    shell.run("queue set metadata", "jobs", '{"colour": "blue"}')

    assert shell.show("queue get metadata", "jobs")["Metadata"]["colour"] == "blue"
    assert [each["Name"] for each in shell.show("queue list")] == ["jobs"]
    assert shell.show("queue signed url", "jobs")["Paths"] == "/v2/queues/jobs/messages"


def call_messages(shell: Shell) -> None:
    shell.run(
        "message post", "jobs", '[{"body": "first", "ttl": 300}, {"body": "second", "ttl": 300}]'
    )

    assert [each["Body"] for each in shell.show("message list", "jobs", "--echo")] == [
        "first",
        "second",
    ]
    assert "'free': 2" in shell.run("queue stats", "jobs")


def call_claims(shell: Shell) -> None:
    [claimed] = shell.show("claim create", "jobs", "--limit", "1")
    claim = claimed["Claim_ID"]

    assert [each["Message"] for each in shell.show("claim query", "jobs", claim)] == ["first"]
    assert "first" in shell.run("claim renew", "jobs", claim, "--ttl", "120")
    shell.run("claim release", "jobs", claim)
    shell.run("queue purge", "jobs", "--resource_types", "messages")
    assert shell.show("message list", "jobs", "--echo") == []


def call_subscriptions(shell: Shell) -> None:
    made = shell.show("subscription create", "jobs", SUBSCRIBER, "600")["ID"]
    shell.run("subscription update", "jobs", made, "--ttl", "700")

    assert shell.show("subscription show", "jobs", made)["TTL"] == 700
    assert [each["ID"] for each in shell.show("subscription list", "jobs")] == [made]
    shell.run("subscription delete", "jobs", made)
    shell.run("queue delete", "jobs")


def call_pools(shell: Shell, stores: str) -> None:
    shell.run("pool create", "p1", f"{stores}/1.db", "100")
    shell.run("pool create", "p2", f"{stores}/2.db", "50", "--flavor", "gold")
    assert shell.show("pool show", "p2")["Flavor"] == "gold"
    assert shell.show("pool update", "p2", "--pool_weight", "7")["Weight"] == 7
    [first] = shell.show("pool list", "--limit", "1", "--detailed")
    assert (first["Name"], first["Weight"]) == ("p1", 100)

    shell.run("flavor create", "gold", "--pool_list", "p1,p2")
    [listed] = shell.show("flavor list", "--detailed")
    assert (listed["Name"], listed["Capabilities"]) == ("gold", CAPABILITIES)
    assert shell.show("flavor update", "gold", "--pool_list", "p2")["Pool_list"] == ["p2"]
    assert shell.show("flavor show", "gold")["Capabilities"] == CAPABILITIES

    shell.run("flavor delete", "gold")
    shell.run("pool delete", "p1")
    shell.run("pool delete", "p2")
    assert shell.show("pool list") == []
