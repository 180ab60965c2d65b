"""Messages for an instant to come, over HTTP."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.api.conftest import PROJECT, Api, StartApi
from tests.clock import START, ManualClock
from zaqar_notify.models import QueueRef

MESSAGES = "/v2/queues/q/messages"
CLAIMS = "/v2/queues/q/claims"
DUE = "2100-01-01T13:00:00Z"
HOUR = 3600


async def post(api: Api, **fields: Any) -> Any:
    return await api.post(MESSAGES, {"messages": [{"body": 1, **fields}]})


async def listed(api: Api, query: str = "") -> Any:
    return (await api.get(f"{MESSAGES}?echo=true{query}")).json["messages"]


async def test_consumers_find_it_from_its_instant_on(api: Api, clock: ManualClock) -> None:
    await post(api, not_before=DUE, ttl=60)

    clock.advance(seconds=HOUR - 0.251)
    early = await api.post(CLAIMS, {"ttl": 60, "grace": 60})
    clock.advance(seconds=0.001)
    [message] = (await api.post(CLAIMS, {"ttl": 60, "grace": 60})).json["messages"]

    assert early.status == 204
    assert (message["ttl"], message["age"]) == (60, 0)


@pytest.mark.parametrize(
    "written",
    [DUE, "2100-01-01T14:00:00.000+01:00", "21000101T130000Z", "2099-W53-5T13:00Z"],
)
async def test_each_form_of_iso_8601_names_the_instant(api: Api, written: str) -> None:
    await post(api, not_before=written)

    [message] = await listed(api, "&include_delayed=true&not_before=true")

    assert message["not_before"] == "2100-01-01T13:00:00.000Z"


async def test_the_instant_is_shown_to_those_who_ask_and_until_it_comes(
    api: Api, clock: ManualClock
) -> None:
    href = (await post(api, not_before=DUE)).json["resources"][0]
    await post(api, delay=60)

    unasked, delayed = await listed(api, "&include_delayed=true")
    asked, _ = await listed(api, "&include_delayed=true&not_before=true")
    one = (await api.get(f"{href}?not_before=true")).json
    clock.advance(seconds=HOUR)

    assert "not_before" not in {**unasked, **delayed}
    assert asked == one == {**unasked, "not_before": "2100-01-01T13:00:00.000Z"}
    assert await listed(api, "&not_before=true") == [unasked]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"not_before": "2100-01-01T13:00:00"}, "ISO 8601 instant with its zone"),
        ({"not_before": "tomorrow"}, "not 'tomorrow'"),
        ({"not_before": "0001-01-01T00:00:00+14:00"}, "not_before must be"),
        ({"not_before": 4102491600}, "not_before"),
        ({"not_before": "2101-01-02T12:00:01Z"}, "at most 366 days ahead"),
        ({"not_before": DUE, "delay": 0}, "not_before or delay, not both"),
    ],
)
async def test_another_instant_is_refused(api: Api, fields: dict[str, Any], said: str) -> None:
    refused = await post(api, **fields)

    assert refused.status == 400
    assert said in refused.json["description"]
    assert await listed(api, "&include_delayed=true") == []


async def test_a_past_instant_is_now_whatever_the_queue_s_delay(api: Api) -> None:
    await api.put("/v2/queues/q", {"_default_message_delay": 30})

    assert (await post(api, not_before="2000-01-01T00:00:00Z")).status == 201
    assert len(await listed(api)) == 1


async def test_a_client_s_instant_is_the_host_s(start_api: StartApi, clock: ManualClock) -> None:
    api = await start_api()
    clock.host_ahead = timedelta(minutes=59)
    await post(api, not_before=DUE)

    [shown] = await listed(api, "&include_delayed=true&not_before=true")
    clock.advance(seconds=60)

    assert shown["not_before"] == "2100-01-01T13:00:00.000Z"
    assert len(await listed(api)) == 1


async def test_a_repeated_post_is_answered_as_the_first_also_after_its_instant(
    api: Api, clock: ManualClock
) -> None:
    document = {"messages": [{"body": 1, "not_before": DUE}]}
    key = {"Idempotency-Key": "once"}
    first = await api.post(MESSAGES, document, headers=key)
    clock.advance(seconds=HOUR)

    again = await api.post(MESSAGES, document, headers=key)

    assert again.json == first.json
    assert len(await listed(api)) == 1


async def test_a_deletion_before_its_instant_cancels_it(api: Api) -> None:
    href = (await post(api, not_before=DUE)).json["resources"][0]

    await api.delete(href)

    message_id = href.rpartition("/")[2]
    due = {message_id: START + timedelta(hours=1)}
    ref = QueueRef(PROJECT, "q")
    assert await api.service.storage.messages.cancelled(ref, due) == {message_id}


async def test_former_versions_know_no_instants(api: Api) -> None:
    await api.post(
        "/v1.1/queues/q/messages", {"messages": [{"body": 1, "ttl": 60, "not_before": DUE}]}
    )

    assert len(await listed(api)) == 1
