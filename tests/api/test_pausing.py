"""Pausing and resuming over HTTP."""

from __future__ import annotations

import pytest

from tests.api.conftest import PROJECT, Api
from tests.clock import ManualClock
from zaqar_notify.delivery import InternalPost
from zaqar_notify.models import NewMessage, QueueRef
from zaqar_notify.storage.internal import held_ref, parked_ref

HOOK = "http://example.org/hook"
SUBSCRIPTIONS = "/v2/queues/q/subscriptions"


async def test_a_pause_is_shown_with_since_when_and_why_and_how_much_waits(
    api: Api, clock: ManualClock
) -> None:
    one = await api.subscribe("q", HOOK)
    normal = (await api.get(f"{SUBSCRIPTIONS}/{one}")).json
    clock.advance(seconds=10)

    reply = await api.post(f"{SUBSCRIPTIONS}/{one}/pause", {"why": "moving house"})
    for own in (held_ref(one), parked_ref(one)):
        owed = InternalPost([NewMessage(b"{}", 60)])
        await api.service.storage.messages.post(own, owed, now=clock.now())

    assert reply.status == 200
    disabled = {"reason": "paused", "since": "2100-01-01T12:00:10Z", "detail": "moving house"}
    assert reply.json["disabled"] == {**disabled, "waiting": 0}
    shown = (await api.get(f"{SUBSCRIPTIONS}/{one}")).json
    assert shown == {**normal, "age": 10, "disabled": {**disabled, "waiting": 2}}
    [listed] = (await api.get(SUBSCRIPTIONS)).json["subscriptions"]
    assert listed["disabled"] == disabled


@pytest.mark.parametrize("kind", ["queues", "topics"])
async def test_a_resumed_subscription_is_zaqar_s_object_again(api: Api, kind: str) -> None:
    path = f"/v2/{kind}/q/subscriptions/{await api.subscribe('q', HOOK, kind=kind)}"
    normal = (await api.get(path)).json
    paused = await api.post(f"{path}/pause")

    reply = await api.post(f"{path}/resume")

    assert paused.json["disabled"]["reason"] == "paused"
    assert (reply.status, reply.json) == (200, normal)
    assert (await api.get(path)).json == normal
    assert (await api.post(f"{path}/resume")).json == normal


async def test_a_change_as_openstack_sends_it_does_not_end_a_pause(api: Api) -> None:
    one = await api.subscribe("q", HOOK)
    await api.post(f"{SUBSCRIPTIONS}/{one}/pause")

    await api.patch(f"{SUBSCRIPTIONS}/{one}", {"ttl": 600, "options": {}})

    assert (await api.get(f"{SUBSCRIPTIONS}/{one}")).json["disabled"]["reason"] == "paused"


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b'{"why": 5}', "why"),
        (b"[]", "object"),
        (b'{"why": "%s"}' % (b"x" * 257), "256"),
        (b'{"why": "two\\nlines"}', "one line"),
    ],
)
async def test_a_wrong_reason_is_refused(api: Api, body: bytes, named: str) -> None:
    one = await api.subscribe("q", HOOK)

    reply = await api.call("POST", f"{SUBSCRIPTIONS}/{one}/pause", body=body)

    assert reply.status == 400
    assert named in reply.json["description"]
    assert "disabled" not in (await api.get(f"{SUBSCRIPTIONS}/{one}")).json


@pytest.mark.parametrize("verb", ["pause", "resume"])
async def test_another_project_s_subscription_can_be_neither_paused_nor_resumed(
    api: Api, verb: str
) -> None:
    one = await api.subscribe("q", HOOK)

    reply = await api.call(
        "POST", f"{SUBSCRIPTIONS}/{one}/{verb}", headers={"X-Project-ID": "other"}
    )

    assert reply.status == 404
    found = await api.service.storage.subscriptions.get(
        QueueRef(PROJECT, "q"), one, now=api.service.clock.now()
    )
    assert found is not None
    assert found.disabled_at is None
