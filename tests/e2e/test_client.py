"""The client against a real service."""

from __future__ import annotations

import itertools
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
import requests

from tests.service import Service
from zaqar_notify.client import (
    Attribute,
    BadRequest,
    Client,
    Conflict,
    Forbidden,
    NotFound,
    RawJson,
    ServiceUnreachable,
)

HOOK = "http://127.0.0.1:9/hook"


def test_what_was_posted_is_read_back_in_order(client: Client, queue: str) -> None:
    ids = client.post(queue, {"n": 1}, "two", None, ttl=120)

    page = client.messages(queue, echo=True)

    assert [message.id for message in page.messages] == ids
    assert [message.body for message in page.messages] == [{"n": 1}, "two", None]
    assert {message.ttl for message in page.messages} == {120}


def test_a_body_comes_back_byte_for_byte(client: Client, queue: str) -> None:
    text = '{"price": 1.10, "n": 9223372036854775807, "é": "\\u00e9"}'

    (message_id,) = client.post(queue, RawJson(text))

    assert bytes(client.message(queue, message_id).raw).decode() == text


def test_pages_follow_one_another_without_gap(client: Client, queue: str) -> None:
    client.post(queue, *range(5))

    first = client.messages(queue, echo=True, limit=3)
    second = client.messages(queue, first.marker, echo=True, limit=3)
    third = client.messages(queue, second.marker, echo=True, limit=3)

    assert [message.body for message in first.messages] == [0, 1, 2]
    assert [message.body for message in second.messages] == [3, 4]
    assert third.messages == []
    assert third.marker == second.marker


def test_echo_decides_about_ones_own_messages(service: Service, client: Client, queue: str) -> None:
    client.post(queue, "mine")

    with Client(service.url) as other:
        assert client.messages(queue).messages == []
        assert [message.body for message in other.messages(queue).messages] == ["mine"]


def test_attributes_come_back_with_every_reading(client: Client, queue: str) -> None:
    given = {"colour": "blue", "size": 3, "tags": ["a", None], "raw": b"hi"}
    expected = {
        "colour": Attribute("String", "blue"),
        "size": Attribute("Number", 3),
        "tags": Attribute("String.Array", ["a", None]),
        "raw": Attribute("Binary", "aGk="),
    }
    first, _ = client.post(queue, 1, 2, attributes=given)

    [listed, _] = client.messages(queue, echo=True).messages
    claimed = client.claim(queue, limit=1)
    claimed.release()

    assert client.message(queue, first).attributes == expected
    assert [listed.attributes, claimed.messages[0].attributes] == [expected, expected]
    assert [each.attributes for each in client.pop(queue, 2)] == [expected, expected]


def test_projects_do_not_see_one_another(service: Service, client: Client, queue: str) -> None:
    client.post(queue, "mine")

    with Client(service.url, "other") as other:
        assert other.messages(queue, echo=True).messages == []


def test_the_same_idempotency_key_stores_once(client: Client, queue: str) -> None:
    first = client.post(queue, 1, idempotency_key="order-7")

    assert client.post(queue, 1, idempotency_key="order-7") == first
    assert client.stats(queue).total == 1
    with pytest.raises(Conflict, match="order-7"):
        client.post(queue, 2, idempotency_key="order-7")


def test_a_post_whose_answer_is_lost_is_stored_once(service: Service, queue: str) -> None:
    with loses_first_answer(service.port) as url, Client(url) as client:
        client.post(queue, "once")

        assert client.stats(queue).total == 1


def test_a_consumer_claims_deletes_and_gives_back_the_rest(client: Client, queue: str) -> None:
    client.post(queue, "done", "not done")

    with client.claim(queue, ttl=60) as claim:
        assert [message.body for message in claim.messages] == ["done", "not done"]
        assert not client.claim(queue)
        claim.renew(ttl=120)
        claim.delete(claim.messages[0])

    left = client.claim(queue)
    assert [message.body for message in left.messages] == ["not done"]


def test_a_claim_of_nothing_is_false_and_harmless(client: Client, queue: str) -> None:
    with client.claim(queue) as claim:
        assert not claim
        assert claim.messages == []
        assert claim.id is None


