"""The delivery log over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.api.conftest import PROJECT, Api, StartApi, bearer, make_token
from tests.delivery_logs import FAILED, write
from zaqar_notify.delivery.attempts import State
from zaqar_notify.models import QueueRef, Subscription, Verdict

HOOK = "http://example.org/hook"


async def subscribed(api: Api, path: str = "/v2/queues/q", **options: Any) -> Subscription:
    """A subscription with an attempt that failed and one that succeeded."""
    made = await api.post(f"{path}/subscriptions", {"subscriber": HOOK}, **options)
    name = path.rpartition("/")[2]
    project = options.get("headers", {}).get("X-Project-ID") or PROJECT
    ref = QueueRef(project, f"~{name}" if "/topics/" in path else name)
    found = await api.service.storage.subscriptions.get(
        ref, made.json["subscription_id"], now=api.service.clock.now()
    )
    assert found is not None
    delivered = replace(
        FAILED,
        number=2,
        verdict=Verdict.DELIVERED,
        state=State.DELIVERED,
        status=204,
    )
    await write(api.service, found, FAILED, delivered)
    return found


@pytest.mark.parametrize("kind", ["queues", "topics"])
async def test_the_log_of_a_subscription_is_read_page_by_page(api: Api, kind: str) -> None:
    subscription = await subscribed(api, f"/v2/{kind}/q")
    path = f"/v2/{kind}/q/subscriptions/{subscription.id}/deliveries"

    first = (await api.get(f"{path}?limit=1")).json
    second = (await api.get(first["links"][0]["href"])).json
    third = (await api.get(second["links"][0]["href"])).json

    [attempt] = first["attempts"]
    assert attempt == {
        "id": attempt["id"],
        "delivery_id": "msg_1",
        "message_id": "m1",
        "queue": "q",
        "subscription_id": subscription.id,
        "attempt": 1,
        "at": "2100-01-01T12:00:00.250Z",
        "verdict": "try_later",
        "status": 503,
        "detail": "",
        "answer": "",
        "latency_ms": 12,
        "bytes": 100,
        "worker": "w1",
        "state": "retrying",
        "next_attempt_at": None,
        "type": "Notification",
        "request_id": "",
        **({"topic": True} if kind == "topics" else {}),
    }
    assert [each["state"] for each in second["attempts"]] == ["delivered"]
    assert (third["attempts"], third["links"], third["left_out"]) == ([], [], 0)


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("", 2),
        ("?queue=q", 2),
        ("?queue=other", 0),
        ("?topic=q", 0),
        ("?message=m1", 2),
        ("?message=m2", 0),
        ("?outcome=failed", 1),
        ("?outcome=delivered,postponed", 1),
        ("?since=2100-01-01T12:00:00Z", 2),
        ("?since=2100-01-01T13:00:01+01:00", 0),
        ("?until=2100-01-01T12:00:00.250Z", 0),
    ],
)
async def test_the_project_s_attempts_can_be_filtered(api: Api, query: str, count: int) -> None:
    await subscribed(api)

    assert len((await api.get(f"/v2/deliveries{query}")).json["attempts"]) == count


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("outcome=lost", "outcome"),
        ("since=yesterday", "since"),
        ("until=2100-01-01T12:00:00", "zone"),
        ("limit=21", "limit"),
        ("marker=x", "marker"),
        ("marker=q:%00:x", "marker"),
        ("queue=a%2Fb", "name"),
    ],
)
async def test_a_wrong_filter_is_refused_with_its_name(api: Api, query: str, word: str) -> None:
    refused = await api.get(f"/v2/deliveries?{query}")

    assert refused.status == 400
    assert word in refused.json["description"]


async def test_a_delivery_is_found_by_its_id(api: Api) -> None:
    subscription = await subscribed(api)

    for query in ("", "?queue=q", f"?subscription={subscription.id}"):
        found = (await api.get(f"/v2/deliveries/msg_1{query}")).json
        assert (found["state"], found["message_id"]) == ("delivered", "m1")
        assert [each["attempt"] for each in found["attempts"]] == [1, 2]

    assert (await api.get("/v2/deliveries/msg_2")).status == 404


async def test_a_message_shows_its_deliveries(api: Api) -> None:
    subscription = await subscribed(api)

    found = (await api.get("/v2/queues/q/messages/m1/deliveries")).json

    [delivery] = found["deliveries"]
    assert (delivery["subscription_id"], delivery["state"]) == (subscription.id, "delivered")
    assert (await api.get(found["links"][0]["href"])).json == {"deliveries": [], "links": []}


async def test_statistics_of_a_subscription(api: Api) -> None:
    subscription = await subscribed(api)

    found = (await api.get(f"/v2/queues/q/subscriptions/{subscription.id}/stats")).json

    assert found["last_error"]["status"] == 503
    assert found["last_success_at"] == "2100-01-01T12:00:00.250Z"
    assert (found["breaker"]["state"], found["breaker"]["failures"]) == ("closed", 0)
    assert found["breaker"]["failing_since"] is None
    assert (found["failing"], found["parked"], found["held"], found["dead"]) == (0, 0, 0, 0)
    for rest in ("stats", "deliveries"):
        assert (await api.get(f"/v2/queues/q/subscriptions/none/{rest}")).status == 404


async def test_projects_do_not_see_one_another_s_deliveries(api: Api) -> None:
    subscription = await subscribed(api)
    marker = (await api.get("/v2/deliveries?limit=1")).json["links"][0]["href"].partition("?")[2]
    other = {"X-Project-ID": "other"}
    await subscribed(api, "/v2/queues/mine", headers=other)

    listed = (await api.get(f"/v2/deliveries?{marker}", headers=other)).json

    assert {each["queue"] for each in listed["attempts"]} <= {"mine"}
    for path in (
        f"/v2/deliveries?subscription={subscription.id}",
        f"/v2/deliveries?queue=q&subscription={subscription.id}",
        "/v2/deliveries?queue=q",
    ):
        assert (await api.get(path, headers=other)).json["attempts"] == []
    by_id = f"/v2/deliveries/msg_1?queue=q&subscription={subscription.id}"
    assert (await api.get(by_id, headers=other)).status == 404
    assert (await api.get("/v2/queues/q/messages/m1/deliveries", headers=other)).json[
        "deliveries"
    ] == []


async def test_a_confined_token_sees_the_deliveries_of_its_queues(start_api: StartApi) -> None:
    api = await start_api(auth="token")
    member = bearer(await make_token(api))
    confined = bearer(await make_token(api, queue="orders.*"))
    outside = await subscribed(api, "/v2/queues/invoices", headers=member)
    await subscribed(api, "/v2/queues/orders.eu", headers=member)

    listed = (await api.get("/v2/deliveries", headers=confined)).json["attempts"]

    assert {each["queue"] for each in listed} == {"orders.eu"}
    assert (await api.get("/v2/deliveries?queue=invoices", headers=confined)).json["attempts"] == []
    path = f"/v2/deliveries/msg_1?queue=invoices&subscription={outside.id}"
    assert (await api.get(path, headers=confined)).status == 404
    path = f"/v2/queues/invoices/subscriptions/{outside.id}/deliveries"
    assert (await api.get(path, headers=confined)).status == 403
