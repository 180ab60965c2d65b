"""The operator's pages list every metric and every warning, and the backup can be restored."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.api.conftest import CountingDoorbell
from tests.deploy.webhooks import Webhooks, receiving
from tests.docs.pages import ROOT, named, read, rows, section
from tests.kinds import KINDS
from tests.pools import open_pooled
from tests.service import Service as Process
from zaqar_notify.client import Client
from zaqar_notify.clock import SystemClock
from zaqar_notify.operations.exposition import exposition
from zaqar_notify.operations.single import DATABASE, KEYS
from zaqar_notify.service import Service
from zaqar_notify.settings import Settings

MONITORING = read("monitoring.md")
TROUBLESHOOTING = read("troubleshooting.md")
BACKUP = read("backup.md")
ALARMS = (ROOT / "deploy" / "alarms.yml").read_text()
NUMBER = 20
SUFFIXES = ("_total", "_bucket", "_count", "_sum")


class Engine:
    troubles: Mapping[str, int] = {"mailto": 1}
    in_flight = 0
    in_hand = 0


class Certificate:
    expires_at = datetime(2030, 1, 1, tzinfo=UTC)


class Bell:
    def __init__(self) -> None:
        self.is_heard = True
        self.counts = Counter({"sent": 1})


@pytest.fixture
async def shown(tmp_path: Path) -> AsyncIterator[dict[str, set[str]]]:
    """Every metric of ours with its labels, as a process of all kinds at once shows them."""
    storage = await open_pooled(
        f"sqlite://{tmp_path}/zaqar.db", {"p1": f"sqlite://{tmp_path}/p1.db"}
    )
    service = Service(storage, Settings(), SystemClock(), CountingDoorbell(), KINDS)
    service.metrics.requests.note("/", "GET", 200, 0.1)
    service.metrics.sockets.expect(["queue_list"])
    service.metrics.filtered["cards", "changed"] += 1
    service.metrics.engine = Engine()
    service.metrics.broker = Bell()
    service.metrics.certificate = Certificate()
    families = text_string_to_metric_families((await exposition(service)).decode())
    yield {
        family.name + ("_total" if family.type == "counter" else ""): {
            label for sample in family.samples for label in sample.labels if label != "le"
        }
        for family in families
        if family.name.startswith("zaqar_notify_")
    }
    await storage.close()


async def test_every_metric_is_listed_with_its_labels(shown: dict[str, set[str]]) -> None:
    listed = {
        named(name)[0]: set(named(labels))
        for name, labels, *_ in rows(section(MONITORING, "## Metrics"))
    }

    assert listed == shown


async def test_alarms_are_raised_by_metrics_that_exist(shown: dict[str, set[str]]) -> None:
    bases = {re.sub("_total$", "", name) for name in shown}

    for name in re.findall(r"zaqar_notify_\w+", ALARMS):
        base = next((name.removesuffix(end) for end in SUFFIXES if name.endswith(end)), name)
        assert base in bases, name


def test_every_alarm_says_what_to_do() -> None:
    listed = [named(row[0])[0] for row in rows(section(MONITORING, "## Alarms"))]

    assert listed == re.findall(r"alert: (\w+)", ALARMS)


def test_every_warning_and_error_says_what_to_do() -> None:
    logged = {
        named(action)[0]
        for action, level, _ in rows(section(read("architecture.md"), "## Logs"))
        if re.search("warning|error", level)
    }

    explained = [
        action
        for row in rows(section(TROUBLESHOOTING, "## Warnings in the log"))
        for action in named(row[0])
    ]

    assert sorted(explained) == sorted(logged)


def test_what_was_backed_up_while_running_can_be_restored(tmp_path: Path) -> None:
    service = Process(tmp_path / "data")
    service.start()
    try:
        with Client(service.url) as client:
            client.post("orders", "kept", "deleted later")
            secret = _signing_secret(client)
            _run(_block("backup"), tmp_path)
            client.purge("orders")
    finally:
        assert service.stop() == 0

    _run(_block("restore"), tmp_path)
    service.start()
    try:
        with Client(service.url) as client:
            found = client.messages("orders", echo=True).messages
            assert [message.body for message in found] == ["kept", "deleted later"]
            assert _signing_secret(client) == secret
            assert client.post("orders", "later")
    finally:
        service.stop()
    assert (tmp_path / "data.before" / KEYS).exists()
    assert (tmp_path / "data" / KEYS).stat().st_mode & 0o077 == 0


def test_what_is_posted_after_a_restore_is_new_to_receivers_and_observers(tmp_path: Path) -> None:
    service = Process(tmp_path / "data")
    service.start()
    with receiving() as webhooks:
        with Client(service.url) as client:
            client.subscribe("orders", webhooks.url, ttl=3600)
            _post_and_receive(client, webhooks, "before")
            _run(_block("backup"), tmp_path)
            lost = _post_and_receive(client, webhooks, "lost")
        service.kill()
        _run(_block("restore"), tmp_path)
        service.start()
        try:
            with Client(service.url) as client:
                new = _post_and_receive(client, webhooks, "new")
                behind = client.messages("orders", lost[-1], limit=NUMBER, echo=True).messages
        finally:
            service.stop()

    assert set(new).isdisjoint(lost)
    assert [message.id for message in behind] == new
    assert len(set(webhooks.ids.values())) == 3 * NUMBER


def test_a_backup_of_a_damaged_database_fails_and_leaves_the_last_one(tmp_path: Path) -> None:
    data, backup = tmp_path / "data", tmp_path / "backup"
    data.mkdir()
    backup.mkdir()
    (data / DATABASE).write_bytes(b"not a database" * 1000)
    (data / KEYS).touch()
    (backup / DATABASE).write_text("the last good one")

    with pytest.raises(subprocess.CalledProcessError):
        _run(_block("backup"), tmp_path)

    assert (backup / DATABASE).read_text() == "the last good one"


def _post_and_receive(client: Client, webhooks: Webhooks, text: str) -> list[str]:
    """Post so many messages, and wait until they were delivered; their ids."""
    texts = [f"{text} {number}" for number in range(NUMBER)]
    ids = client.post("orders", *texts)
    assert webhooks.take_until(set(texts), within_seconds=20) >= set(texts)
    return ids


def _signing_secret(client: Client) -> str:
    subscription_id = client.subscribe("orders", "http://127.0.0.1:9/hook", ttl=600)
    return client.signing_secret("orders", subscription_id)


def _block(name: str) -> str:
    return BACKUP.split(f"<!-- {name} -->\n```sh\n", 1)[1].split("```", 1)[0]


def _run(script: str, directory: Path) -> None:
    for documented, here in (
        ("/opt/zaqar-notify/bin/python", sys.executable),
        ("/var/lib/zaqar-notify", str(directory / "data")),
        ("/var/backups/zaqar-notify", str(directory / "backup")),
    ):
        script = script.replace(documented, here)
    subprocess.run(["sh", "-c", script], check=True)
