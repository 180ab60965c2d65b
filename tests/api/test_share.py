"""The body of a share: its fields, and the refusals."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from api.v2.share import Share, read_share
from tests.api.conftest import PROJECT, StartApi
from zaqar_notify.errors import BodyInvalid, ValidationFailed
from zaqar_notify.rules.signing import sign_url

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
LATER = datetime(2126, 1, 1, tzinfo=UTC)


def shared(document: object) -> Share:
    return read_share(json.dumps(document).encode(), queue_href="/v2/queues/q1", now=NOW)


def test_an_empty_share_admits_reading_messages_for_a_day() -> None:
    assert shared({}) == Share(
        ["/v2/queues/q1/messages"], ["GET"], datetime(2026, 11, 21, 12, tzinfo=UTC)
    )


def test_a_share_has_each_path_and_method_once_in_order_and_whole_seconds() -> None:
    asked = shared(
        {
            "paths": ["messages", "claims"],
            "methods": ["POST", "GET", "POST"],
            "expires": "2026-11-20T14:30:00.5+01:00",
        }
    )

    assert asked == Share(
        ["/v2/queues/q1/claims", "/v2/queues/q1/messages"],
        ["GET", "POST"],
        datetime(2026, 11, 20, 13, 30, tzinfo=UTC),
    )


def test_null_and_empty_fields_of_a_share_mean_the_default() -> None:
    assert shared({"paths": None, "methods": [], "expires": None}) == shared({})


@pytest.mark.parametrize("document", [None, [], ["messages"], "x", 5])
def test_a_share_that_is_no_object_is_refused(document: object) -> None:
    with pytest.raises(BodyInvalid):
        shared(document)


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"ttl": 60}, "ttl"),
        ({"paths": ["stats"]}, "messages, claims, subscriptions"),
        ({"paths": "messages"}, "paths must be an array"),
        ({"paths": [["messages"]]}, "messages, claims, subscriptions"),
        ({"paths": {}}, "paths must be an array"),
        ({"methods": "GET"}, "methods must be an array"),
        ({"methods": [1]}, "GET, HEAD, POST, PUT, PATCH, DELETE"),
        ({"methods": ["get"]}, "GET, HEAD, POST, PUT, PATCH, DELETE"),
        ({"methods": ["OPTIONS"]}, "GET, HEAD, POST, PUT, PATCH, DELETE"),
        ({"expires": 1795179600}, "expires must be a string"),
        ({"expires": True}, "expires must be a string"),
        ({"expires": ""}, "ISO 8601"),
        ({"expires": "tomorrow"}, "ISO 8601"),
        ({"expires": "2026-11-20T12:00:00"}, "future"),
        ({"expires": "2026-11-20T12:30:00+01:00"}, "future"),
    ],
)
def test_a_share_names_the_field_it_refuses(document: object, named: str) -> None:
    with pytest.raises(ValidationFailed, match=named) as refusal:
        shared(document)

    assert not isinstance(refusal.value, BodyInvalid)


async def test_the_first_key_signs_a_share(start_api: StartApi) -> None:
    api = await start_api(signed_url_secrets="k1,k2")
    document = {"expires": LATER.isoformat()}

    reply = await api.post("/v2/queues/q1/share", document)

    paths = ["/v2/queues/q1/messages"]
    assert reply.json["signature"] == sign_url(
        "k1", paths=paths, methods=["GET"], project=PROJECT, expires=LATER
    )


async def test_without_a_key_sharing_names_the_setting(start_api: StartApi) -> None:
    api = await start_api()

    reply = await api.post("/v2/queues/q1/share", {})

    assert reply.status == 400
    assert "ZAQAR_SIGNED_URL_SECRETS" in reply.json["description"]
