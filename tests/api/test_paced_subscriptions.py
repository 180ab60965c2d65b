"""Subscriptions that ask for order and pace, as clients make them."""

from __future__ import annotations

import pytest

from tests.api.conftest import Api
from zaqar_notify.models import JsonObject

HOOK = "http://example.org/hook"
SUBSCRIPTIONS = "/v2/queues/q/subscriptions"


@pytest.mark.parametrize(
    ("subscriber", "options", "sentence"),
    [
        (HOOK, {"_ordered": "yes"}, "_ordered must be true"),
        (HOOK, {"_ordered": {"by_attribute": "a b"}}, "_ordered by_attribute must be the name"),
        (HOOK, {"_batch": {"count": 500}}, "_batch count must be an integer from 2 to 100"),
        (HOOK, {"_max_receives_per_second": 0}, "must be a number from 0.001 to 10000"),
        (HOOK, {"_max_in_flight": "3"}, "_max_in_flight must be an integer from 1 to 1000"),
        (HOOK, {"_batch": {"count": 2}, "post_data": "x"}, "_batch can't be used with post_data"),
        ("queue:other", {"_batch": {"count": 2}}, "_batch is for webhooks"),
    ],
)
async def test_a_wrong_option_is_refused_with_its_limits(
    api: Api, subscriber: str, options: JsonObject, sentence: str
) -> None:
    reply = await api.post(SUBSCRIPTIONS, {"subscriber": subscriber, "options": options})

    assert reply.status == 400
    assert sentence in reply.json["description"]


async def test_a_queue_has_ten_ordered_subscriptions_at_most(api: Api) -> None:
    ordered: JsonObject = {"_ordered": True}
    for number in range(9):
        await api.subscribe("q", f"{HOOK}/{number}", options=ordered)
    last = await api.subscribe("q", f"{HOOK}/9")

    first = await api.patch(f"{SUBSCRIPTIONS}/{last}", {"options": ordered})
    again = await api.patch(f"{SUBSCRIPTIONS}/{last}", {"options": {**ordered, "mine": 1}})
    beyond = await api.post(SUBSCRIPTIONS, {"subscriber": HOOK, "options": ordered})

    assert (first.status, again.status, beyond.status) == (204, 204, 400)
    assert "has 10 ordered subscriptions already" in beyond.json["description"]
