"""Replays and redrives over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import PROJECT, Api, StartApi, bearer, make_token
from tests.clock import ManualClock
from tests.partitions import partition
from zaqar_notify.delivery import BulkJob, read_work
from zaqar_notify.delivery.bulk import find, note
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.internal import outbox_ref

HOOK = "http://example.org/hook"
OTHER = {"X-Project-ID": "other"}


async def ordered(api: Api) -> list[BulkJob]:
    page = await api.service.storage.messages.page(
        outbox_ref(partition()), marker=None, limit=100, now=api.service.clock.now()
    )
    works = [read_work(message.body) for message in page.messages]
    return [work for work in works if isinstance(work, BulkJob)]


@pytest.mark.parametrize("kind", ["queues", "topics"])
async def test_a_replay_is_accepted_shown_listed_and_cancelled(api: Api, kind: str) -> None:
    one = await api.subscribe("q", HOOK, kind=kind)
    wanted = {
        "outcome": "any",
        "delivery_ids": ["msg_1"],
        "message_ids": ["m"],
        "since": "2026-11-20T19:17:57Z",
        "until": "2026-11-21T19:17:57+01:00",
        "per_second": 7,
    }

    reply = await api.post(f"/v2/{kind}/q/subscriptions/{one}/replay", wanted)

    shown = reply.json
    assert reply.status == 202
    assert reply.headers["Location"] == shown["href"] == f"/v2/replays/{shown['id']}"
    assert shown | {"id": "", "href": ""} == {
        "id": "",
        "href": "",
        "kind": "replay",
        "queue": "q",
        "subscription_id": one,
        "state": "running",
        "total": None,
        "seen": 0,
        "moved": 0,
        "left": 0,
        "per_second": 7,
        "reason": "",
        "asked_at": "2100-01-01T12:00:00Z",
        "ended_at": None,
    }
    assert [job.id for job in await ordered(api)] == [shown["id"]]
    assert (await api.get(shown["href"])).json == shown
    assert (await api.get("/v2/replays")).json == {"replays": [shown]}
    assert (await api.delete(shown["href"])).status == 204
    store, now = api.service.storage.store, api.service.clock.now()
    found, is_cancelled = await find(store, PROJECT, shown["id"], now=now)
    assert found is not None
    assert is_cancelled
    assert await note(store, found, now=now)


async def test_a_redrive_is_accepted(api: Api) -> None:
    reply = await api.post("/v2/queues/dead/redrive", {"target": "q"})

    assert reply.status == 202
    assert (reply.json["kind"], reply.json["target"]) == ("redrive", "q")
    assert (await api.post("/v2/queues/dead/redrive")).status == 202


async def test_a_repeated_order_is_the_replay_that_there_is(api: Api) -> None:
    headers = {"Idempotency-Key": "mine"}

    first = await api.post("/v2/queues/dead/redrive", {}, headers=headers)
    second = await api.post("/v2/queues/dead/redrive", {}, headers=headers)
    other = await api.post("/v2/queues/dead/redrive", {"target": "x"}, headers=headers)

    assert first.json == second.json
    assert len(await ordered(api)) == 1
    assert other.status == 409


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("subscriptions/{id}/replay", {"outcome": "dead"}, "outcome"),
        ("subscriptions/{id}/replay", {"per_second": 0}, "per_second"),
        ("subscriptions/{id}/replay", {"per_second": 1001}, "1000"),
        ("subscriptions/{id}/replay", {"since": "yesterday"}, "since"),
        ("subscriptions/{id}/replay", {"since": "2026-11-20T19:17:57"}, "since"),
        (
            "subscriptions/{id}/replay",
            {"since": "2026-11-20T19:17:57Z", "until": "2026-11-20T19:17:57Z"},
            "before",
        ),
        ("subscriptions/{id}/replay", {"message_ids": ["m"] * 1001}, "1000"),
        ("subscriptions/{id}/replay", {"message_ids": ["m" * 65]}, "64"),
        ("redrive", {"target": "q"}, "another queue"),
        ("redrive", {"target": "a b"}, "not valid"),
        ("redrive", {"target": 5}, "target"),
    ],
)
async def test_a_wrong_order_is_refused(
    api: Api, path: str, body: dict[str, Any], named: str
) -> None:
    one = await api.subscribe("q", HOOK)

    reply = await api.post(f"/v2/queues/q/{path.format(id=one)}", body)

    assert reply.status == 400
    assert named in reply.json["description"]
    assert await ordered(api) == []


async def test_another_project_sees_cancels_and_orders_nothing(api: Api) -> None:
    one = await api.subscribe("q", HOOK)
    href = (await api.post(f"/v2/queues/q/subscriptions/{one}/replay")).json["href"]

    assert (await api.get("/v2/replays", headers=OTHER)).json == {"replays": []}
    assert (await api.get(href, headers=OTHER)).status == 404
    assert (await api.delete(href, headers=OTHER)).status == 404
    path = f"/v2/queues/q/subscriptions/{one}/replay"
    assert (await api.post(path, headers=OTHER)).status == 404


async def test_a_confined_token_reaches_the_replays_of_its_queues_alone(
    start_api: StartApi,
) -> None:
    api = await start_api(auth="token")
    owner = bearer(await make_token(api))
    hrefs = {
        name: (await api.post(f"/v2/queues/{name}/redrive", headers=owner)).json["href"]
        for name in ("in", "out")
    }
    headers = bearer(await make_token(api, queue="in*"))

    listed = (await api.get("/v2/replays", headers=headers)).json["replays"]

    assert [one["href"] for one in listed] == [hrefs["in"]]
    assert (await api.get(hrefs["in"], headers=headers)).status == 200
    for method in ("GET", "DELETE"):
        assert (await api.call(method, hrefs["out"], headers=headers)).status == 403
    target = {"target": "out"}
    assert (await api.post("/v2/queues/in/redrive", target, headers=headers)).status == 403


@pytest.mark.parametrize("key", ["_dead_letter_queue", "_notify_of_disabling"])
async def test_an_option_that_names_a_queue_names_one_within_reach(
    start_api: StartApi, key: str
) -> None:
    api = await start_api(auth="token")
    headers = bearer(await make_token(api, queue="in*"))

    async def subscribe(name: object) -> int:
        wanted = {"subscriber": f"{HOOK}/{name}", "options": {key: name}}
        return (await api.post("/v2/queues/in/subscriptions", wanted, headers=headers)).status

    assert await subscribe("out") == 403
    assert await subscribe(5) == 400
    assert await subscribe("in.dead") == 201
    assert (await api.put("/v2/queues/in", {key: "out"}, headers=headers)).status == 403


async def test_a_subscription_s_own_queue_can_t_be_its_dead_letter_queue(
    api: Api, clock: ManualClock
) -> None:
    wanted = {"subscriber": HOOK, "options": {"_dead_letter_queue": "q"}}

    reply = await api.post("/v2/queues/q/subscriptions", wanted)

    assert reply.status == 400
    assert "_dead_letter_queue" in reply.json["description"]
    one = await api.subscribe("q", HOOK)
    change = {"options": wanted["options"]}
    assert (await api.patch(f"/v2/queues/q/subscriptions/{one}", change)).status == 400
    found = await api.service.storage.subscriptions.get(
        QueueRef(PROJECT, "q"), one, now=clock.now()
    )
    assert found is not None
    assert found.options == {}
