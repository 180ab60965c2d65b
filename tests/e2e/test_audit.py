"""The audit of a real process, as its operator finds it in the log."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.service import Service, command, outside_environ
from zaqar_notify.cli.admin_commands import COMMANDS
from zaqar_notify.client import Client
from zaqar_notify.operations.log_rate import PER_PROJECT

LOOKING = {
    "doctor",
    *("flavor list", "flavor show", "pool list", "pool show"),
    *("poison list", "queue moves", "quota show", "token list"),
}
SETTINGS = {"ZAQAR_AUDIT": "true", "ZAQAR_LOG_FORMAT": "json", "ZAQAR_LOG_LEVEL": "error"}


def test_every_command_that_does_more_than_look_is_recorded() -> None:
    assert {each.name for each in COMMANDS if each.audited is None} == LOOKING


def test_each_change_is_in_the_log_whatever_its_level_and_rate(tmp_path: Path) -> None:
    service = Service(tmp_path / "data", environ=SETTINGS)
    service.start()
    change = command("quota", "set", "p1", "queues=5", "--data", str(service.data))

    with Client(service.url, "p1") as client:
        for _ in range(PER_PROJECT + 20):
            client.post("q", 1)
        client.messages("q")
    subprocess.run(change, env=outside_environ(), capture_output=True, timeout=30, check=True)
    assert service.stop() == 0

    lines = [json.loads(line) for line in service.log.read_text().splitlines() if line[:1] == "{"]
    records = [line for line in lines if line["action"] == "audit"]
    assert [each["rule"] for each in records[:-1]] == ["messages:create"] * (PER_PROJECT + 20)
    assert records[-1]["rule"] == "quotas:update"
    assert (records[-1]["how"], records[-1]["project"]) == ("command", "p1")
    assert (records[-1]["values"], records[-1]["status"]) == ("queues=5", "done")
