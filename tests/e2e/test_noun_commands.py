"""The commands of a noun and a verb against a real service: queues, messages, claims, shares, subscriptions."""

from __future__ import annotations

import pytest
import requests

from tests.e2e.test_commands import HOOK, printed, run
from tests.service import Service
from tests.workers.office import until
from zaqar_notify.client import Client, NotFound


@pytest.fixture(autouse=True)
def _address(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAQAR_URL", service.url)


@pytest.fixture
def subscription_id(client: Client, queue: str) -> str:
    return client.subscribe(queue, HOOK, options={"mine": 1})


def test_a_queue_is_created_shown_changed_and_deleted(client: Client, queue: str) -> None:
    run("queue", "create", queue, "--metadata", '{"colour": "red"}')
    again = run("queue", "create", queue)
    run("queue", "set", queue, "_default_message_ttl=600", "owner=me", "--unset", "colour")

    shown = printed("queue", "show", queue)
    assert "was there already" in again.stderr
    assert (shown["_default_message_ttl"], shown["owner"]) == (600, "me")
    assert "colour" not in shown
    assert printed("queue", "list", "--name", queue) == {"queues": [queue]}
    run("queue", "delete", queue, "--yes")
    assert printed("queue", "list", "--name", queue) == {"queues": []}


def test_nothing_is_deleted_when_the_answer_is_no(client: Client, queue: str) -> None:
    client.post(queue, 1)

    run("queue", "purge", queue, stdin="n\n", exit_code=1)
    run("queue", "delete", queue, stdin="", exit_code=1)

    assert client.stats(queue).total == 1


def test_a_purge_leaves_subscriptions_unless_they_are_named(
    client: Client, queue: str, subscription_id: str
) -> None:
    client.post(queue, 1)

    run("queue", "purge", queue, "--yes")
    assert client.stats(queue).total == 0
    assert [each.id for each in client.subscriptions(queue)] == [subscription_id]

    run("queue", "purge", queue, "--subscriptions", "--yes")
    assert list(client.subscriptions(queue)) == []


def test_a_message_is_shown_and_deleted(client: Client, queue: str) -> None:
    [message_id] = client.post(queue, {"a": 1})

    assert printed("message", "get", queue, message_id)["body"] == {"a": 1}
    run("message", "delete", queue, message_id, message_id)
    run("message", "get", queue, message_id, exit_code=1)


def test_a_claimed_message_is_deleted_under_its_claim_only(client: Client, queue: str) -> None:
    [message_id] = client.post(queue, 1)
    claim_id = printed("claim", queue)["claim_id"]

    refused = run("message", "delete", queue, message_id, exit_code=1)
    run("message", "delete", queue, message_id, "--claim", claim_id)

    assert "claim" in refused.stderr
    assert client.stats(queue).total == 0


def test_a_lease_is_renewed_and_released(client: Client, queue: str) -> None:
    client.post(queue, 1)
    claim_id = printed("claim", "create", queue, "--ttl", "60")["claim_id"]

    run("claim", "renew", queue, claim_id, "--ttl", "600")
    assert client.claim_of(queue, claim_id).ttl == 600
    run("claim", "release", queue, claim_id)

    assert printed("claim", queue)["messages"]
    run("claim", "renew", queue, claim_id, exit_code=1)


def test_a_shared_queue_is_read_with_the_headers_that_share_prints(
    service: Service, client: Client, queue: str
) -> None:
    client.post(queue, "hello")
    lines = run("share", "create", queue, "--seconds", "600").stdout.splitlines()
    headers = dict(line.split(": ", 1) for line in lines)

    def read() -> requests.Response:
        url = f"{service.url}/v2/queues/{queue}/messages?echo=true"
        return requests.get(url, headers=headers | {"Client-ID": client.client_id}, timeout=10)

    assert read().json()["messages"][0]["body"] == "hello"
    assert printed("share", "create", queue, "--method", "POST")["methods"] == ["POST"]


def test_a_subscription_is_shown_and_changed(
    client: Client, queue: str, subscription_id: str
) -> None:
    run("subscription", "update", queue, subscription_id, "--ttl", "600", "--option", "more=[2]")

    shown = printed("subscription", "show", queue, subscription_id)
    assert shown["ttl"] == 600
    assert shown["options"] == {"mine": 1, "more": [2]}
    assert "active" in run("subscription", "show", queue, subscription_id).stdout


def test_a_subscription_is_paused_and_resumed(
    client: Client, queue: str, subscription_id: str
) -> None:
    run("subscription", "pause", queue, subscription_id, "--why", "upgrade of the receiver")
    paused = run("subscription", "show", queue, subscription_id).stdout
    listed = run("subscription", "list", queue).stdout
    run("subscription", "resume", queue, subscription_id)

    assert "upgrade of the receiver" in paused
    assert "paused" in listed
    assert client.subscription(queue, subscription_id).disabled is None


def test_a_signing_secret_is_shown_and_rotated(
    client: Client, queue: str, subscription_id: str
) -> None:
    first = printed("subscription", "secret", queue, subscription_id)["secret"]
    second = run("subscription", "secret", queue, subscription_id, "--rotate").stdout.strip()

    assert first != second
    assert client.signing_secret(queue, subscription_id) == second


def test_a_rotation_can_end_the_former_secret_at_once_and_makes_a_new_key(
    client: Client, queue: str, subscription_id: str
) -> None:
    first = printed("subscription", "secret", queue, subscription_id, "--public")["public_key"]
    rotation = ("--rotate", "--overlap", "0")
    second = run("subscription", "secret", queue, subscription_id, *rotation, "--public").stdout

    assert first.startswith("whpk_")
    assert second.strip() == client.public_key(queue, subscription_id) != first


def test_undelivered_messages_are_listed(client: Client, queue: str, subscription_id: str) -> None:
    assert printed("undelivered", queue, subscription_id) == {"undelivered": []}
    client.unsubscribe(queue, subscription_id)
    with pytest.raises(NotFound):
        list(client.undelivered(queue, subscription_id))


@pytest.mark.parametrize(
    "arguments",
    [
        ["queue", "create", "q", "--metadata", "[]"],
        ["queue", "create", "q", "--metadata", "{"],
        ["queue", "set", "q"],
        ["queue", "set", "q", "=1"],
        ["queue", "set", "q", "colour"],
        ["subscription", "update", "q", "id"],
        ["subscription", "update", "q", "id", "--options", "1"],
        ["subscription", "update", "q", "id", "--option", "subject=Hello"],
        ["share", "create", "q", "--path", "stats"],
        ["claim"],
    ],
)
def test_arguments_that_mean_nothing_end_with_2(arguments: list[str]) -> None:
    run(*arguments, exit_code=2)


async def test_a_test_message_reaches_its_subscription_alone(client: Client, queue: str) -> None:
    targets = [f"{queue}-{word}" for word in ("tested", "other")]
    tested, _ = (client.subscribe(queue, f"queue:{target}") for target in targets)

    sent = printed("subscription", "test", queue, tested, '{"n": 12345678901234567890.10}')

    await until(lambda: client.stats(targets[0]).total == 1)
    [message] = client.messages(targets[0], echo=True).messages
    assert bytes(message.raw) == b'{"n": 12345678901234567890.10}'
    assert sent["delivery_id"].startswith("msg_")
    assert client.stats(targets[1]).total == client.stats(queue).total == 0


def test_a_test_of_nothing_is_refused(client: Client, queue: str) -> None:
    run("subscription", "test", queue, "unknown", exit_code=1)
    run("subscription", "test", queue, "unknown", "{", exit_code=2)
