"""The requests that Heat makes, each as its resources and signals send them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clients.caller import Caller

PATCH_TYPE = {"Content-Type": "application/openstack-messaging-v2.0-json-patch"}
HUGE_TTL = 220367260800
"""Seconds that Heat gives a subscription which is to live as long as its stack."""


@pytest.fixture
def guest(url: str) -> Iterator[Caller]:
    """A server of the stack, with only the data that the stack gave it."""
    with Caller(url, None) as guest:
        yield guest


def test_a_queue_without_metadata_is_read_before_it_is_made(caller: Caller) -> None:
    answer = caller.call("GET", "/v2/queues/stack-queue")

    assert answer.status_code == 200
    assert answer.json()["_default_message_ttl"] == 3600


def test_a_queue_with_metadata_must_have_been_made_by_something(caller: Caller) -> None:
    change = '[{"op": "add", "path": "/metadata/colour", "value": "blue"}]'

    refused = caller.call("PATCH", "/v2/queues/stack-queue", data=change, headers=PATCH_TYPE)
    caller.call("PUT", "/v2/queues/stack-queue")
    changed = caller.call("PATCH", "/v2/queues/stack-queue", data=change, headers=PATCH_TYPE)

    assert refused.status_code == 404
    assert changed.status_code == 200
    assert changed.json()["colour"] == "blue"


def test_metadata_is_replaced_as_the_client_does_it_reserved_keys_included(
    caller: Caller,
) -> None:
    caller.call("PUT", "/v2/queues/stack-queue", {"colour": "blue"})
    shown = caller.call("GET", "/v2/queues/stack-queue").json()
    operations = [{"op": "add", "path": "/metadata/size", "value": 1}]
    operations += [{"op": "remove", "path": f"/metadata/{key}"} for key in shown]

    changed = caller.call("PATCH", "/v2/queues/stack-queue", operations, headers=PATCH_TYPE)

    assert changed.status_code == 200
    assert changed.json()["size"] == 1
    assert "colour" not in changed.json()


def test_deleting_the_queue_of_a_stack_twice(caller: Caller) -> None:
    assert caller.call("DELETE", "/v2/queues/stack-queue").status_code == 204
    assert caller.call("DELETE", "/v2/queues/stack-queue").status_code == 204


@pytest.mark.parametrize("options", [None, {}, {"post_headers": {"X-Stack": "1"}}])
def test_a_subscription_lives_for_seven_thousand_years(
    caller: Caller, options: dict[str, object] | None, prefix: str
) -> None:
    path = "/v2/queues/stack-queue/subscriptions"
    asked = {"subscriber": "http://stack.example.org/hook", "ttl": HUGE_TTL, "options": options}

    made = caller.call("POST", path, asked)
    read = caller.call("GET", f"{path}/{made.json()['subscription_id']}")

    assert made.status_code == 201
    assert made.headers["Location"] == prefix + path
    assert read.status_code == 200
    assert read.json()["ttl"] == HUGE_TTL
    assert read.json()["options"] == (options or {})


def test_a_subscription_made_again_after_a_failed_stack_is_the_same(caller: Caller) -> None:
    path = "/v2/queues/stack-queue/subscriptions"
    asked = {"subscriber": "http://stack.example.org/hook", "ttl": HUGE_TTL, "options": None}

    first = caller.call("POST", path, asked)
    second = caller.call("POST", path, asked)

    assert (first.status_code, second.status_code) == (201, 201)
    assert second.json() == first.json()


def test_updating_a_subscription_with_null_options(caller: Caller) -> None:
    path = "/v2/queues/stack-queue/subscriptions"
    options = {"post_headers": {"X-Stack": "1"}}
    asked = {"subscriber": "http://stack.example.org/hook", "ttl": HUGE_TTL, "options": options}
    made = caller.call("POST", path, asked).json()["subscription_id"]

    changed = caller.call("PATCH", f"{path}/{made}", asked | {"options": None, "ttl": 600})
    read = caller.call("GET", f"{path}/{made}").json()

    assert changed.status_code == 204
    assert (read["ttl"], read["options"]) == (600, options)


def test_deleting_a_subscription(caller: Caller) -> None:
    path = "/v2/queues/stack-queue/subscriptions"
    asked = {"subscriber": "http://stack.example.org/hook", "ttl": HUGE_TTL, "options": None}
    made = caller.call("POST", path, asked).json()["subscription_id"]

    assert caller.call("DELETE", f"{path}/{made}").status_code == 204
    assert caller.call("GET", f"{path}/{made}").status_code == 404


def share(caller: Caller, *, paths: list[str], methods: list[str]) -> dict[str, str]:
    """The headers of a pre-signed URL, as Heat hands them to a guest."""
    answer = caller.call("POST", "/v2/queues/signals/share", {"paths": paths, "methods": methods})
    assert answer.status_code == 200, answer.text
    signed = answer.json()
    return {
        "URL-Signature": signed["signature"],
        "URL-Expires": signed["expires"],
        "URL-Methods": ",".join(signed["methods"]),
        "URL-Paths": ",".join(signed["paths"]),
        "X-Project-ID": signed["project"],
    }


def test_a_signal_is_popped_with_nothing_but_signed_headers(caller: Caller, guest: Caller) -> None:
    headers = share(caller, paths=["messages"], methods=["GET", "DELETE"])
    caller.post("signals", {"status": "SUCCESS"})

    popped = guest.call("DELETE", "/v2/queues/signals/messages?pop=1", headers=headers)
    again = guest.call("DELETE", "/v2/queues/signals/messages?pop=1", headers=headers)

    assert popped.status_code == 200
    assert [message["body"] for message in popped.json()["messages"]] == [{"status": "SUCCESS"}]
    assert again.json()["messages"] == []


def test_a_guest_signals_through_a_signed_queue_url(caller: Caller, guest: Caller) -> None:
    headers = share(caller, paths=["messages"], methods=["GET", "DELETE", "PATCH", "POST", "PUT"])

    posted = guest.call(
        "POST",
        "/v2/queues/signals/messages",
        {"messages": [{"body": {"status": "SUCCESS"}, "ttl": 3600}]},
        headers=headers,
    )

    popped = caller.call("DELETE", "/v2/queues/signals/messages?pop=1").json()["messages"]
    assert posted.status_code == 201
    assert [message["body"] for message in popped] == [{"status": "SUCCESS"}]


@pytest.mark.parametrize(
    ("method", "path", "header", "value"),
    [
        ("GET", "/v2/queues/signals/messages", "URL-Signature", "0" * 64),
        ("GET", "/v2/queues/signals/messages", "URL-Signature", ""),
        ("GET", "/v2/queues/signals/messages", "URL-Expires", "2999-01-01T00:00:00"),
        ("GET", "/v2/queues/signals/messages", "URL-Methods", "DELETE,GET,POST"),
        ("GET", "/v2/queues/signals/messages", "X-Project-ID", "another"),
        ("POST", "/v2/queues/signals/messages", "X-Stack", "unchanged"),
        ("GET", "/v2/queues/signals", "X-Stack", "unchanged"),
        ("GET", "/v2/queues/others/messages", "X-Stack", "unchanged"),
    ],
)
def test_a_signature_admits_only_what_was_signed(
    caller: Caller, guest: Caller, method: str, path: str, header: str, value: str
) -> None:
    headers = share(caller, paths=["messages"], methods=["GET", "DELETE"]) | {header: value}

    assert guest.call(method, path, headers=headers).status_code == 404


def test_a_server_s_metadata_is_read_from_its_queue(caller: Caller, guest: Caller) -> None:
    metadata = {"os-collect-config": {"content": "ä" * 40_000, "deployments": []}}
    headers = share(caller, paths=["messages"], methods=["GET", "DELETE"])
    caller.post("signals", metadata, ttl=3600)

    page = guest.call("GET", "/v2/queues/signals/messages", headers=headers).json()

    assert [message["body"] for message in page["messages"]] == [metadata]
