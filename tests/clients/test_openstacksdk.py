"""openstacksdk, every call of its `message` proxy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from keystoneauth1 import discover, noauth
from keystoneauth1 import session as keystone
from openstack import connection
from openstack import exceptions as sdk_exceptions
from openstack.message.v2 import claim as sdk_claim

from tests.clients.caller import Caller

pytestmark = [
    pytest.mark.client("openstacksdk"),
    # The SDK warns of its own use of functions that it deprecates.
    pytest.mark.filterwarnings("ignore::openstack.warnings.RemovedInSDK50Warning"),
    pytest.mark.filterwarnings("ignore::openstack.warnings.RemovedInSDK60Warning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

SUBSCRIBER = "http://127.0.0.1:9/hook"


class NoAuth(noauth.NoAuth):  # type: ignore[misc, unused-ignore]
    """No authentication, for a given project."""

    def __init__(self, endpoint: str, project: str) -> None:
        super().__init__(endpoint=endpoint)
        self._project = project

    def get_project_id(self, session: Any, **_: Any) -> str:
        return self._project


@pytest.fixture
def sdk(url: str, project: str) -> Iterator[Any]:
    """The `message` proxy of a live connection."""
    session = keystone.Session(auth=NoAuth(f"{url}/v2", project))
    live = connection.Connection(session=session)
    yield live.message
    live.close()
    session.session.close()


def post(sdk: Any, *bodies: object) -> list[str]:
    hrefs = sdk.post_message("jobs", [{"body": body, "ttl": 300} for body in bodies])
    return [href.rpartition("/")[2] for href in hrefs]


def claim(sdk: Any, *, ttl: int = 60, limit: int = 10) -> Any:
    """A claim made by the SDK's own resource, which works as long as it knows no connection."""
    return sdk_claim.Claim(queue_name="jobs", ttl=ttl, grace=60, limit=limit).create(sdk)


# Discovery


def test_the_version_is_discovered_from_the_bare_endpoint(url: str) -> None:
    session = keystone.Session()

    found = discover.Discover(session, url, authenticated=False)

    assert found.url_for("2") == f"{url}/v2/"
    session.session.close()


# Queues


def test_a_queue_s_attributes_become_its_metadata(sdk: Any) -> None:
    made = sdk.create_queue(name="jobs", description="work", default_message_ttl=600)

    read = sdk.get_queue("jobs")

    assert made.id == "jobs"
    assert (read.default_message_ttl, read.max_messages_post_size) == (600, 262144)
    assert read.description == "work"


def test_making_a_queue_twice_keeps_the_first_one_s_metadata(sdk: Any) -> None:
    sdk.create_queue(name="jobs", description="first")
    sdk.create_queue(name="jobs", description="second")

    assert sdk.get_queue("jobs").description == "first"


def test_queues_are_listed_over_several_pages(sdk: Any) -> None:
    names = [f"q{number:02}" for number in range(23)]
    for name in names:
        sdk.create_queue(name=name)

    assert [queue.name for queue in sdk.queues()] == names
    assert [queue.name for queue in sdk.queues(limit=4)] == names
    assert [queue.name for queue in sdk.queues(limit=20, marker="q19")] == names[20:]


def test_deleting_a_queue_that_is_not_there_passes(sdk: Any) -> None:
    sdk.create_queue(name="jobs")

    sdk.delete_queue("jobs")
    sdk.delete_queue("jobs", ignore_missing=False)

    assert list(sdk.queues()) == []


def test_a_refused_queue_is_a_bad_request_that_tells_why(sdk: Any) -> None:
    with pytest.raises(sdk_exceptions.BadRequestException) as refused:
        sdk.create_queue(name="jobs", default_message_ttl=1)

    assert "_default_message_ttl" in refused.value.response.json()["description"]


# Messages


def test_messages_are_listed_over_several_pages_with_ids_as_markers(sdk: Any) -> None:
    for start in range(0, 47, 10):
        post(sdk, *range(start, min(start + 10, 47)))

    assert [message.body for message in sdk.messages("jobs")] == list(range(47))
    assert [message.body for message in sdk.messages("jobs", limit=20)] == list(range(47))


def test_a_page_starts_after_the_message_whose_id_is_the_marker(sdk: Any) -> None:
    ids = post(sdk, "a", "b", "c")

    assert [message.body for message in sdk.messages("jobs", marker=ids[0])] == ["b", "c"]


def test_a_message_has_the_fields_that_the_sdk_reads(sdk: Any, prefix: str) -> None:
    [message_id] = post(sdk, {"n": 1})

    message = sdk.get_message("jobs", message_id)

    assert (message.id, message.body, message.ttl) == (message_id, {"n": 1}, 300)
    assert message.href == f"{prefix}/v2/queues/jobs/messages/{message_id}"
    assert 0 <= message.age < 60


