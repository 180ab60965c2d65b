"""The commands that say where a delivery is, against a real service."""

from __future__ import annotations

import subprocess

import pytest

from tests.e2e.test_commands import HOOK, printed, run
from tests.service import Service, command
from tests.workers.office import until
from zaqar_notify.client import Attempt, Client


@pytest.fixture(autouse=True)
def _address(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAQAR_URL", service.url)


@pytest.fixture
async def failed(client: Client, queue: str) -> Attempt:
    """An attempt at a receiver that is not there."""
    client.subscribe(queue, HOOK)
    client.post(queue, {"n": 1})
    await until(lambda: bool(list(client.deliveries.attempts(queue=queue))))
    return next(client.deliveries.attempts(queue=queue))


def test_attempts_are_listed_with_the_reasons(failed: Attempt, queue: str) -> None:
    listed = run("delivery", "list", "--queue", queue, "--outcome", "failed").stdout

    assert "Connection refused" in listed
    [attempt] = printed("delivery", "list", "--queue", queue, "--minutes", "5")["attempts"]
    assert attempt["delivery_id"] == failed.delivery_id
    assert printed("delivery", "list", "--queue", queue, "--outcome", "delivered") == {
        "attempts": []
    }


def test_a_delivery_is_shown_with_its_state(failed: Attempt) -> None:
    shown = printed("delivery", "show", failed.delivery_id)

    assert (shown["state"], shown["message_id"]) == ("retrying", failed.message_id)
    assert "retrying, next attempt at" in run("delivery", "show", failed.delivery_id).stdout
    run("delivery", "show", "msg_unknown", exit_code=1)


def test_why_tells_of_a_subscription_and_of_a_delivery(failed: Attempt, queue: str) -> None:
    of_subscription = run("why", failed.subscription_id, "--queue", queue).stdout
    searched = run("why", failed.subscription_id)
    of_delivery = run("why", failed.delivery_id).stdout

    assert "1 failed and are tried again" in of_subscription
    assert "start the receiver" in of_subscription
    assert searched.stdout == of_subscription
    assert "is tried again at" in of_delivery
    run("why", "unknown", exit_code=1)
    assert "ZAQAR_DELIVERY_LOG=all" in run("why", "msg_unknown", exit_code=1).stderr


def test_the_log_is_followed(service: Service, client: Client, queue: str) -> None:
    client.subscribe(queue, HOOK)
    arguments = command("--url", service.url, "delivery", "tail", "--queue", queue)
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as following:
        try:
            client.post(queue, 1)
            assert following.stdout is not None
            line = following.stdout.readline()
        finally:
            following.kill()

    assert "Connection refused" in line
