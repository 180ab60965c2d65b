"""The commands against a real service, as a shell sees them."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from typer.testing import CliRunner, Result

from tests.service import Service, command, free_port, has_ended, outside_environ
from zaqar_notify.cli import app
from zaqar_notify.client import DEFAULT_PROJECT, Client

HOOK = "http://127.0.0.1:9/hook"


@pytest.fixture(autouse=True)
def _address(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAQAR_URL", service.url)


def run(*arguments: str, stdin: str = "", exit_code: int = 0) -> Result:
    result = CliRunner().invoke(app, arguments, input=stdin)
    assert result.exit_code == exit_code, result.output
    return result


def printed(*arguments: str, stdin: str = "") -> Any:
    return json.loads(run(*arguments, "--json", stdin=stdin).stdout)


def bodies(client: Client, queue: str) -> list[Any]:
    return [message.body for message in client.messages(queue, echo=True, limit=20).messages]


def test_ping_says_that_the_service_answers(service: Service) -> None:
    assert run("ping").stdout.startswith(f"{service.url} answers in ")
    assert printed("ping")["url"] == service.url


def test_post_prints_the_id_of_the_message(client: Client, queue: str) -> None:
    lines = run("post", queue, '{"a": 1.10}', "--ttl", "90").stdout.splitlines()

    assert lines[0] == "ID"
    message = client.message(queue, lines[1])
    assert (bytes(message.raw), message.ttl) == (b'{"a": 1.10}', 90)


def test_post_takes_an_instant_and_a_deletion_before_cancels_it(client: Client, queue: str) -> None:
    due_at = datetime.now(UTC).replace(microsecond=0) + timedelta(days=100)
    [message_id] = printed("post", queue, "1", "--not-before", due_at.isoformat())["ids"]

    [waiting] = client.messages(queue, echo=True, include_delayed=True).messages
    assert bodies(client, queue) == []
    assert (waiting.id, waiting.not_before) == (message_id, due_at)
    assert client.message(queue, message_id).not_before == due_at

    client.delete(queue, message_id)
    assert client.messages(queue, echo=True, include_delayed=True).messages == []


def test_post_refuses_an_instant_without_a_zone(queue: str) -> None:
    refused = run("post", queue, "1", "--not-before", "2030-01-01T00:00:00", exit_code=2)

    assert "with its zone" in refused.output.replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "stdin", "expected"),
    [
        ([], '{"a": 1}\n', [{"a": 1}]),
        (["-"], "[1,\n2]", [[1, 2]]),
        (["--lines"], '1\n\n"é"\r\n{}', [1, "é", {}]),
        (["--text"], "one\ntwo\n", ["one\ntwo"]),
        (["--text", "--lines"], "one\ntwo\n", ["one", "two"]),
        (["--text", "it's {"], "", ["it's {"]),
    ],
)
def test_post_takes_json_text_and_lines(
    client: Client, queue: str, arguments: list[str], stdin: str, expected: list[Any]
) -> None:
    run("post", queue, *arguments, stdin=stdin)

    assert bodies(client, queue) == expected


def test_many_lines_are_posted_in_order_and_once_under_a_key(client: Client, queue: str) -> None:
    lines = "\n".join(map(str, range(250)))
    arguments = ("post", queue, "--lines", "--idempotency-key", "import-1")

    first = printed(*arguments, stdin=lines)
    again = printed(*arguments, stdin=lines)

    assert len(first["ids"]) == 250
    assert again == first
    assert client.stats(queue).total == 250
    assert client.message(queue, first["ids"][249]).body == 249


def test_a_refusal_ends_with_1_and_one_sentence(queue: str) -> None:
    result = run("post", queue, "1", "--ttl", "1", exit_code=1)

    assert result.stdout == ""
    assert result.stderr.startswith("Invalid API request: ")
    assert result.stderr.count("\n") == 1


def test_tail_prints_a_line_for_each_message(client: Client, queue: str) -> None:
    ids = client.post(queue, {"a": [1]}, "\x1b\x9b")

    lines = run("tail", queue, "--from-start", "--count", "2").stdout.splitlines()

    assert lines[0].endswith(f'  {ids[0]}  {{"a": [1]}}')
    assert lines[1].endswith(f'  {ids[1]}  "\\u001b\\u009b"')


def test_tail_prints_json_lines_with_the_bodies_as_posted(client: Client, queue: str) -> None:
    run("post", queue, '{"a":\n1.10}')
    run("post", queue, "2")

    lines = run("tail", queue, "--from-start", "--count", "2", "--json").stdout.splitlines()

    assert [json.loads(line)["body"] for line in lines] == [{"a": 1.10}, 2]
    assert '{"a": 1.10}' in lines[0]


def test_tail_follows_until_it_is_interrupted(service: Service, client: Client, queue: str) -> None:
    client.post(queue, "first")
    tail = subprocess.Popen(
        command("--url", service.url, "tail", queue, "--from-start", "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=outside_environ(),
    )
    try:
        assert tail.stdout is not None
        assert json.loads(tail.stdout.readline())["body"] == "first"
        client.post(queue, "second")
        assert json.loads(tail.stdout.readline())["body"] == "second"

        tail.send_signal(signal.SIGINT)

        _, said = tail.communicate(timeout=10)
        assert (tail.returncode, said) == (130, b"")
    finally:
        tail.kill()
        tail.communicate()


def test_claim_prints_what_it_claimed(client: Client, queue: str) -> None:
    ids = client.post(queue, "a", "b")

    lines = run("claim", queue, "--limit", "1").stdout.splitlines()

    assert lines[0].split() == ["ID", "AGE", "BODY"]
    assert lines[1].split()[0] == ids[0]
    assert lines[1].endswith('"a"')
    assert client.stats(queue).claimed == 1


def test_claim_deletes_what_it_printed(client: Client, queue: str) -> None:
    client.post(queue, "a", "b", "c")

    claimed = printed("claim", queue, "--limit", "2", "--delete")

    assert [message["body"] for message in claimed["messages"]] == ["a", "b"]
    assert bodies(client, queue) == ["c"]


def test_nothing_to_claim_is_no_failure_and_said_aside(queue: str) -> None:
    result = run("claim", queue)

    assert result.stdout == ""
    assert result.stderr == f"Nothing to claim on queue '{queue}'\n"
    assert printed("claim", queue) == {"claim_id": None, "ttl": 300, "messages": []}


def test_claim_waits_for_a_message(service: Service, client: Client, queue: str) -> None:
    claim = subprocess.Popen(
        command("--url", service.url, "claim", queue, "--wait", "20", "--json"),
        stdout=subprocess.PIPE,
        env=outside_environ(),
    )
    try:
        poster = threading.Thread(target=client.post, args=(queue, "late"))
        poster.start()
        poster.join()
        output, _ = claim.communicate(timeout=15)
    finally:
        claim.kill()
        claim.communicate()

    assert json.loads(output)["messages"][0]["body"] == "late"


def test_subscribe_prints_the_id_and_the_signing_secret(client: Client, queue: str) -> None:
    shown = printed("subscribe", queue, HOOK, "--ttl", "600", "--header", "X-Key=a=b")

    subscription = client.subscription(queue, shown["subscription_id"])
    assert (subscription.subscriber, subscription.ttl) == (HOOK, 600)
    assert subscription.options == {"post_headers": {"X-Key": "a=b"}}
    assert shown["signing_secret"] == client.signing_secret(queue, subscription.id)
    assert subscription.expires_at is not None
    assert shown["until"] == f"{subscription.expires_at:%Y-%m-%dT%H:%M:%SZ}"


def test_subscriptions_do_not_expire_unless_asked_to_and_are_listed_until_deleted(
    client: Client, queue: str
) -> None:
    lasting = printed("subscribe", queue, HOOK)
    passing = printed("subscribe", queue, f"queue:{queue}-copy", "--ttl", "600")

    rows = [line.split() for line in run("subscription", "list", queue).stdout.splitlines()]

    assert lasting["until"] == "never"
    assert rows == [
        ["ID", "SUBSCRIBER", "CONFIRMED", "STATE", "UNTIL"],
        [lasting["subscription_id"], HOOK, "no", "active", "never"],
        [passing["subscription_id"], f"queue:{queue}-copy", "no", "active", passing["until"]],
    ]
    run("subscription", "delete", queue, lasting["subscription_id"])
    listed = printed("subscription", "list", queue)["subscriptions"]
    assert [each["id"] for each in listed] == [passing["subscription_id"]]


def test_until_when_a_subscription_lives_is_true_after_its_ttl_was_changed(
    service: Service, client: Client, queue: str
) -> None:
    subscription_id = printed("subscribe", queue, HOOK)["subscription_id"]
    answered = requests.patch(
        f"{service.url}/v2/queues/{queue}/subscriptions/{subscription_id}",
        json={"ttl": 120},
        headers={"Client-ID": "0" * 32, "X-Project-ID": DEFAULT_PROJECT},
        timeout=10,
    )

    assert answered.status_code == 204
    assert "never" not in run("subscription", "list", queue).stdout


def test_a_queue_subscription_has_no_secret_to_show(client: Client, queue: str) -> None:
    lines = run("subscribe", queue, f"queue:{queue}-copy").stdout.splitlines()

    assert lines[0].split() == ["SUBSCRIPTION_ID", "UNTIL"]
    assert client.subscription(queue, lines[1].split()[0]).subscriber == f"queue:{queue}-copy"


def test_a_mail_subscription_without_a_relay_is_refused_by_its_setting(queue: str) -> None:
    result = run("subscribe", queue, "mailto:a@example.org", "--subject", "New", exit_code=1)

    assert "ZAQAR_SMTP_HOST" in result.stderr


def test_stats_count_the_messages(client: Client, queue: str) -> None:
    client.post(queue, 1, 2, 3)
    client.claim(queue, limit=1)

    headings, counts = run("queue", "stats", queue).stdout.splitlines()

    assert headings.split() == ["FREE", "CLAIMED", "TOTAL", "OLDEST", "NEWEST"]
    assert counts.split()[:3] == ["2", "1", "3"]
    assert printed("queue", "stats", queue)["total"] == 3


def test_a_revocation_ends_the_access_that_was_shared(
    service: Service, client: Client, queue: str
) -> None:
    def status() -> int:
        headers = {**signed.headers, "Client-ID": "0" * 32}
        url = f"{service.url}/v2/queues/{queue}/messages"
        return requests.get(url, headers=headers, timeout=10).status_code

    signed = client.share(queue)
    assert status() == 200
    assert run("share", "revoke", queue).stdout == ""

    # Any process refuses it within three seconds; the one that revokes is no exception.
    deadline = time.monotonic() + 10
    while status() != 404:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    signed = client.share(queue)
    assert status() == 200


def test_queues_are_listed_for_the_project(queue: str) -> None:
    run("--project", "lister", "post", queue, "1")

    assert run("--project", "lister", "queue", "list").stdout == f"QUEUE\n{queue}\n"
    assert printed("--project", "lister", "queue", "list") == {"queues": [queue]}


def test_a_second_process_on_the_same_data_is_refused(service: Service) -> None:
    second = subprocess.run(
        command("up", "--port", str(free_port()), "--data", str(service.data)),
        capture_output=True,
        env=outside_environ(),
        timeout=20,
        check=False,
    )

    assert second.returncode == 1
    assert second.stderr.count(b"\n") == 1
    assert str(service.data).encode() in second.stderr


def test_a_port_that_is_taken_is_refused(
    service: Service, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = tmp_path_factory.mktemp("taken")
    second = subprocess.run(
        command("up", "--port", str(service.port), "--data", str(data)),
        capture_output=True,
        env=outside_environ(),
        timeout=20,
        check=False,
    )

    assert second.returncode == 1
    assert f"port {service.port}" in second.stderr.decode()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_up_ends_with_0_when_asked_to_stop(
    tmp_path_factory: pytest.TempPathFactory, stop: signal.Signals
) -> None:
    service = Service(tmp_path_factory.mktemp("stopped") / "data")
    service.start()
    assert service.process is not None

    service.process.send_signal(stop)

    try:
        assert has_ended(service.process, within_seconds=10)
        assert service.process.returncode == 0
    finally:
        service.kill()


def test_what_has_no_effect_is_said_on_a_line_and_the_command_succeeds(queue: str) -> None:
    ended = run("subscribe", queue, HOOK, "--header", "Host=elsewhere", "--header", "X-Key=1")

    assert "Warning: options: post_headers Host has no effect" in ended.stderr
    assert "Warning" not in ended.stdout


def test_attributes_are_posted_and_shown_as_json(client: Client, queue: str) -> None:
    given = ("colour=blue", "size:Number=1.5", 'tags:String.Array=["a", 1]', "raw:Binary=aGk=")
    run("post", queue, "1", *(word for each in given for word in ("--attribute", each)))
    expected = {
        "colour": {"type": "String", "value": "blue"},
        "size": {"type": "Number", "value": 1.5},
        "tags": {"type": "String.Array", "value": ["a", 1]},
        "raw": {"type": "Binary", "value": "aGk="},
    }

    tailed = json.loads(run("tail", queue, "--from-start", "--count", "1", "--json").stdout)
    claimed = printed("claim", queue)

    assert tailed["attributes"] == expected
    assert [message["attributes"] for message in claimed["messages"]] == [expected]


def test_subscribe_takes_a_filter_policy(client: Client, queue: str) -> None:
    policy = '{"order": {"event": ["paid"]}}'

    shown = printed("subscribe", queue, HOOK, "--filter", policy, "--filter-body")

    subscription = client.subscription(queue, shown["subscription_id"])
    assert subscription.options == {
        "_filter_policy": {"order": {"event": ["paid"]}},
        "_filter_policy_scope": "MessageBody",
    }