def test_a_claimed_message_is_deleted_only_with_its_claim(client: Client, queue: str) -> None:
    (message_id,) = client.post(queue, 1)
    claim = client.claim(queue)

    with pytest.raises(Forbidden):
        client.delete(queue, message_id)
    client.delete(queue, message_id, claim_id=claim.id)

    assert client.stats(queue).total == 0


def test_waiting_for_a_claim_ends_with_the_post(service: Service, queue: str) -> None:
    claimed: list[object] = []

    def consume() -> None:
        with Client(service.url) as consumer:
            claimed.extend(message.body for message in consumer.claim(queue, wait=20).messages)

    started = time.monotonic()
    consumer = threading.Thread(target=consume)
    consumer.start()
    with Client(service.url) as producer:
        producer.post(queue, "now")
    consumer.join()

    assert claimed == ["now"]
    assert time.monotonic() - started < 15


def test_messages_are_popped_oldest_first(client: Client, queue: str) -> None:
    client.post(queue, 1, 2, 3)

    assert [message.body for message in client.pop(queue, 2)] == [1, 2]
    assert client.stats(queue).total == 1


def test_more_messages_than_a_page_are_deleted(client: Client, queue: str) -> None:
    ids = client.post(queue, *range(45))

    client.delete(queue, *ids)

    assert client.stats(queue).total == 0


def test_stats_name_both_ends(client: Client, queue: str) -> None:
    oldest, _, newest = client.post(queue, 1, 2, 3)

    stats = client.stats(queue)

    assert (stats.free, stats.claimed, stats.total) == (3, 0, 3)
    assert stats.oldest is not None
    assert stats.newest is not None
    assert (stats.oldest.id, stats.newest.id) == (oldest, newest)
    assert abs(stats.newest.created - datetime.now(UTC)) < timedelta(minutes=1)


def test_tail_begins_after_what_is_there(client: Client, queue: str) -> None:
    client.post(queue, "before")
    followed = client.tail(queue)
    client.post(queue, "after")

    assert next(followed).body == "after"


def test_tail_misses_nothing_of_many_producers(service: Service, queue: str) -> None:
    producers, posts = 4, 25

    def produce(number: int) -> None:
        with Client(service.url) as producer:
            for post in range(posts):
                producer.post(queue, [number, post])

    threads = [threading.Thread(target=produce, args=(number,)) for number in range(producers)]
    with Client(service.url) as observer:
        for thread in threads:
            thread.start()
        followed = observer.tail(queue, from_start=True)
        seen = [message.body for message in itertools.islice(followed, producers * posts)]
        for thread in threads:
            thread.join()

    assert sorted(seen) == [[n, p] for n in range(producers) for p in range(posts)]
    for number in range(producers):
        assert [post for n, post in seen if n == number] == list(range(posts))


def test_tail_shows_claimed_messages(client: Client, queue: str) -> None:
    client.post(queue, "claimed")
    client.claim(queue)

    assert next(client.tail(queue, from_start=True)).body == "claimed"


def test_queues_are_made_shown_changed_and_deleted(client: Client, queue: str) -> None:
    assert client.create_queue(queue, {"owner": "a", "a/b~c": 1})
    assert not client.create_queue(queue)

    changed = client.update_queue(queue, {"owner": "b"}, remove=["a/b~c"])

    assert changed == client.queue(queue)
    assert changed["owner"] == "b"
    assert "a/b~c" not in changed
    client.delete_queue(queue)
    with pytest.raises(NotFound):
        client.update_queue(queue, {"owner": "c"})


def test_more_queues_than_a_page_are_listed(service: Service, queue: str) -> None:
    names = [f"many-{number:02}" for number in range(25)]
    with Client(service.url, "project-of-many-queues") as client:
        for name in names:
            client.create_queue(name, {"number": name})

        found = list(client.queues(detailed=True))

        assert [summary.name for summary in found] == names
        assert [(summary.metadata or {})["number"] for summary in found] == names
        assert [summary.name for summary in client.queues(name_contains="-24")] == ["many-24"]


