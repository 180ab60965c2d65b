"""The operator's commands for pools and flavors, on a service that runs and on a store that no service uses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.service import Service
from zaqar_notify.cli import app
from zaqar_notify.client import Client
from zaqar_notify.rules.uris import MASK

SECRET = "zqn-hidden-word"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Without `ZAQAR_ADMIN_MODE`: the commands need no routes."""
    service = Service(tmp_path_factory.mktemp("pools") / "data", environ={"ZAQAR_AUDIT": "true"})
    service.start()
    yield service
    assert service.stop() == 0


def run(data: Path, *arguments: str, given: str = "", exit_code: int = 0) -> Result:
    """The command, in this process: a process of its own would need a second to start."""
    done = CliRunner().invoke(app, [*arguments, "--data", str(data)], input=given)
    assert done.exit_code == exit_code, done.output
    return done


def told(data: Path, *arguments: str, given: str = "") -> Any:
    return json.loads(run(data, *arguments, "--json", given=given).stdout)


def test_pools_and_flavors_of_a_running_service(service: Service, tmp_path: Path) -> None:
    data, uri = service.data, f"sqlite://{tmp_path}/more.db"

    made = told(data, "pool", "set", "more", "--uri", "-", given=f"{uri}\n")
    flavor = told(data, "flavor", "set", "shop", "durable", "more")
    with Client(service.url, "shop") as client:
        client.create_queue("orders", {"_flavor": "durable"})
        client.post("orders", "first")
        found = [message.body for message in client.messages("orders", echo=True).messages]
    shown = told(data, "pool", "show", "more")
    listed = run(data, "pool", "list").stdout.splitlines()
    refused = run(data, "pool", "delete", "more", exit_code=1)
    run(data, "flavor", "delete", "shop", "durable")
    in_use = run(data, "pool", "delete", "more", exit_code=1)

    assert (made["uri"], made["weight"], made["state"]) == (uri, 100, "up")
    assert flavor["pool_list"] == ["more"]
    assert found == ["first"]
    assert (shown["queues"], shown["project"], shown["flavor"]) == (1, "shop", "durable")
    assert listed[0].split() == ["POOL", "WEIGHT", "PROJECT", "FLAVOR", "STATE", "URI"]
    assert listed[1].split() == ["more", "100", "shop", "durable", "up", uri]
    assert "is used by flavors durable" in refused.stderr
    assert "1 queue, such as 'orders' of the project 'shop'" in in_use.stderr
    assert service.log.read_text().count("pools:delete") == 2


def test_wrong_words_are_refused_with_a_sentence(service: Service) -> None:
    away = f"mongodb://user:{SECRET}@127.0.0.1:1/db?timeoutMS=300&serverSelectionTimeoutMS=300"
    for words, sentence in (
        (("pool", "set", "new"), "Pool new does not exist"),
        (
            ("pool", "set", "default", "--uri", "sqlite:///x.db"),
            "The name default is that of the store",
        ),
        (("pool", "set", "new", "--uri", away), f"user:{MASK}@127.0.0.1:1/db"),
        (("flavor", "set", "shop", "new", "none"), "Pool none does not exist"),
    ):
        refused = run(service.data, *words, exit_code=1)

        assert sentence in refused.stderr, words
        assert SECRET not in refused.stderr
    assert SECRET not in service.log.read_text()


def test_a_pool_that_is_lost_is_removed_by_force(tmp_path: Path) -> None:
    """Also where no service runs."""
    data, store = tmp_path / "data", tmp_path / "pool" / "lost.db"
    store.parent.mkdir()
    service = Service(data)
    service.start()
    told(data, "pool", "set", "lost", "--uri", f"sqlite://{store}")
    with Client(service.url, "shop") as client:
        client.post("orders", "lost")
    assert service.stop() == 0
    store.write_text("damaged")

    away = told(data, "pool", "list")
    refused = run(data, "pool", "delete", "lost", exit_code=1)
    run(data, "pool", "delete", "lost", "--force")
    service.start()
    with Client(service.url, "shop") as client:
        client.post("orders", "found")
        told(data, "pool", "set", "lost", "--uri", f"sqlite://{tmp_path / 'new.db'}")
        client.post("orders", "with pools again")
        found = [message.body for message in client.messages("orders", echo=True).messages]

    assert [(each["name"], each["state"]) for each in away] == [("lost", "away")]
    assert "1 queue, such as 'orders'" in refused.stderr
    assert found == ["found", "with pools again"], "what was posted without pools stays in sight"
    assert service.stop() == 0
