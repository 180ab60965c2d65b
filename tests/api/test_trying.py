"""Test messages of subscriptions over HTTP."""

from __future__ import annotations

import pytest

from tests.api.conftest import Api, StartApi
from tests.api.test_subscriptions import CONFIRMING, HOOK, SUBSCRIPTIONS, works
from tests.partitions import partition
from zaqar_notify.delivery import OwedDelivery, delivery_id
from zaqar_notify.storage.internal import outbox_ref

OUTBOX = outbox_ref(partition())


@pytest.mark.parametrize(
    ("body", "sent"),
    [(None, b'{"test": true}'), (b"{}", b'{"test": true}'), (b'{"body": 1.10}', b"1.10")],
)
@pytest.mark.parametrize("kind", ["queues", "topics"])
async def test_a_test_is_owed_to_its_subscription_alone(
    api: Api, kind: str, body: bytes | None, sent: bytes
) -> None:
    path = f"/v2/{kind}/q/subscriptions"
    created = await api.post(path, {"subscriber": HOOK})
    one = created.json["subscription_id"]

    reply = await api.call("POST", f"{path}/{one}/test", body=body)

    assert reply.status == 202
    [owed] = await works(api, OUTBOX)
    assert isinstance(owed, OwedDelivery)
    assert (owed.subscription_id, bytes(owed.message.body)) == (one, sent)
    message_id = owed.message.id
    assert reply.json == {"message_id": message_id, "delivery_id": delivery_id(one, message_id)}
    assert (await api.get(f"/v2/{kind}/q/messages?echo=true")).json["messages"] == []


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"body": nan}', b"\xff"])
async def test_a_test_that_is_no_json_object_is_refused(api: Api, body: bytes) -> None:
    one = await api.subscribe("q", HOOK)

    reply = await api.call("POST", f"{SUBSCRIPTIONS}/{one}/test", body=body)

    assert reply.status == 400
    assert await works(api, OUTBOX) == []


async def test_another_project_s_subscription_can_not_be_tested(api: Api) -> None:
    one = await api.subscribe("q", HOOK)

    reply = await api.call("POST", f"{SUBSCRIPTIONS}/{one}/test", headers={"X-Project-ID": "other"})

    assert reply.status == 404


async def test_a_subscription_that_has_to_confirm_first_gets_no_test(start_api: StartApi) -> None:
    api = await start_api(**CONFIRMING)
    one = await api.subscribe("q", HOOK)

    reply = await api.post(f"{SUBSCRIPTIONS}/{one}/test")

    assert reply.status == 400
    assert "not confirmed" in reply.json["description"]
