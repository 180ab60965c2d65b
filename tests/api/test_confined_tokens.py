"""Tokens that are confined to the queues of a pattern."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.api.conftest import Api, StartApi, bearer, make_token

Headers = Mapping[str, str | None]


@pytest.fixture
async def api(start_api: StartApi) -> Api:
    return await start_api(auth="token", signed_url_secrets="secret")


@pytest.fixture
async def confined(api: Api) -> Headers:
    return bearer(await make_token(api, queue="orders.*"))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/queues/{}"),
        ("PUT", "/v2/queues/{}"),
        ("GET", "/v2/queues/{}/messages"),
        ("POST", "/v2/queues/{}/messages"),
        ("POST", "/v2/queues/{}/claims"),
        ("POST", "/v2/queues/{}/share"),
        ("GET", "/v2/queues/{}/subscriptions"),
    ],
)
async def test_a_confined_token_reaches_the_queues_of_its_pattern(
    api: Api, confined: Headers, method: str, path: str
) -> None:
    document = {"messages": [{"body": 1}]} if path.endswith("/messages") else {}
    body = None if method == "GET" else document

    inside = await api.call(method, path.format("orders.eu"), body, headers=confined)
    outside = await api.call(method, path.format("invoices"), body, headers=confined)

    assert inside.status < 300
    assert (outside.status, outside.title) == (403, "Not authorized")
    assert "'orders.*'" in outside.json["description"]


async def test_a_confined_token_lists_no_queues(api: Api, confined: Headers) -> None:
    assert (await api.get("/v2/queues", headers=confined)).status == 403


@pytest.mark.parametrize(("queue", "status"), [("orders.failed", 201), ("failed", 403)])
async def test_a_confined_token_names_only_its_queues_in_bodies(
    api: Api, confined: Headers, queue: str, status: int
) -> None:
    patch = {"Content-Type": "application/openstack-messaging-v2.0-json-patch"}
    for subscriber in (f"queue:{queue}", f"QUEUE:{queue}"):
        subscribed = await api.post(
            "/v2/queues/orders.eu/subscriptions", {"subscriber": subscriber}, headers=confined
        )
        assert subscribed.status == status

    made = await api.put(
        "/v2/queues/orders.eu",
        {"_dead_letter_queue": queue, "_max_claim_count": 1},
        headers=confined,
    )
    await api.put("/v2/queues/orders.us", {}, headers=confined)
    step = {"op": "add", "path": "/metadata/_dead_letter_queue", "value": queue}
    changed = await api.patch("/v2/queues/orders.us", [step], headers={**confined, **patch})

    assert made.status in (status, 204)
    assert changed.status == (200 if status == 201 else 403)


async def test_a_confined_token_changes_no_subscriber_to_another_queue(
    api: Api, confined: Headers
) -> None:
    path = "/v2/queues/orders.eu/subscriptions"
    made = await api.post(path, {"subscriber": "queue:orders.all"}, headers=confined)
    one = f"{path}/{made.json['subscription_id']}"

    outside = await api.patch(one, {"subscriber": "queue:invoices"}, headers=confined)
    inside = await api.patch(one, {"subscriber": "queue:orders.us"}, headers=confined)

    assert (outside.status, inside.status) == (403, 204)
