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
from zaqar_notify.quotas import BELIEVED_SECONDS

HEADERS = {"Client-ID": "3381af922b9e11e3b19171861300734c", "X-Project-ID": "p1"}


def quota(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command("quota", *arguments, "--data", str(data)),
        capture_output=True,
        env=outside_environ(),
        timeout=60,
        text=True,
        check=False,
    )


def shown(data: Path) -> dict[str, tuple[int, bool]]:
    done = quota(data, "show", "p1", "--json")
    return {each["name"]: (each["limit"], each["is_default"]) for each in json.loads(done.stdout)}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path / "data", environ={"ZAQAR_QUOTA_LONG_POLLS": "7"})
    service.start()
    yield service
    service.stop()


def statuses(service: Service, count: int) -> set[int]:
    url = f"{service.url}/v2/queues"
    return {requests.get(url, headers=HEADERS, timeout=10).status_code for _ in range(count)}


def test_up_has_no_quotas_but_those_that_are_set(service: Service) -> None:
    limits = shown(service.data)

    assert limits.pop("long_polls") == (7, True)
    assert set(limits.values()) == {(0, True)}


def test_a_running_service_keeps_to_new_values_and_to_the_default_again(service: Service) -> None:
    assert statuses(service, 10) == {200}

    assert quota(service.data, "set", "p1", "requests_per_second=1").returncode == 0
    time.sleep(BELIEVED_SECONDS)
    held_back = statuses(service, 10)
    assert quota(service.data, "set", "p1", "requests_per_second=default").returncode == 0
    time.sleep(BELIEVED_SECONDS)

    assert held_back == {200, 503}
    assert statuses(service, 10) == {200}


def test_wrong_words_are_refused_with_a_sentence_and_change_nothing(service: Service) -> None:
    for word, sentence in (
        ("queues=-1", "queues must be a whole number from 0 to"),
        ("queues=many", "queues must be a whole number from 0 to"),
        ("queues=", "queues must be a whole number from 0 to"),
        ("queues", "not of the form NAME=VALUE"),
        ("queus=1", "There is no quota 'queus'; there are queues, subscriptions,"),
    ):
        done = quota(service.data, "set", "p1", "long_polls=1", word)

        assert (done.returncode, done.stdout) == (1, "")
        assert sentence in done.stderr, word
        assert "Traceback" not in done.stderr
    assert shown(service.data)["long_polls"] == (7, True)


def test_the_same_commands_work_while_nothing_runs(service: Service) -> None:
    service.stop()

    quota(service.data, "set", "p1", "queues=3")
    limits = shown(service.data)
    refused = quota(service.data, "set", "p1", "queues=-1")
    service.start()

    assert limits["queues"] == (3, False)
    assert limits["subscriptions"] == (0, True)
    assert refused.returncode == 1
    assert "queues must be a whole number from 0 to" in refused.stderr
