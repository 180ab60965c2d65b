"""The operator's commands for quotas, and every process that keeps to them."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.service import Service, command, outside_environ
from zaqar_notify.client import Client
from zaqar_notify.quotas import BELIEVED_SECONDS

CLIENT_ID = "3381af922b9e11e3b19171861300734c"


def quota(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command("quota", *arguments, "--data", str(data)),
        capture_output=True,
        env=outside_environ(),
        timeout=60,
        text=True,
        check=False,
    )


def shown(data: Path, project: str) -> dict[str, tuple[int, bool]]:
    done = quota(data, "show", project, "--json")
    return {each["name"]: (each["limit"], each["is_default"]) for each in json.loads(done.stdout)}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One for all tests: each has projects of its own."""
    data = tmp_path_factory.mktemp("quotas") / "data"
    service = Service(data, environ={"ZAQAR_QUOTA_LONG_POLLS": "7"})
    service.start()
    yield service
    service.stop()


def statuses(service: Service, project: str, count: int) -> set[int]:
    url, headers = f"{service.url}/v2/queues", {"Client-ID": CLIENT_ID, "X-Project-ID": project}
    return {requests.get(url, headers=headers, timeout=10).status_code for _ in range(count)}


def test_up_has_no_quotas_but_those_that_are_set(service: Service) -> None:
    limits = shown(service.data, "p1")

    assert limits.pop("long_polls") == (7, True)
    assert set(limits.values()) == {(0, True)}


def test_a_running_service_keeps_to_new_values_and_to_the_default_again(service: Service) -> None:
    assert statuses(service, "p2", 10) == {200}

    assert quota(service.data, "set", "p2", "requests_per_second=1").returncode == 0
    time.sleep(BELIEVED_SECONDS)
    held_back = statuses(service, "p2", 10)
    assert quota(service.data, "set", "p2", "requests_per_second=default").returncode == 0
    time.sleep(BELIEVED_SECONDS)

    assert held_back == {200, 503}
    assert statuses(service, "p2", 10) == {200}


def test_wrong_words_are_refused_with_a_sentence_and_change_nothing(service: Service) -> None:
    for word, sentence in (
        ("queues=-1", "queues must be a whole number from 0 to"),
        ("queus=1", "There is no quota 'queus'; there are queues, subscriptions,"),
    ):
        done = quota(service.data, "set", "p3", "long_polls=1", word)

        assert (done.returncode, done.stdout) == (1, "")
        assert sentence in done.stderr, word
        assert "Traceback" not in done.stderr
    assert shown(service.data, "p3")["long_polls"] == (7, True)


def test_the_same_commands_work_while_nothing_runs(service: Service) -> None:
    service.stop()

    quota(service.data, "set", "p4", "queues=3")
    limits = shown(service.data, "p4")
    refused = quota(service.data, "set", "p4", "queues=-1")
    service.start()

    assert limits["queues"] == (3, False)
    assert limits["subscriptions"] == (0, True)
    assert refused.returncode == 1
    assert "queues must be a whole number from 0 to" in refused.stderr


def test_the_client_repeats_what_a_rate_refused(tmp_path: Path) -> None:
    environ = {"ZAQAR_QUOTA_REQUESTS_PER_SECOND": "2", "ZAQAR_QUOTA_BURST_SECONDS": "1"}
    service = Service(tmp_path / "data", environ=environ)
    service.start()
    try:
        with Client(service.url, "p1") as client:
            for number in range(4):
                client.post("q", number)
        answers = statuses(service, "p1", 8)
    finally:
        service.stop()

    assert 503 in answers
