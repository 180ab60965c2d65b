"""The calls of python-zaqarclient 1.13.2, one by one. It runs with that client's own Python and imports nothing else.

`python former_calls.py URL PROJECT VERSION` prints a JSON object: each call's name, with null or with its traceback.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from typing import Any

from zaqarclient.queues import client as zaqarclient
from zaqarclient.transport import errors

URL, PROJECT, VERSION = sys.argv[1], sys.argv[2], float(sys.argv[3])
Call = Callable[[Any, Any], None]
CALLS: dict[str, Call] = {}


def call(function: Call) -> Call:
    CALLS[function.__name__] = function
    return function


def connect() -> Any:
    """A client object; each has a `Client-ID` of its own."""
    auth = {"backend": "noauth", "options": {"os_project_id": PROJECT}}
    return zaqarclient.Client(URL, version=VERSION, conf={"auth_opts": auth})


def bodies(messages: Any) -> list[object]:
    return [message.body for message in messages]


def is_refused(
    error: type[Exception], function: Callable[..., object], *arguments: object, **named: object
) -> bool:
    try:
        function(*arguments, **named)
    except error:
        return True
    return False


@call
def a_queue_is_made_and_shown(client: Any, queue: Any) -> None:
    client.queue("shown", force_create=True)
    assert client.queue("shown").metadata() == {}
    assert "shown" in [each.name for each in client.queues(limit=20)]


@call
def queues_are_listed_over_pages(client: Any, queue: Any) -> None:
    names = [f"page-{n}" for n in range(5)]
    for name in names:
        client.queue(name, force_create=True)
    assert set(names) <= {each.name for each in client.queues(limit=2).stream()}


@call
def messages_are_posted_and_browsed_over_pages(client: Any, queue: Any) -> None:
    answer = queue.post([{"body": n, "ttl": 300} for n in range(5)])
    assert len(answer["resources"]) == 5
    assert bodies(queue.messages(echo=True, limit=2)) == [0, 1]
    assert bodies(queue.messages(echo=True, limit=2).stream()) == [0, 1, 2, 3, 4]


@call
def own_messages_are_left_out_without_echo(client: Any, queue: Any) -> None:
    queue.post({"body": "own", "ttl": 300})
    assert bodies(queue.messages()) == []
    assert bodies(connect().queue(queue.name).messages()) == ["own"]


@call
def messages_are_read_by_their_ids(client: Any, queue: Any) -> None:
    answer = queue.post([{"body": body, "ttl": 300} for body in "ab"])
    ids = [href.rpartition("/")[2] for href in answer["resources"]]
    assert queue.message(ids[0]).body == "a"
    assert bodies(queue.messages(*ids)) == ["a", "b"]


@call
def messages_are_deleted(client: Any, queue: Any) -> None:
    answer = queue.post([{"body": body, "ttl": 300} for body in "abc"])
    first, second, _ = [href.rpartition("/")[2] for href in answer["resources"]]
    queue.message(first).delete()
    queue.delete_messages(second)
    assert bodies(queue.messages(echo=True)) == ["c"]


@call
def an_absent_message_is_not_found(client: Any, queue: Any) -> None:
    assert is_refused(errors.ResourceNotFound, queue.message, "6123f4a0b1c2d3e4f5a6b7c8")


@call
def statistics_count_the_messages(client: Any, queue: Any) -> None:
    queue.post({"body": 1, "ttl": 300})
    assert queue.stats["messages"]["free"] == 1


@call
def messages_are_claimed_and_deleted_under_their_claim(client: Any, queue: Any) -> None:
    queue.post([{"body": body, "ttl": 300} for body in "ab"])
    claim = queue.claim(ttl=300, grace=60, limit=1)
    [message] = claim
    assert message.body == "a"
    assert message.claim_id == claim.id
    assert bodies(queue.claim(id=claim.id)) == ["a"]
    message.delete()
    assert bodies(queue.messages(echo=True)) == ["b"]


@call
def a_claim_is_renewed_and_released(client: Any, queue: Any) -> None:
    queue.post({"body": "a", "ttl": 300})
    claim = queue.claim(ttl=300, grace=60)
    claim.update(ttl=600, grace=60)
    shown = queue.claim(id=claim.id)
    assert shown.ttl == 600
    assert shown.age < 60
    claim.delete()
    assert bodies(queue.claim(ttl=300, grace=60)) == ["a"]


@call
def a_claim_of_nothing_is_empty(client: Any, queue: Any) -> None:
    assert list(queue.claim(ttl=300, grace=60)) == []


@call
def a_queue_is_deleted_with_its_messages(client: Any, queue: Any) -> None:
    queue.post({"body": 1, "ttl": 300})
    queue.delete()
    assert queue.name not in [each.name for each in client.queues(limit=20).stream()]


@call
def a_bad_value_is_a_malformed_request(client: Any, queue: Any) -> None:
    assert is_refused(errors.MalformedRequest, queue.post, {"body": 1, "ttl": 5})
    assert is_refused(errors.MalformedRequest, queue.claim, ttl=5, grace=60)


@call
def a_queue_that_is_deleted_is_made_again(client: Any, queue: Any) -> None:
    queue.delete()
    client.queue(queue.name, force_create=True).post({"body": 1, "ttl": 300})
    assert bodies(queue.messages(echo=True)) == [1]


if VERSION == 1:

    @call
    def a_queue_is_asked_whether_it_exists(client: Any, queue: Any) -> None:
        assert queue.exists()
        queue.delete()
        assert not queue.exists()

    @call
    def metadata_is_replaced(client: Any, queue: Any) -> None:
        queue.metadata({"owner": "shop"})
        queue.metadata({"owner": "bank"})
        assert client.queue(queue.name).metadata(force_reload=True) == {"owner": "bank"}

    @call
    def the_service_is_healthy(client: Any, queue: Any) -> None:
        assert client.health()

    @call
    def a_list_of_no_queues_is_empty(client: Any, queue: Any) -> None:
        assert list(client.queues(marker="zzz")) == []


if VERSION == 1.1:

    @call
    def messages_are_popped(client: Any, queue: Any) -> None:
        queue.post([{"body": body, "ttl": 300} for body in "abc"])
        assert bodies(queue.pop(2)) == ["a", "b"]
        assert bodies(queue.messages(echo=True)) == ["c"]


def main() -> None:
    client = connect()
    results: dict[str, str | None] = {}
    for name, function in CALLS.items():
        queue = client.queue("of-" + name[:40], force_create=True)
        try:
            function(client, queue)
            results[name] = None
        except Exception:
            results[name] = traceback.format_exc()
    print(json.dumps(results))


main()
