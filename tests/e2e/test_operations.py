"""An operator's view of a running process: its health, its metrics, and a post's way in the log."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable

import requests

from tests.service import Service, command, outside_environ
from zaqar_notify.client import Client

HEADERS = {"Client-ID": "0" * 32, "X-Project-ID": "default"}
CLOSED = "http://127.0.0.1:9/hook"
PATIENCE_SECONDS = 20


def wait_for(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, what


def get(service: Service, path: str) -> requests.Response:
    return requests.get(service.url + path, timeout=10)


def test_a_running_process_is_alive_and_ready(service: Service) -> None:
    assert get(service, "/healthz").status_code == 204
    assert get(service, "/readyz").json() == {"ready": True}


def test_a_post_s_request_id_is_in_the_log_of_its_delivery_two_queues_later(
    service: Service, client: Client, queue: str
) -> None:
    client.subscribe(queue, f"queue:{queue}-copy", ttl=600)
    # An endpoint of its own: the tries of one that is known to fail are logged at debug level.
    client.subscribe(f"{queue}-copy", f"{CLOSED}?{queue}", ttl=600)

    posted = requests.post(
        f"{service.url}/v2/queues/{queue}/messages",
        json={"messages": [{"body": 1}]},
        headers=HEADERS,
        timeout=10,
    )

    request_id = posted.headers["X-OpenStack-Request-Id"]
    wait_for(
        lambda: any(
            "action=attempt_failed" in line and f"request_id={request_id}" in line
            for line in service.log.read_text().splitlines()
        ),
        "No record of the delivery",
    )


def test_tries_and_what_is_owed_are_shown(service: Service, client: Client, queue: str) -> None:
    client.subscribe(queue, CLOSED, ttl=600)
    client.post(queue, 1)

    def shown(sample: str) -> bool:
        return any(
            line.startswith(sample) and float(line.rpartition(" ")[2]) > 0
            for line in get(service, "/metrics").text.splitlines()
        )

    wait_for(
        lambda: shown('zaqar_notify_tries_total{scheme="http",verdict="try_later"}'), "No tries"
    )
    wait_for(lambda: shown('zaqar_notify_owed{partition="0",queue="retry"}'), "Nothing owed")


def test_the_doctor_may_come_while_it_runs(service: Service) -> None:
    doctor = subprocess.run(
        command("doctor", "--data", str(service.data), "--json"),
        capture_output=True,
        env=outside_environ(),
        timeout=60,
        check=False,
    )

    assert service.process is not None
    store = [found for found in json.loads(doctor.stdout) if found["check"] == "store"]
    assert doctor.returncode == 0, doctor.stdout
    assert str(service.process.pid) in store[0]["sentence"]
    assert get(service, "/readyz").status_code == 200
