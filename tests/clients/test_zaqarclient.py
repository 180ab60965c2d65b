"""python-zaqarclient, every queue, message, claim and subscription call that it offers."""

from __future__ import annotations

from typing import Any

import pytest
from zaqarclient.queues import client as zaqarclient
from zaqarclient.transport import errors

from tests.clients.caller import Caller

RESERVED_DEFAULTS = {
    "_max_messages_post_size": 262144,
    "_default_message_ttl": 3600,
    "_default_message_delay": 0,
    "_dead_letter_queue": None,
    "_dead_letter_queue_messages_ttl": None,
    "_max_claim_count": None,
    "_enable_encrypt_messages": False,
}

pytestmark = [
    pytest.mark.client("zaqarclient 4"),
    # The library never closes its `requests` sessions.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def connect(url: str, project: str) -> Any:
    """A client object; each has a `Client-ID` of its own."""
    auth = {"backend": "noauth", "options": {"os_project_id": project}}
    return zaqarclient.Client(url, version=2, conf={"auth_opts": auth})


@pytest.fixture
def client(url: str, project: str) -> Any:
    return connect(url, project)


@pytest.fixture
def observer(url: str, project: str) -> Any:
    """Another client of the same project: it sees the first one's messages without `echo`."""
    return connect(url, project)


@pytest.fixture
def queue(client: Any) -> Any:
    return client.queue("jobs")


def post(queue: Any, *bodies: object, ttl: int = 300) -> list[str]:
    answer = queue.post([{"body": body, "ttl": ttl} for body in bodies])
    return [href.rpartition("/")[2] for href in answer["resources"]]


def bodies(messages: Any) -> list[object]:
    return [message.body for message in messages]


# Service


def test_ping_says_that_the_service_is_there(client: Any) -> None:
    assert client.ping() is True


def test_the_home_document_names_the_resources(client: Any, prefix: str) -> None:
    resources = client.homedoc()["resources"]

    assert resources["rel/queue"]["href-template"] == prefix + "/v2/queues/{queue_name}"
    assert resources["rel/ping"]["hints"]["allow"] == ["GET"]


def test_without_a_project_the_client_s_own_default_is_accepted(url: str) -> None:
    client = zaqarclient.Client(
        url, version=2, conf={"auth_opts": {"backend": "noauth", "options": {}}}
    )

    assert client.ping() is True
    assert client.queue("unused").stats["messages"]["total"] == 0


# Queues


def test_a_queue_made_with_force_create_is_listed(client: Any, prefix: str) -> None:
    client.queue("made", force_create=True)
    client.queue("made", force_create=True)

    queues, count = client.queues(with_count=True)

    assert [(queue.name, queue.href) for queue in queues] == [("made", f"{prefix}/v2/queues/made")]
    assert count == 1


def test_a_queue_exists_for_this_client_even_before_use(client: Any) -> None:
    assert client.queue("lazy").exists()
    assert client.queue("made", force_create=True).exists()


def test_metadata_of_an_unused_queue_is_the_reserved_defaults(queue: Any) -> None:
    assert queue.metadata() == RESERVED_DEFAULTS


def test_metadata_is_added_replaced_and_removed_as_a_whole(client: Any) -> None:
    queue = client.queue("jobs", force_create=True)

    added = queue.metadata({"colour": "blue", "_default_message_ttl": 600})
    replaced = queue.metadata({"colour": "red", "size": 3})

    assert added["colour"] == "blue"
    assert added["_default_message_ttl"] == 600
    assert replaced == RESERVED_DEFAULTS | {"colour": "red", "size": 3}
    assert queue.metadata(force_reload=True) == replaced
    assert queue.metadata_dict == replaced
    assert queue.metadata({}) == RESERVED_DEFAULTS


def test_setting_metadata_insists_on_a_queue_that_was_made(queue: Any) -> None:
    with pytest.raises(errors.ResourceNotFound, match="Title: Not found"):
        queue.metadata({"colour": "blue"})


def test_metadata_out_of_range_is_malformed_with_title_and_description(client: Any) -> None:
    queue = client.queue("jobs", force_create=True)

    with pytest.raises(errors.MalformedRequest) as refused:
        queue.metadata({"_default_message_ttl": 1})

    assert "Title: Invalid request body" in str(refused.value)
    assert "Description:" in str(refused.value)


def test_stats_count_free_and_claimed_messages(queue: Any, prefix: str) -> None:
    ids = post(queue, "a", "b", "c")
    queue.claim(ttl=60, grace=60, limit=1)

    messages = queue.stats["messages"]

    assert (messages["free"], messages["claimed"], messages["total"]) == (2, 1, 3)
    assert messages["oldest"]["href"] == f"{prefix}/v2/queues/jobs/messages/{ids[0]}"
    assert messages["newest"]["href"] == f"{prefix}/v2/queues/jobs/messages/{ids[2]}"


def test_deleting_a_queue_twice_passes_and_leaves_nothing(client: Any, queue: Any) -> None:
    post(queue, "a")

    queue.delete()
    queue.delete()

    assert queue.stats["messages"] == {"free": 0, "claimed": 0, "total": 0}
    assert list(client.queues()[0]) == []


def test_queues_stream_over_several_pages(client: Any) -> None:
    names = [f"q{number:02}" for number in range(25)]
    for name in names:
        client.queue(name, force_create=True)

    queues, count = client.queues(limit=7, with_count=True)

    assert [queue.name for queue in queues.stream()] == names
    assert count == 25


def test_queues_without_streaming_are_one_page(client: Any) -> None:
    for number in range(5):
        client.queue(f"q{number}", force_create=True)

    queues, count = client.queues(limit=2, marker="q0")

    assert [queue.name for queue in queues] == ["q1", "q2"]
    assert count is None


def test_detailed_queues_carry_their_metadata(client: Any) -> None:
    client.queue("jobs", force_create=True).metadata({"colour": "blue"})

    [listed] = client.queues(detailed=True)[0]

    assert listed.metadata() == RESERVED_DEFAULTS | {"colour": "blue"}


def test_queues_are_found_by_a_part_of_their_name(client: Any) -> None:
    for name in ("night-jobs", "day-jobs", "events"):
        client.queue(name, force_create=True)

    queues, _ = client.queues(name="jobs")

    assert [queue.name for queue in queues] == ["day-jobs", "night-jobs"]


def test_a_limit_out_of_range_is_malformed(client: Any) -> None:
    with pytest.raises(errors.MalformedRequest, match="20"):
        client.queues(limit=200)


def test_purge_takes_what_it_is_asked_to_take(client: Any, queue: Any) -> None:
    def left() -> tuple[int, int]:
        return queue.stats["messages"]["total"], len(list(queue.subscriptions()))

    post(queue, "a", "b")
    client.subscription("jobs", subscriber="http://127.0.0.1:9/", ttl=300)

    queue.purge(resource_types=["messages"])
    assert left() == (0, 1)

    post(queue, "c")
    queue.purge(resource_types=["subscriptions"])
    assert left() == (1, 0)

    client.subscription("jobs", subscriber="http://127.0.0.1:9/", ttl=300)
    queue.purge()
    assert left() == (0, 0)


# Messages


def test_posting_one_message_as_an_object(queue: Any, prefix: str) -> None:
    answer = queue.post({"body": {"n": 1}, "ttl": 60})

    [href] = answer["resources"]
    assert href.startswith(f"{prefix}/v2/queues/jobs/messages/")


def test_bodies_come_back_as_they_were_posted(queue: Any) -> None:
    posted = [{"ключ": "värde", "nested": [1, {"x": None}]}, "text", 3, 1.5, True, None, [], {}]
    post(queue, *posted)

    assert bodies(queue.messages(echo=True)) == posted


def test_a_message_has_the_fields_that_the_client_reads(queue: Any, prefix: str) -> None:
    [message_id] = post(queue, "a", ttl=300)

    message = queue.message(message_id)

    assert message.id == message_id
    assert message.href == f"{prefix}/v2/queues/jobs/messages/{message_id}"
    assert (message.ttl, message.body, message.claim_id) == (300, "a", None)
    assert 0 <= message.age < 60


def test_an_unknown_message_is_not_found(queue: Any) -> None:
    with pytest.raises(errors.ResourceNotFound, match="Title: Not found"):
        queue.message("unknown")


def test_messages_of_this_client_are_shown_with_echo_only(queue: Any, observer: Any) -> None:
    post(queue, "a")

    assert bodies(queue.messages()) == []
    assert bodies(queue.messages(echo=True)) == ["a"]
    assert bodies(observer.queue("jobs").messages()) == ["a"]


def test_claimed_messages_are_shown_when_asked_for(queue: Any) -> None:
    post(queue, "a", "b")
    claim = queue.claim(ttl=60, grace=60, limit=1)

    shown = list(queue.messages(echo=True, include_claimed=True))

    assert bodies(queue.messages(echo=True)) == ["b"]
    assert bodies(shown) == ["a", "b"]
    assert shown[0].claim_id == claim.id


def test_delayed_messages_are_shown_when_asked_for(client: Any) -> None:
    queue = client.queue("delayed", force_create=True)
    queue.metadata({"_default_message_delay": 300})
    queue.post([{"body": "later", "ttl": 600}, {"body": "now", "ttl": 600, "delay": 0}])

    assert bodies(queue.messages(echo=True)) == ["now"]
    assert bodies(queue.messages(echo=True, include_delayed=True)) == ["later", "now"]


def test_messages_stream_over_several_pages_with_the_same_parameters(queue: Any) -> None:
    numbers = list(range(53))
    for start in range(0, 53, 10):
        post(queue, *numbers[start : start + 10])
    queue.claim(ttl=60, grace=60, limit=15)

    free = queue.messages(limit=6, echo=True).stream()
    all_of_them = queue.messages(limit=6, echo=True, include_claimed=True).stream()

    assert bodies(free) == numbers[15:]
    assert bodies(all_of_them) == numbers


def test_a_page_starts_after_the_marker(queue: Any) -> None:
    ids = post(queue, "a", "b", "c")

    assert bodies(queue.messages(marker=ids[0], echo=True)) == ["b", "c"]


def test_several_messages_by_their_ids(queue: Any) -> None:
    ids = post(queue, "a", "b", "c")

    found = queue.messages(ids[0], ids[2], "unknown")

    assert sorted(bodies(found), key=str) == ["a", "c"]


def test_deleting_a_message(queue: Any) -> None:
    ids = post(queue, "a", "b")

    queue.message(ids[0]).delete()

    assert bodies(queue.messages(echo=True)) == ["b"]


def test_deleting_a_claimed_message_needs_its_claim(queue: Any) -> None:
    [message_id] = post(queue, "a")
    unclaimed = queue.message(message_id)
    [claimed] = queue.claim(ttl=60, grace=60)

    with pytest.raises(errors.ForbiddenError, match="Title: Unable to delete"):
        unclaimed.delete()
    claimed.delete()

    assert queue.stats["messages"]["total"] == 0


def test_deleting_several_messages(queue: Any) -> None:
    ids = post(queue, "a", "b", "c")

    queue.delete_messages(ids[0], ids[2], "unknown")

    assert bodies(queue.messages(echo=True)) == ["b"]


def test_pop_takes_the_oldest_messages_away(queue: Any) -> None:
    ids = post(queue, "a", "b", "c")

    assert [(message.id, message.body) for message in queue.pop()] == [(ids[0], "a")]
    assert bodies(queue.pop(20)) == ["b", "c"]
    assert bodies(queue.pop(5)) == []


def test_a_message_ttl_out_of_range_is_malformed(queue: Any) -> None:
    with pytest.raises(errors.MalformedRequest, match="60"):
        post(queue, "a", ttl=59)


# Claims


def test_a_claim_holds_the_oldest_messages(queue: Any) -> None:
    ids = post(queue, "a", "b", "c")

    claim = queue.claim(ttl=120, grace=60, limit=2)
    messages = list(claim)

    assert [message.id for message in messages] == ids[:2]
    assert {message.claim_id for message in messages} == {claim.id}
    assert (claim.ttl, bodies(queue.claim(ttl=60, grace=60))) == (120, ["c"])


def test_a_claim_without_values_takes_the_defaults(queue: Any) -> None:
    post(queue, "a")

    claim = queue.claim()

    assert bodies(claim) == ["a"]
    assert queue.claim(id=claim.id).ttl == 300


def test_a_claim_on_an_empty_queue_holds_nothing(queue: Any) -> None:
    claim = queue.claim(ttl=60, grace=60)

    assert (claim.id, bodies(claim)) == (None, [])


def test_reading_a_claim_by_its_id(queue: Any) -> None:
    post(queue, "a", "b")
    claim_id = queue.claim(ttl=120, grace=60).id

    read = queue.claim(id=claim_id)

    assert bodies(read) == ["a", "b"]
    assert read.ttl == 120
    assert 0 <= read.age < 60


def test_renewing_a_claim(queue: Any) -> None:
    post(queue, "a")
    claim = queue.claim(ttl=60, grace=60)

    claim.update(ttl=900, grace=120)
    claim.update(ttl=900)

    assert queue.claim(id=claim.id).ttl == 900


def test_an_update_without_values_renews_for_the_default(queue: Any) -> None:
    post(queue, "a")
    claim = queue.claim(ttl=60, grace=60)

    claim.update()

    assert queue.claim(id=claim.id).ttl == 300


def test_a_released_claim_frees_its_messages(queue: Any) -> None:
    post(queue, "a")
    claim = queue.claim(ttl=60, grace=60)

    claim.delete()
    claim.delete()

    with pytest.raises(errors.ResourceNotFound):
        _ = claim.age
    assert bodies(queue.claim(ttl=60, grace=60)) == ["a"]


def test_messages_are_consumed_by_claiming_and_deleting(queue: Any) -> None:
    numbers = list(range(35))
    for start in range(0, 35, 10):
        post(queue, *numbers[start : start + 10])

    consumed: list[object] = []
    while messages := list(queue.claim(ttl=60, grace=60, limit=8)):
        consumed += bodies(messages)
        for message in messages:
            message.delete()

    assert consumed == numbers
    assert queue.stats["messages"]["total"] == 0


# Subscriptions

SUBSCRIBER = "http://127.0.0.1:9/hook"


def test_a_subscription_is_created_and_read(client: Any) -> None:
    options = {"post_headers": {"X-Key": "1"}}

    made = client.subscription("jobs", subscriber=SUBSCRIBER, ttl=600, options=options)
    read = client.subscription("jobs", id=made.id)

    assert (read.subscriber, read.ttl, read.options) == (SUBSCRIBER, 600, options)
    assert (read.id, read.confirmed) == (made.id, False)
    assert 0 <= read.age < 60


def test_a_subscription_lives_for_the_client_s_default_of_60_seconds(client: Any) -> None:
    assert client.subscription("jobs", subscriber=SUBSCRIBER).ttl == 60


def test_the_same_subscriber_again_is_the_same_subscription(client: Any) -> None:
    first = client.subscription("jobs", subscriber=SUBSCRIBER, ttl=600)

    again = client.subscription("jobs", subscriber=SUBSCRIBER, ttl=900, options={"n": 1})

    assert (again.id, again.ttl, again.options) == (first.id, 900, {"n": 1})


def test_subscriptions_stream_over_several_pages(client: Any, queue: Any) -> None:
    uris = [f"{SUBSCRIBER}/{number}" for number in range(23)]
    for uri in uris:
        client.subscription("jobs", subscriber=uri, ttl=600)

    listed = list(client.subscriptions("jobs", limit=5).stream())

    assert [subscription.subscriber for subscription in listed] == uris
    assert {subscription.queue_name for subscription in listed} == {"jobs"}
    assert len(list(queue.subscriptions())) == 20


def test_updating_a_subscription(client: Any) -> None:
    subscription = client.subscription("jobs", subscriber=SUBSCRIBER, ttl=600, options={"a": 1})

    subscription.update({"subscriber": f"{SUBSCRIBER}/2", "ttl": 900, "options": {"b": 2}})

    read = client.subscription("jobs", id=subscription.id)
    assert (read.subscriber, read.ttl, read.options) == (f"{SUBSCRIBER}/2", 900, {"b": 2})


def test_taking_the_subscriber_of_another_subscription_is_a_conflict(client: Any) -> None:
    client.subscription("jobs", subscriber=SUBSCRIBER, ttl=600)
    other = client.subscription("jobs", subscriber=f"{SUBSCRIBER}/2", ttl=600)

    with pytest.raises(errors.ConflictError, match="Title: Resource conflict"):
        other.update({"subscriber": SUBSCRIBER})


def test_deleting_a_subscription_twice_passes(client: Any) -> None:
    subscription = client.subscription("jobs", subscriber=SUBSCRIBER, ttl=600)

    subscription.delete()
    subscription.delete()

    assert list(client.subscriptions("jobs")) == []
    with pytest.raises(errors.ResourceNotFound):
        client.subscription("jobs", id=subscription.id)


def test_what_is_posted_to_a_queue_is_delivered_to_its_subscribers(
    client: Any, queue: Any, caller: Caller
) -> None:
    client.subscription("jobs", subscriber="queue:copies", ttl=600)

    post(queue, {"job": 1})

    # The library can not wait for messages.
    claim = caller.call("POST", "/v2/queues/copies/claims?wait=20", {"ttl": 60, "grace": 60})
    assert claim.status_code == 201
    assert [message["body"] for message in claim.json()["messages"]] == [{"job": 1}]


# Pre-signed URLs


def signed_client(url: str, queue: Any, **share: Any) -> Any:
    signed = queue.signed_url(**share)
    options = {
        "signature": signed["signature"],
        "expires": signed["expires"],
        "methods": signed["methods"],
        "paths": signed["paths"],
        "os_project_id": signed["project"],
    }
    return zaqarclient.Client(
        url,
        version=2,
        conf={"auth_opts": {"backend": "signed-url", "options": options}},
    )


def test_a_signed_url_lets_another_client_read_the_queue(url: str, queue: Any) -> None:
    post(queue, "a", "b")

    reader = signed_client(url, queue, paths=["messages"], ttl_seconds=600, methods=["GET"])

    assert bodies(reader.queue("jobs").messages()) == ["a", "b"]


def test_a_signed_url_admits_the_methods_it_names_only(url: str, queue: Any) -> None:
    post(queue, "a")
    reader = signed_client(url, queue, paths=["messages"], methods=["GET", "POST"])

    reader.queue("jobs").post({"body": "b", "ttl": 60})

    assert bodies(queue.messages(echo=True)) == ["a", "b"]
    with pytest.raises(errors.ResourceNotFound):
        reader.queue("jobs").pop()


@pytest.mark.parametrize("path", ["claims", "subscriptions"])
def test_a_signed_url_admits_the_paths_it_names_only(url: str, queue: Any, path: str) -> None:
    post(queue, "a")
    methods = ["GET", "POST"]

    reader = signed_client(url, queue, paths=[path], methods=methods).queue("jobs")

    with pytest.raises(errors.ResourceNotFound):
        reader.messages()
    with pytest.raises(errors.ResourceNotFound):
        reader.post({"body": "b", "ttl": 60})


def test_a_signed_url_is_good_for_its_queue_only(url: str, queue: Any) -> None:
    reader = signed_client(url, queue, paths=["messages"], methods=["GET"])

    with pytest.raises(errors.ResourceNotFound):
        reader.queue("others").messages()


def test_a_signed_claim_consumes_messages(url: str, queue: Any) -> None:
    post(queue, "a")
    worker = signed_client(
        url, queue, paths=["claims", "messages"], methods=["GET", "POST", "DELETE"]
    ).queue("jobs")

    [message] = worker.claim(ttl=60, grace=60)
    message.delete()

    assert queue.stats["messages"]["total"] == 0
