"""The phrases of Zaqar that its clients and tests look for in the text of an error."""

from __future__ import annotations

from tests.api.conftest import Api, Reply

SUBSCRIPTIONS = "/v2/queues/q/subscriptions"
SUBSCRIBER = "http://example.org/"


def description(reply: Reply) -> str:
    assert reply.status == 400
    text: str = reply.json["description"]
    return text


async def test_a_subscription_without_a_body_misses_a_parameter(api: Api) -> None:
    without_body = await api.post(SUBSCRIPTIONS)
    without_subscriber = await api.post(SUBSCRIPTIONS, {"ttl": 60})

    assert "Missing parameter" in description(without_body)
    assert "Missing parameter" in description(without_subscriber)


async def test_a_body_that_is_no_json_could_not_be_parsed(api: Api) -> None:
    bodies = (b"{", b'{"a": tru}', b"\xff")
    requests = (
        ("PUT", "/v2/queues/q"),
        ("POST", "/v2/queues/q/messages"),
        ("POST", "/v1.1/queues/q/messages"),
        ("POST", "/v2/queues/q/claims"),
        ("POST", "/v2/queues/q/purge"),
        ("POST", SUBSCRIPTIONS),
    )

    for method, path in requests:
        for body in bodies:
            reply = await api.call(method, path, body=body)
            assert "body could not be parsed" in description(reply), (path, body)


async def test_a_changed_subscription_must_be_a_dict(api: Api) -> None:
    subscription_id = await api.subscribe("q", SUBSCRIBER)

    reply = await api.call("PATCH", f"{SUBSCRIPTIONS}/{subscription_id}", ["ttl", 60])

    assert "Subscriptions must be a dict." in description(reply)


async def test_options_must_be_a_dict(api: Api) -> None:
    subscription_id = await api.subscribe("q", SUBSCRIBER)
    options = {"options": [1]}

    created = await api.post(SUBSCRIPTIONS, {"subscriber": SUBSCRIBER, **options})
    changed = await api.call("PATCH", f"{SUBSCRIPTIONS}/{subscription_id}", options)

    assert "must be a dict" in description(created)
    assert "must be a dict" in description(changed)


async def test_a_subscriber_of_an_unknown_kind_must_be_supported_in_the_list(api: Api) -> None:
    reply = await api.post(SUBSCRIPTIONS, {"subscriber": "fake://example.org/"})

    assert "must be supported in the list" in description(reply)


async def test_a_confirmation_should_be_boolean(api: Api) -> None:
    subscription_id = await api.subscribe("q", SUBSCRIBER)

    reply = await api.put(f"{SUBSCRIPTIONS}/{subscription_id}/confirm", {"confirmed": "true"})

    assert "The 'confirmed' should be boolean." in description(reply)
