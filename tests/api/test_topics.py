"""Topics over HTTP: the bodies and statuses of queues, and nothing in common with a queue of the same name."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import PROJECT, Api, StartApi, make_token
from zaqar_notify.storage.internal import Partition, outbox_ref

HOOK = "https://example.org/hook"


async def publish(api: Api, *bodies: object, **message: object) -> list[str]:
    posted = await api.post(
        "/v2/topics/t/messages", {"messages": [{"body": each} | message for each in bodies]}
    )
    assert posted.status == 201, posted
    return [href.removeprefix("/v2/topics/t/messages/") for href in posted.json["resources"]]


async def jobs(api: Api) -> int:
    partitions = range(api.service.settings.delivery_partitions)
    stats = [
        await api.service.storage.store.messages.stats(
            outbox_ref(Partition("default", number)), now=api.service.clock.now()
        )
        for number in partitions
    ]
    return sum(each.total for each in stats)


async def test_metadata_has_three_defaults_and_is_changed_as_that_of_a_queue(api: Api) -> None:
    defaults = {
        "_max_messages_post_size": 262144,
        "_default_message_ttl": 3600,
        "_default_message_delay": 0,
    }
    made = await api.put("/v2/topics/t", {"owner": "shop"})
    patch = [{"op": "replace", "path": "/metadata/_default_message_ttl", "value": 600}]

    changed = await api.patch(
        "/v2/topics/t",
        patch,
        headers={"Content-Type": "application/openstack-messaging-v2.0-json-patch"},
    )

    assert (made.status, made.headers["Location"]) == (201, "/v2/topics/t")
    assert (await api.put("/v2/topics/t")).status == 204
    assert (await api.get("/v2/topics/new")).json == defaults
    assert changed.json == defaults | {"owner": "shop", "_default_message_ttl": 600}


async def test_a_key_without_effect_on_topics_is_told(api: Api) -> None:
    made = await api.put("/v2/topics/t", {"_max_claim_count": 3})

    assert "_max_claim_count has no effect" in made.headers["Warning"]


async def test_a_topic_and_a_queue_of_one_name_have_nothing_in_common(api: Api) -> None:
    await api.put("/v2/queues/t", {"of": "queue"})
    await api.put("/v2/topics/t", {"of": "topic"})
    await api.post_bodies("t", 1, 2)
    subscription = await api.subscribe("t", HOOK)
    other = await api.subscribe("t", HOOK, kind="topics")
    before = await seen_of_the_queue(api, subscription)

    assert (await api.get("/v2/topics/t")).json["of"] == "topic"
    assert (await api.get("/v2/topics/t/stats")).json["messages"]["total"] == 0
    assert (await api.get(f"/v2/topics/t/subscriptions/{subscription}")).status == 404
    assert (await api.get(f"/v2/queues/t/subscriptions/{other}")).status == 404
    for method, path in (
        ("DELETE", f"/v2/topics/t/subscriptions/{subscription}"),
        ("POST", "/v2/topics/t/purge"),
        ("DELETE", "/v2/topics/t"),
    ):
        assert (await api.call(method, path)).status == 204

    assert await seen_of_the_queue(api, subscription) == before
    assert (await api.get("/v2/topics/t/subscriptions")).json["subscriptions"] == []
    assert (await api.get("/v2/topics")).json == {"topics": [], "links": []}


async def seen_of_the_queue(api: Api, subscription: str) -> list[Any]:
    paths = (
        "",
        "/stats",
        "/messages?echo=true",
        f"/subscriptions/{subscription}",
        "/subscriptions",
    )
    return [(await api.get(f"/v2/queues/t{path}")).json for path in paths]


async def test_a_topic_keeps_what_its_subscribers_are_owed_and_no_more(api: Api) -> None:
    await publish(api, "to nobody", ttl=600)
    owed_to_nobody = await jobs(api)
    await api.subscribe("t", HOOK, kind="topics")

    [message] = await publish(api, "to one")

    assert (owed_to_nobody, await jobs(api)) == (0, 1)
    page = await api.get("/v2/topics/t/messages?echo=true&include_delayed=true")
    assert page.json == {"messages": [], "links": []}
    assert (await api.get(f"/v2/topics/t/messages/{message}")).status == 404
    assert (await api.get(f"/v2/topics/t/messages?ids={message}")).status == 404
    assert (await api.delete(f"/v2/topics/t/messages/{message}")).status == 204
    assert (await api.delete(f"/v2/topics/t/messages?ids={message}")).status == 204
    assert await jobs(api) == 1


async def test_a_repeated_post_publishes_nothing_more(api: Api) -> None:
    await api.subscribe("t", HOOK, kind="topics")
    document = {"messages": [{"body": 1}, {"body": 2}]}
    key = {"Idempotency-Key": "once"}

    first, again = [
        await api.post("/v2/topics/t/messages", document, headers=key) for _ in range(2)
    ]

    assert first.json == again.json
    assert len(set(first.json["resources"])) == 2
    assert await jobs(api) == 1


async def test_the_topics_of_a_project_are_listed_by_name(api: Api) -> None:
    for name in ("b", "a.x", "c"):
        await api.put(f"/v2/topics/{name}", {"of": name})
    await api.put("/v2/queues/q")

    page = (await api.get("/v2/topics?limit=2&detailed=true")).json
    rest = (await api.get(page["links"][0]["href"])).json

    assert [one["name"] for one in page["topics"]] == ["a.x", "b"]
    assert page["topics"][0]["href"] == "/v2/topics/a.x"
    assert page["topics"][1]["metadata"]["of"] == "b"
    assert [one["name"] for one in rest["topics"]] == ["c"]
    assert [one["name"] for one in (await api.get("/v2/topics?name=.")).json["topics"]] == ["a.x"]
    assert [one["name"] for one in (await api.get("/v2/topics?of=c")).json["topics"]] == ["c"]
    assert (await api.get("/v2/topics?name=~")).json["topics"] == []
    assert (await api.get("/v2/topics?with_count=true")).json["topics"] == []
    assert [one["name"] for one in (await api.get("/v2/queues")).json["queues"]] == ["q"]
    assert (await api.get("/v2/topics?limit=21")).status == 400


@pytest.mark.parametrize("name", ["a@b", "x" * 65, "%7Ea", "~a", "."])
async def test_an_ill_formed_name_is_no_topic(api: Api, name: str) -> None:
    refused = await api.put(f"/v2/topics/{name}")

    assert (refused.status, refused.title) == (400, "Invalid topic identification")


@pytest.mark.parametrize("name", ["~t", "%7Et"])
async def test_no_queue_has_the_stored_name_of_a_topic(api: Api, name: str) -> None:
    await api.put("/v2/topics/t")

    assert (await api.get(f"/v2/queues/{name}")).status == 400
    refused = await api.post("/v2/queues/q/subscriptions", {"subscriber": "queue:~t"})
    assert refused.status == 400


async def test_a_topic_has_neither_claims_nor_pops(api: Api) -> None:
    assert (await api.post("/v2/topics/t/claims", {"ttl": 60})).status == 404
    assert (await api.delete("/v2/topics/t/messages?pop=1")).status == 400
    assert (await api.delete("/v2/topics/t/messages")).status == 400


async def test_a_topic_has_no_stream_of_events(api: Api) -> None:
    refused = await api.get("/v2/topics/t/messages", headers={"Accept": "text/event-stream"})

    assert refused.status == 406


async def test_errors_name_the_topic(api: Api) -> None:
    patched = await api.patch(
        "/v2/topics/t",
        [{"op": "add", "path": "/metadata/a", "value": 1}],
        headers={"Content-Type": "application/openstack-messaging-v2.0-json-patch"},
    )
    message = await api.get("/v2/topics/t/messages/6123f4a0b1c2d3e4f5a6b7c8")

    assert patched.json["description"] == "Topic 't' does not exist"
    assert message.json["description"].endswith("on topic 't'")


async def test_topics_count_as_queues_for_the_quota(start_api: StartApi) -> None:
    api = await start_api(quota_queues=2)

    answers = [
        (await api.put(path)).status for path in ("/v2/topics/t", "/v2/queues/q", "/v2/topics/u")
    ]

    assert answers == [201, 201, 403]


@pytest.mark.parametrize(
    ("pattern", "queue", "topic", "topics"),
    [
        ("a*", 201, 403, 403),
        ("*", 201, 403, 403),
        ("?a", 403, 403, 403),
        ("~a*", 403, 201, 403),
        (None, 201, 201, 200),
    ],
)
async def test_a_pattern_of_a_token_is_of_queues_or_of_topics(
    start_api: StartApi, pattern: str | None, queue: int, topic: int, topics: int
) -> None:
    api = await start_api(auth="token")
    confined = {"X-Auth-Token": await make_token(api, queue=pattern), "X-Project-ID": None}

    answers = [
        (await api.call(method, path, headers=confined)).status
        for method, path in (
            ("PUT", "/v2/queues/a"),
            ("PUT", "/v2/topics/a"),
            ("GET", "/v2/topics"),
        )
    ]

    assert answers == [queue, topic, topics]


@pytest.mark.parametrize(("own", "asked"), [("*", None), ("*", "~a"), ("~a*", "a"), ("~a*", None)])
async def test_a_confined_token_makes_none_that_reaches_more(
    start_api: StartApi, own: str, asked: str | None
) -> None:
    api = await start_api(auth="token")
    maker = {
        "X-Auth-Token": await make_token(api, scope="admin", queue=own),
        "X-Project-ID": None,
    }

    refused = await api.post("/v2/tokens", {"queue": asked}, headers=maker)

    assert refused.status == 403


async def test_a_pre_signed_url_of_a_topic_publishes_to_it_alone(start_api: StartApi) -> None:
    api = await start_api(signed_url_secrets="secret")
    shared = (
        await api.post("/v2/topics/t/share", {"paths": ["messages"], "methods": ["POST"]})
    ).json
    signed = {
        "URL-Signature": shared["signature"],
        "URL-Paths": ",".join(shared["paths"]),
        "URL-Methods": ",".join(shared["methods"]),
        "URL-Expires": shared["expires"],
        "X-Project-ID": PROJECT,
    }
    document = {"messages": [{"body": 1}]}

    published = await api.post("/v2/topics/t/messages", document, headers=signed)
    elsewhere = await api.post("/v2/queues/t/messages", document, headers=signed)
    await api.delete("/v2/queues/t/share")
    after_another_revocation = await api.post("/v2/topics/t/messages", document, headers=signed)
    await api.delete("/v2/topics/t/share")
    revoked = await api.post("/v2/topics/u/messages", document, headers=signed)

    assert shared["paths"] == ["/v2/topics/t/messages"]
    assert [one.status for one in (published, elsewhere, after_another_revocation, revoked)] == [
        201,
        404,
        201,
        404,
    ]
    refused = await api.post("/v2/topics/t/share", {"paths": ["claims"]})
    assert refused.status == 400


async def test_a_subscription_of_a_topic_is_managed_as_that_of_a_queue(start_api: StartApi) -> None:
    api = await start_api(webhook_secret="master")
    made = await api.subscribe("t", HOOK, kind="topics")
    path = f"/v2/topics/t/subscriptions/{made}"

    changed = await api.patch(path, {"ttl": 600})
    confirmed = await api.put(f"{path}/confirm", {"confirmed": True})
    first = (await api.get(f"{path}/secret")).json
    second = (await api.post(f"{path}/secret")).json

    assert (changed.status, confirmed.status) == (204, 204)
    shown = (await api.get(path)).json
    assert (shown["source"], shown["ttl"], shown["confirmed"]) == ("t", 600, True)
    assert second["former_secrets"] == [first["secret"]]
    assert (await api.get(f"{path}/undelivered")).json["undelivered"] == []
    assert [
        each["id"] for each in (await api.get("/v2/topics/t/subscriptions")).json["subscriptions"]
    ] == [made]
    assert (await api.delete(path)).status == 204
    assert (await api.get(path)).status == 404


async def test_a_topic_s_subscription_has_a_public_key_and_statistics(start_api: StartApi) -> None:
    api = await start_api(webhook_secret="master")
    created = await api.post("/v2/topics/t/subscriptions", {"subscriber": HOOK})
    subscription = f"/v2/topics/t/subscriptions/{created.json['subscription_id']}"

    key = await api.get(f"{subscription}/public_key")
    stats = await api.get(f"{subscription}/stats")

    assert key.json["public_key"].startswith("whpk_")
    assert (stats.json["delivered"], stats.json["breaker"]["state"]) == (0, "closed")