def test_an_unknown_message_is_not_found(sdk: Any) -> None:
    with pytest.raises(sdk_exceptions.NotFoundException):
        sdk.get_message("jobs", "unknown")


def test_claimed_messages_are_listed_when_asked_for(sdk: Any) -> None:
    post(sdk, "a", "b")
    claim(sdk, limit=1)

    assert [message.body for message in sdk.messages("jobs")] == ["b"]
    shown = sdk.messages("jobs", include_claimed=True, echo=True)
    assert [message.body for message in shown] == ["a", "b"]


def test_deleting_messages_free_claimed_and_absent(sdk: Any) -> None:
    ids = post(sdk, "a", "b")
    held = claim(sdk, limit=1)

    with pytest.raises(sdk_exceptions.ForbiddenException):
        sdk.delete_message("jobs", ids[0])
    sdk.delete_message("jobs", ids[0], claim=held.id)
    sdk.delete_message("jobs", ids[1])
    sdk.delete_message("jobs", ids[1], ignore_missing=False)

    assert list(sdk.messages("jobs", include_claimed=True)) == []


# Claims


def test_a_claim_takes_its_id_from_the_location_and_its_limit_from_the_body(sdk: Any) -> None:
    ids = post(sdk, "a", "b", "c")

    held = claim(sdk, ttl=120, limit=2)

    read = sdk.get_claim("jobs", held.id)
    assert [message["id"] for message in read.messages] == ids[:2]
    assert [message["body"] for message in held.messages] == ["a", "b"]
    assert (read.ttl, read.id) == (120, held.id)
    assert 0 <= read.age < 60


def test_the_proxy_s_create_claim_claims_before_it_fails_on_its_own_location(
    sdk: Any, caller: Caller
) -> None:
    post(sdk, "a", "b", "c")

    # Not ours to mend: the connection's `location` hides the header `Location`.
    with pytest.raises(AttributeError, match="split"):
        sdk.create_claim("jobs", ttl=120, grace=60, limit=2)

    page = caller.call("GET", "/v2/queues/jobs/messages?include_claimed=true").json()
    claim_ids = [message["href"].partition("?claim_id=")[2] for message in page["messages"]]
    held = sdk.get_claim("jobs", claim_ids[0])
    assert claim_ids == [held.id, held.id, ""]
    assert (held.ttl, len(held.messages)) == (120, 2)


def test_create_claim_on_an_empty_queue_holds_nothing(sdk: Any) -> None:
    held = sdk.create_claim("jobs", ttl=120, grace=60)

    assert (held.id, held.messages) == (None, None)


def test_renewing_and_releasing_a_claim(sdk: Any) -> None:
    post(sdk, "a")
    held = claim(sdk)

    sdk.update_claim("jobs", held.id, ttl=900, grace=120)
    assert sdk.get_claim("jobs", held.id).ttl == 900

    sdk.delete_claim("jobs", held.id)
    sdk.delete_claim("jobs", held.id, ignore_missing=False)
    with pytest.raises(sdk_exceptions.NotFoundException):
        sdk.get_claim("jobs", held.id)
    assert [message.body for message in sdk.messages("jobs")] == ["a"]


# Subscriptions


def test_a_subscription_is_made_read_and_deleted(sdk: Any) -> None:
    options = {"post_headers": {"X-Key": "1"}}

    made = sdk.create_subscription("jobs", subscriber=SUBSCRIBER, ttl=600, options=options)
    read = sdk.get_subscription("jobs", made.subscription_id)

    assert (read.id, read.source) == (made.subscription_id, "jobs")
    assert (read.subscriber, read.ttl, read.options) == (SUBSCRIBER, 600, options)
    assert 0 <= read.age < 60

    sdk.delete_subscription("jobs", made.subscription_id)
    sdk.delete_subscription("jobs", made.subscription_id, ignore_missing=False)
    with pytest.raises(sdk_exceptions.NotFoundException):
        sdk.get_subscription("jobs", made.subscription_id)


def test_subscriptions_are_listed_over_several_pages(sdk: Any) -> None:
    uris = [f"{SUBSCRIBER}/{number}" for number in range(23)]
    for uri in uris:
        sdk.create_subscription("jobs", subscriber=uri, ttl=600)

    assert [listed.subscriber for listed in sdk.subscriptions("jobs")] == uris
    assert [listed.subscriber for listed in sdk.subscriptions("jobs", limit=6)] == uris