def test_a_purge_of_messages_keeps_subscriptions(client: Client, queue: str) -> None:
    client.subscribe(queue, HOOK)
    client.post(queue, 1)

    client.purge(queue, ["messages"])

    assert client.stats(queue).total == 0
    assert len(list(client.subscriptions(queue))) == 1


def test_subscriptions_are_made_listed_and_removed(client: Client, queue: str) -> None:
    options = {"post_headers": {"X-Key": "1"}}
    subscription_id = client.subscribe(queue, HOOK, ttl=600, options=options)

    (listed,) = client.subscriptions(queue)

    assert (listed.id, listed.subscriber, listed.source) == (subscription_id, HOOK, queue)
    assert (listed.ttl, listed.options) == (600, options)
    assert client.subscription(queue, subscription_id).id == subscription_id
    client.unsubscribe(queue, subscription_id)
    with pytest.raises(NotFound):
        client.subscription(queue, subscription_id)


def test_each_subscription_has_a_signing_secret_of_its_own(client: Client, queue: str) -> None:
    ids = [client.subscribe(queue, f"{HOOK}/{number}") for number in range(2)]

    first, second = (client.signing_secret(queue, subscription_id) for subscription_id in ids)

    assert first.startswith("whsec_")
    assert first != second
    given = "whsec_" + "A" * 32
    assert client.rotate_secret(queue, ids[1], secret=given, overlap_seconds=0) == given
    assert client.signing_secret(queue, ids[0]) == first


def test_a_shared_queue_is_readable_with_the_signed_headers(
    service: Service, client: Client, queue: str
) -> None:
    client.post(queue, "shared")

    signed = client.share(queue, expires_at=datetime.now(UTC) + timedelta(hours=1))

    answer = requests.get(
        f"{service.url}/v2/queues/{queue}/messages",
        headers={**signed.headers, "Client-ID": "0" * 32},
        timeout=10,
    )
    assert [message["body"] for message in answer.json()["messages"]] == ["shared"]


def test_a_refusal_says_which_limit_was_passed(client: Client, queue: str) -> None:
    with pytest.raises(BadRequest) as refused:
        client.post(queue, 1, ttl=1)

    assert refused.value.status == 400
    assert refused.value.title == "Invalid API request"
    assert "60" in refused.value.description


def test_a_restart_is_waited_for_and_loses_nothing(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    service = Service(tmp_path_factory.mktemp("restarted") / "data")
    service.start()
    try:
        with Client(service.url) as client:
            client.post("q", "kept")
            followed = client.tail("q", from_start=True)
            assert next(followed).body == "kept"

            service.kill()
            with pytest.raises(ServiceUnreachable):
                client.ping()
            starting = threading.Thread(target=service.start)
            starting.start()
            poster = threading.Thread(target=_post_when_up, args=(service, starting))
            poster.start()

            assert next(followed).body == "posted after"
            poster.join()
            assert client.stats("q").total == 2
    finally:
        assert service.stop() == 0


def _post_when_up(service: Service, starting: threading.Thread) -> None:
    starting.join()
    with Client(service.url) as client:
        client.post("q", "posted after")


@contextmanager
def loses_first_answer(port: int) -> Iterator[str]:
    """The address of a relay to `port` that cuts its first connection before the answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        relay = threading.Thread(target=_relay, args=(listener, port))
        relay.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            relay.join()


def _relay(listener: socket.socket, port: int) -> None:
    for number in itertools.count():
        try:
            near, _ = listener.accept()
        except OSError:
            return
        with near, socket.create_connection(("127.0.0.1", port)) as far:
            _pump(near, far, listener, answers=number > 0)


def _pump(
    near: socket.socket, far: socket.socket, listener: socket.socket, *, answers: bool
) -> None:
    """Carry bytes both ways until one side closes, or the listener has the next or is shut down.

    Without `answers`, until the first answer comes.
    """
    while True:
        readable, _, _ = select.select([near, far, listener], [], [])
        if listener in readable or (far in readable and not answers):
            return
        for source in readable:
            chunk = source.recv(65536)
            if not chunk:
                return
            (far if source is near else near).sendall(chunk)
