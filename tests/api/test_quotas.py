"""Quotas over HTTP: rates, long polls, and the operator's routes."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from api.app import create_app
from tests.api.conftest import CLIENT_ID, PROJECT, Api, Reply, StartApi
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.operations.exposition import exposition
from zaqar_notify.quotas import known
from zaqar_notify.rules.quotas import MOST, NAMES
from zaqar_notify.storage.quotas import QuotaRecords

OTHER = {"X-Project-ID": "p2"}
MESSAGE = {"messages": [{"body": 1}]}


async def post(api: Api, count: int = 1, **options: Any) -> Reply:
    return await api.post("/v2/queues/q/messages", {"messages": [{"body": 1}] * count}, **options)


def stop_time(api: Api) -> None:
    """No token comes back, however slow the machine is."""
    for buckets in (api.service.rates.requests, api.service.rates.messages):
        buckets._now = lambda: 1_000_000.0


@pytest.fixture
def _changes_hold_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "BELIEVED_SECONDS", 0.0)


def has_been_refused(reply: Reply, quota: str, limit: int) -> bool:
    description = reply.json["description"]
    return (
        reply.json["title"] == "Too many requests"
        and f"{quota} of the project is {limit};" in description
    )


async def test_requests_over_the_rate_are_refused_with_503_and_say_when_to_come_back(
    start_api: StartApi,
) -> None:
    api = await start_api(quota_requests_per_second=1, quota_burst_seconds=3)
    stop_time(api)

    replies = [await api.get("/v2/queues") for _ in range(4)]

    assert [reply.status for reply in replies] == [200, 200, 200, 503]
    assert has_been_refused(replies[-1], "requests_per_second", 1)
    assert replies[-1].headers["Retry-After"] == "1"


async def test_another_project_has_a_rate_of_its_own(start_api: StartApi) -> None:
    api = await start_api(quota_requests_per_second=1, quota_burst_seconds=1)
    stop_time(api)
    await asyncio.gather(*(api.get("/v2/queues") for _ in range(5)))

    assert (await api.get("/v2/queues", headers=OTHER)).status == 200


async def test_refusals_that_are_held_back_take_no_places_of_requests_under_way(
    start_api: StartApi,
) -> None:
    api = await start_api(quota_requests_per_second=1, quota_burst_seconds=1, max_requests=4)
    stop_time(api)

    flood = asyncio.gather(*(api.get("/v2/queues") for _ in range(20)))
    other = await api.get("/v2/queues", headers=OTHER)

    assert other.status == 200
    assert {reply.title for reply in await flood if reply.status != 200} == {"Too many requests"}


async def test_a_post_over_the_rate_of_messages_stores_nothing_and_makes_no_queue(
    start_api: StartApi,
) -> None:
    api = await start_api(quota_messages_per_second=10, quota_burst_seconds=1)
    stop_time(api)
    assert (await post(api, 30, headers=OTHER)).status == 201

    refused = await api.post("/v2/queues/other/messages", MESSAGE, headers=OTHER)

    assert refused.status == 503
    assert has_been_refused(refused, "messages_per_second", 10)
    assert int(refused.headers["Retry-After"]) == 3
    names = [queue["name"] for queue in (await api.get("/v2/queues", headers=OTHER)).json["queues"]]
    assert names == ["q"]


async def test_a_refusal_is_429_only_if_the_operator_says_so(start_api: StartApi) -> None:
    api = await start_api(quota_requests_per_second=1, quota_burst_seconds=1, rate_status="429")
    stop_time(api)
    request = (
        f"GET /v2/queues HTTP/1.1\r\nHost: h\r\nClient-ID: {CLIENT_ID}\r\nX-Project-ID: p2\r\n"
        "Connection: close\r\n\r\n"
    )
    await api.send_raw(request.encode())

    refused = await api.send_raw(request.encode())

    assert refused.startswith(b"HTTP/1.1 429 ")
    assert b"retry-after: 1\r\n" in refused.lower()
    assert "429" in create_app(api.service).openapi()["paths"]["/v2/queues"]["get"]["responses"]


async def test_refusals_are_counted_by_quota_and_not_as_errors(
    start_api: StartApi, caplog: pytest.LogCaptureFixture
) -> None:
    api = await start_api(quota_requests_per_second=1, quota_burst_seconds=1)
    stop_time(api)

    with caplog.at_level(logging.INFO):
        await asyncio.gather(*(api.get("/v2/queues") for _ in range(3)))

    text = (await exposition(api.service)).decode()
    assert 'zaqar_notify_quota_refusals_total{quota="requests_per_second"} 2.0' in text
    assert 'zaqar_notify_requests_total{method="GET",route="/v2/queues",status="429"} 2.0' in text
    assert 'zaqar_notify_requests_total{method="GET",route="/v2/queues",status="503"} 0.0' in text
    assert not api.service.health.outage.is_on
    assert [record for record in caplog.records if record.name.startswith("api")] == []


async def test_long_polls_over_the_quota_are_refused_and_those_that_find_something_are_not(
    start_api: StartApi,
) -> None:
    api = await start_api(quota_long_polls=2)
    await api.post_bodies("full", 1)
    waiting = [
        asyncio.create_task(api.post("/v2/queues/q/claims?wait=20&limit=10")) for _ in range(2)
    ]
    while api.service.quotas.polls(PROJECT) < 2:  # noqa: ASYNC110 - nothing announces it
        await asyncio.sleep(0.01)

    refused = await api.get("/v2/queues/q/messages?wait=20")
    found = await api.get("/v2/queues/full/messages?wait=20&echo=true")
    other = await api.get("/v2/queues/q/messages?wait=1", headers=OTHER)

    assert refused.status == 503
    assert has_been_refused(refused, "long_polls", 2)
    assert len(found.json["messages"]) == 1
    assert other.json["messages"] == []
    await api.post_bodies("q", *range(20))
    assert {reply.status for reply in await asyncio.gather(*waiting)} == {201}
    assert api.service.quotas.polls(PROJECT) == 0


async def test_the_operator_gives_a_project_values_of_its_own_and_takes_them_back(
    start_api: StartApi,
) -> None:
    api = await start_api(admin_mode=True, quota_queues=7)

    changed = await api.put("/v2/quotas/p2", {"queues": 3, "long_polls": 0})
    shown = await api.get("/v2/quotas/p2")
    back = await api.put("/v2/quotas/p2", {"queues": None})

    assert changed.json == shown.json
    assert set(shown.json["quotas"]) == set(NAMES)
    assert shown.json["quotas"]["queues"] == {"limit": 3, "is_default": False, "used": 0}
    assert back.json["quotas"]["queues"] == {"limit": 7, "is_default": True, "used": 0}
    assert back.json["quotas"]["long_polls"] == {"limit": 0, "is_default": False, "used": None}
    assert (await api.get("/v2/quotas/p3")).json["quotas"]["queues"]["is_default"]


@pytest.mark.usefixtures("_changes_hold_at_once")
async def test_a_project_s_own_values_are_obeyed(start_api: StartApi) -> None:
    api = await start_api(admin_mode=True, quota_requests_per_second=1, quota_burst_seconds=1)
    await api.put("/v2/quotas/p2", {"requests_per_second": 0}, headers={"X-Project-ID": "admin"})

    replies = [await api.get("/v2/queues", headers=OTHER) for _ in range(10)]

    assert {reply.status for reply in replies} == {200}


@pytest.mark.parametrize(
    "sent",
    [
        {"queues": -1},
        {"queues": MOST + 1},
        {"queues": 10**30},
        {"queues": "many"},
        {"queues": "5"},
        {"queues": 1.5},
        {"queues": True},
        {"queues": [1]},
        {"queus": 1},
        {"long_polls": 1, "Queues": 1},
        {},
        [],
        "queues",
    ],
)
async def test_what_is_no_quota_is_refused_and_nothing_is_changed(
    start_api: StartApi, sent: object
) -> None:
    api = await start_api(admin_mode=True)
    before = (await api.get("/v2/quotas/p2")).json

    refused = await api.put("/v2/quotas/p2", sent)

    assert refused.status == 400
    assert (await api.get("/v2/quotas/p2")).json == before


async def test_a_refusal_names_the_range_or_the_known_names(start_api: StartApi) -> None:
    api = await start_api(admin_mode=True)

    negative = await api.put("/v2/quotas/p2", {"queues": -1})
    unknown = await api.put("/v2/quotas/p2", {"queus": 1})

    assert f"queues must be a whole number from 0 to {MOST}" in negative.json["description"]
    assert "'queus'" in unknown.json["description"]
    assert ", ".join(NAMES) in unknown.json["description"]


async def test_a_project_with_too_long_a_name_has_no_quotas(start_api: StartApi) -> None:
    api = await start_api(admin_mode=True)

    assert (await api.get(f"/v2/quotas/{'p' * 257}")).status == 400
    assert (await api.put(f"/v2/quotas/{'p' * 257}", {"queues": 1})).status == 400


async def test_while_the_store_is_away_the_known_limits_go_on(
    start_api: StartApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known, "BELIEVED_SECONDS", 0.0)
    api = await start_api(admin_mode=True)
    await api.put("/v2/quotas/p2", {"requests_per_second": 1})
    limits = api.service.quotas.limits
    assert (await limits.of("p2")).requests_per_second == 1

    monkeypatch.setattr(limits, "_records", Away())

    assert (await limits.of("p2")).requests_per_second == 1


async def test_a_start_without_the_store_goes_on_with_the_defaults(
    start_api: StartApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = await start_api(admin_mode=True, quota_queues=7)
    monkeypatch.setattr(api.service.quotas.limits, "_records", Away())

    assert (await api.service.quotas.limits.of("p2")).queues == 7


class Away(QuotaRecords):
    """A store that gives no answer."""

    async def get(self, project: str) -> dict[str, int]:
        raise StorageUnavailable("away")

    async def change(self, project: str, values: object) -> dict[str, int]:
        raise StorageUnavailable("away")

    async def revision(self) -> int:
        raise StorageUnavailable("away")

    async def all(self) -> dict[str, dict[str, int]]:
        raise StorageUnavailable("away")


async def test_a_project_may_see_its_own_quotas_and_only_an_operator_may_change_them(
    start_api: StartApi,
) -> None:
    api = await start_api()

    assert (await api.get(f"/v2/quotas/{PROJECT}")).status == 200
    assert (await api.get("/v2/quotas/p2")).status == 403
    assert (await api.put(f"/v2/quotas/{PROJECT}", {"queues": 0})).status == 403
