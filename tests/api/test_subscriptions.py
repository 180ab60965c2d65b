"""Subscriptions over HTTP: their life, confirmation, secrets, and undelivered messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.api.conftest import PROJECT, Api, CountingDoorbell, StartApi
from tests.clock import ManualClock
from tests.partitions import partition
from tests.sinks.certificates import made
from zaqar_notify.delivery import (
    FanOut,
    InternalPost,
    OwedDelivery,
    Replay,
    delivery_id,
    outgoing_messages,
    read_work,
    undelivered_record,
)
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import (
    JsonObject,
    MessageType,
    NewMessage,
    Outcome,
    QueueRef,
    Subscription,
    Verdict,
)
from zaqar_notify.rules.uris import MASK
from zaqar_notify.storage.internal import held_ref, outbox_ref, undelivered_ref

SUBSCRIPTIONS = "/v2/queues/q/subscriptions"
HOOK = "http://example.org/hook"
CONFIRMING: dict[str, Any] = {"require_confirmation": True, "signed_url_secrets": "first,second"}


async def works(api: Api, ref: QueueRef) -> list[Any]:
    """The messages on an internal queue."""
    page = await api.service.storage.messages.page(
        ref, marker=None, limit=100, now=api.service.clock.now()
    )
    return [read_work(message.body) for message in page.messages]


async def confirmations(api: Api) -> list[dict[str, Any]]:
    """The payloads of the confirmations that are owed."""
    return [
        msgspec.json.decode(parcel.payload)
        for work in await works(api, outbox_ref(partition()))
        if isinstance(work, OwedDelivery) and work.kind is not MessageType.NOTIFICATION
        for parcel in outgoing_messages(work)
    ]


async def replays(api: Api) -> list[str]:
    return [
        work.subscription_id
        for work in await works(api, outbox_ref(partition()))
        if isinstance(work, Replay)
    ]


async def disable(api: Api, subscription_id: str) -> None:
    """Disable the subscription, as the engine does when a receiver answers 410."""
    now = api.service.clock.now()

    def disabled(subscription: Subscription) -> Subscription:
        return msgspec.structs.replace(subscription, disabled_at=now)

    await api.service.storage.subscriptions.update(
        QueueRef(PROJECT, "q"), subscription_id, disabled, now=now
    )


async def is_disabled(api: Api, subscription_id: str) -> bool:
    found = await api.service.storage.subscriptions.get(
        QueueRef(PROJECT, "q"), subscription_id, now=api.service.clock.now()
    )
    assert found is not None
    return found.disabled_at is not None


async def test_a_subscription_is_created_and_shown(api: Api, clock: ManualClock) -> None:
    options = {"post_headers": {"X-Key": "1"}, "mine": [1]}

    reply = await api.post(SUBSCRIPTIONS, {"subscriber": HOOK, "ttl": 100, "options": options})
    clock.advance(seconds=9.9)

    subscription_id = reply.json["subscription_id"]
    assert reply.status == 201
    assert reply.headers["Location"] == SUBSCRIPTIONS
    assert (await api.get(f"{SUBSCRIPTIONS}/{subscription_id}")).json == {
        "id": subscription_id,
        "source": "q",
        "subscriber": HOOK,
        "ttl": 100,
        "age": 9,
        "options": options,
        "confirmed": False,
        "expires_at": "2100-01-01T12:01:40Z",
    }


@pytest.mark.parametrize(
    ("fields", "ttl", "options"),
    [
        ({}, 3600, {}),
        ({"ttl": None, "options": None}, 3600, {}),
        ({"options": []}, 3600, {}),
        ({"ttl": 60}, 60, {}),
        ({"ttl": 220367260800}, 220367260800, {}),
        ({"unknown": 1, "confirmed": True}, 3600, {}),
    ],
)
async def test_what_a_subscription_may_leave_out(
    api: Api, fields: dict[str, object], ttl: int, options: object
) -> None:
    subscription_id = await api.subscribe("q", HOOK, **fields)

    shown = (await api.get(f"{SUBSCRIPTIONS}/{subscription_id}")).json
    assert (shown["ttl"], shown["options"], shown["confirmed"]) == (ttl, options, False)


@pytest.mark.parametrize(
    ("body", "title"),
    [
        (None, "Invalid API request"),
        (b"{}", "Invalid API request"),
        (b"[]", "Invalid API request"),
        (b'["subscriber"]', "Invalid API request"),
        (b'{"ttl": 100}', "Invalid API request"),
        (b'{"subscriber": ""}', "Invalid API request"),
        (b'{"subscriber": null}', "Invalid API request"),
        (b'{"subscriber": 5}', "Invalid API request"),
        (b'{"subscriber": "ftp://example.org"}', "Invalid API request"),
        (b'{"subscriber": "mailto:a@example.org"}', "Invalid API request"),
        (b'{"subscriber": "http://h", "ttl": 0}', "Invalid API request"),
        (b'{"subscriber": "http://h", "ttl": 59}', "Invalid API request"),
        (b'{"subscriber": "http://h", "ttl": true}', "Invalid API request"),
        (b'{"subscriber": "http://h", "ttl": 999999999999}', "Invalid API request"),
        (b'{"subscriber": "http://h", "options": 5}', "Invalid API request"),
        (b'{"subscriber": "http://h", "options": "x"}', "Invalid API request"),
        (
            b'{"subscriber": "http://h", "options": {"_retry_policy": {"minimum_delay": 25}}}',
            "Invalid API request",
        ),
        (b"x", "Invalid request body"),
        (b'{"subscriber": "http://\xff"}', "Invalid request body"),
    ],
)
async def test_bad_subscriptions_create_nothing_not_even_the_queue(
    api: Api, body: bytes | None, title: str
) -> None:
    reply = await api.post(SUBSCRIPTIONS, body=body)

    assert (reply.status, reply.title) == (400, title)
    assert (await api.get("/v2/queues")).json["queues"] == []
    assert (await api.get(SUBSCRIPTIONS)).json == {"subscriptions": [], "links": []}


async def test_an_unconfirmed_duplicate_gets_the_new_ttl_and_options(api: Api) -> None:
    first = await api.subscribe("q", HOOK, ttl=100, options={"a": 1})
    second = await api.subscribe("q", HOOK, ttl=200, options={"b": 2})

    shown = (await api.get(f"{SUBSCRIPTIONS}/{first}")).json
    assert second == first
    assert (shown["ttl"], shown["options"]) == (200, {"b": 2})


async def test_a_confirmed_duplicate_is_a_conflict_that_says_where(api: Api) -> None:
    subscription_id = await api.subscribe("q", HOOK)
    await api.put(f"{SUBSCRIPTIONS}/{subscription_id}/confirm", {"confirmed": True})

    reply = await api.post(SUBSCRIPTIONS, {"subscriber": HOOK})

    assert (reply.status, reply.title) == (409, "Resource conflict")
    assert reply.headers["Location"] == SUBSCRIPTIONS


async def test_lists_go_in_order_of_creation(api: Api, clock: ManualClock) -> None:
    ids = []
    for number in range(3):
        ids.append(await api.subscribe("q", f"http://example.org/{number}"))
        clock.advance(seconds=1)

    first = (await api.get(f"{SUBSCRIPTIONS}?limit=2")).json
    second = (await api.get(first["links"][0]["href"])).json
    third = (await api.get(second["links"][0]["href"])).json

    assert [one["id"] for one in first["subscriptions"]] == ids[:2]
    assert first["links"][0]["href"] == f"{SUBSCRIPTIONS}?limit=2&marker={ids[1]}"
    assert [one["id"] for one in second["subscriptions"]] == ids[2:]
    assert third == {"subscriptions": [], "links": []}


@pytest.mark.parametrize(
    ("query", "title"),
    [
        ("limit=0", "Invalid API request"),
        ("limit=21", "Invalid API request"),
        ("limit=x", "Invalid parameter"),
    ],
)
async def test_the_limit_of_a_list(api: Api, query: str, title: str) -> None:
    reply = await api.get(f"{SUBSCRIPTIONS}?{query}")

    assert (reply.status, reply.title) == (400, title)


async def test_a_subscription_lapses(api: Api, clock: ManualClock) -> None:
    subscription_id = await api.subscribe("q", HOOK, ttl=60)

    clock.advance(seconds=59)
    assert (await api.get(f"{SUBSCRIPTIONS}/{subscription_id}")).status == 200
    clock.advance(seconds=1)
    assert (await api.get(f"{SUBSCRIPTIONS}/{subscription_id}")).status == 404
    assert (await api.get(SUBSCRIPTIONS)).json["subscriptions"] == []


async def test_a_change_replaces_what_it_names(api: Api, clock: ManualClock) -> None:
    subscription_id = await api.subscribe("q", HOOK, ttl=60, options={"a": 1})
    path = f"{SUBSCRIPTIONS}/{subscription_id}"
    clock.advance(seconds=30)

    reply = await api.patch(path, {"ttl": 100, "options": {"b": 2}, "subscriber": None, "x": 1})

    assert (reply.status, reply.body, reply.headers["Location"]) == (204, b"", path)
    clock.advance(seconds=99)
    shown = (await api.get(path)).json
    assert (shown["subscriber"], shown["ttl"], shown["options"]) == (HOOK, 100, {"b": 2})
    clock.advance(seconds=1)
    assert (await api.get(path)).status == 404


@pytest.mark.parametrize(
    ("body", "title"),
    [
        (None, "Invalid API request"),
        (b"{}", "Invalid API request"),
        (b'["ttl"]', "Invalid API request"),
        (b'{"ttl": 50}', "Invalid API request"),
        (b'{"options": 5}', "Invalid API request"),
        (b'{"subscriber": "ftp://h"}', "Invalid API request"),
        (b"x", "Invalid request body"),
        (b'{"unknown": 1}', "Unable to update subscription"),
        (b'{"confirmed": true}', "Unable to update subscription"),
        (b'{"ttl": null, "options": null, "subscriber": null}', "Unable to update subscription"),
        (b'{"ttl": 100, "project": "p2"}', "Unable to update subscription"),
        (b'{"ttl": 100, "queue": "r"}', "Unable to update subscription"),
    ],
)
async def test_bad_changes_change_nothing(api: Api, body: bytes | None, title: str) -> None:
    path = f"{SUBSCRIPTIONS}/{await api.subscribe('q', HOOK)}"
    before = (await api.get(path)).json

    reply = await api.patch(path, body=body)

    assert (reply.status, reply.title) == (400, title)
    assert (await api.get(path)).json == before


async def test_a_subscriber_can_t_be_changed_to_one_that_is_there(api: Api) -> None:
    await api.subscribe("q", HOOK)
    other = await api.subscribe("q", "http://example.org/other")

    reply = await api.patch(f"{SUBSCRIPTIONS}/{other}", {"subscriber": HOOK})

    assert (reply.status, reply.title) == (409, "Resource conflict")
    assert "Location" not in reply.headers


async def test_a_new_subscriber_starts_unconfirmed(api: Api) -> None:
    path = f"{SUBSCRIPTIONS}/{await api.subscribe('q', HOOK)}"
    await api.put(f"{path}/confirm", {"confirmed": True})

    await api.patch(path, {"subscriber": HOOK, "ttl": 100})
    assert (await api.get(path)).json["confirmed"] is True
    await api.patch(path, {"subscriber": "http://example.org/other"})
    assert (await api.get(path)).json["confirmed"] is False


@pytest.mark.parametrize("suffix", ["", "/confirm", "/secret", "/public_key", "/undelivered"])
@pytest.mark.parametrize("where", ["unknown", "other queue", "other project"])
async def test_what_is_not_there_is_404(start_api: StartApi, suffix: str, where: str) -> None:
    api = await start_api(webhook_secret="master")
    subscription_id = await api.subscribe("q", HOOK)
    path = {
        "unknown": f"{SUBSCRIPTIONS}/123{suffix}",
        "other queue": f"/v2/queues/r/subscriptions/{subscription_id}{suffix}",
        "other project": f"{SUBSCRIPTIONS}/{subscription_id}{suffix}",
    }[where]
    headers = {"X-Project-ID": "p2"} if where == "other project" else {}

    if suffix == "/confirm":
        replies = [await api.put(path, {"confirmed": False}, headers=headers)]
    else:
        replies = [await api.get(path, headers=headers)]
        if not suffix:
            replies.append(await api.patch(path, {"ttl": 100}, headers=headers))
        if suffix == "/secret":
            replies.append(await api.post(path, headers=headers))

    assert [(reply.status, reply.title) for reply in replies] == [(404, "Not found")] * len(replies)


async def test_deleting_is_done_or_was_done(api: Api) -> None:
    path = f"{SUBSCRIPTIONS}/{await api.subscribe('q', HOOK)}"

    replies = [await api.delete(path), await api.delete(path), await api.delete(f"{path}x")]

    assert [(reply.status, reply.body) for reply in replies] == [(204, b"")] * 3
    assert (await api.get(path)).status == 404


@pytest.mark.parametrize("confirmed", [True, False])
async def test_confirming_sets_the_state_and_can_be_repeated(api: Api, confirmed: bool) -> None:
    path = f"{SUBSCRIPTIONS}/{await api.subscribe('q', HOOK)}"

    for _ in range(2):
        reply = await api.put(f"{path}/confirm", {"confirmed": confirmed})
        assert (reply.status, reply.body) == (204, b"")
        assert reply.headers["Location"] == f"{path}/confirm"
    assert (await api.get(path)).json["confirmed"] is confirmed


@pytest.mark.parametrize(
    ("body", "title"),
    [
        (None, "Invalid API request"),
        (b"{}", "Invalid API request"),
        (b'{"confirmed": 1}', "Invalid API request"),
        (b'{"confirmed": null}', "Invalid API request"),
        (b"[]", "Unable to confirm subscription"),
        (b"x", "Invalid request body"),
    ],
)
async def test_bad_confirmations(api: Api, body: bytes | None, title: str) -> None:
    path = f"{SUBSCRIPTIONS}/{await api.subscribe('q', HOOK)}"

    reply = await api.put(f"{path}/confirm", body=body)

    assert (reply.status, reply.title) == (400, title)


@pytest.mark.parametrize(
    ("settings", "asked"),
    [
        ({}, 0),
        ({"require_confirmation": True}, 0),
        ({"signed_url_secrets": "s"}, 0),
        (CONFIRMING, 1),
    ],
)
async def test_a_new_subscriber_is_asked_when_confirmation_is_required_and_can_be_signed(
    start_api: StartApi, settings: dict[str, Any], asked: int
) -> None:
    api = await start_api(**settings)

    await api.subscribe("q", HOOK)

    assert len(await confirmations(api)) == asked
    assert isinstance(api.service.doorbell, CountingDoorbell)
    assert api.service.doorbell.rings == asked


def signed_headers(payload: JsonObject) -> dict[str, str]:
    """The headers that its receiver copies into the confirming request."""
    names = ("URL-Signature", "URL-Methods", "URL-Paths", "URL-Expires", "X-Project-ID")
    return {name: payload[name] for name in names}


async def test_the_confirmation_s_headers_confirm_with_any_client_id(start_api: StartApi) -> None:
    api = await start_api(**CONFIRMING)
    subscription_id = await api.subscribe("q", HOOK)
    path = f"{SUBSCRIPTIONS}/{subscription_id}"
    [payload] = await confirmations(api)
    headers = signed_headers(payload)

    elsewhere = await api.get(path, headers=headers)
    reply = await api.put(f"{path}/confirm", payload["SubscribeBody"], headers=headers)

    assert payload["Message_Type"] == "SubscriptionConfirmation"
    assert elsewhere.status == 404
    assert reply.status == 204
    assert (await api.get(path)).json["confirmed"] is True


async def test_neither_a_revocation_nor_a_longest_life_of_shares_ends_a_link_to_confirm(
    start_api: StartApi,
) -> None:
    api = await start_api(**CONFIRMING, signed_url_max_seconds=60)
    path = f"{SUBSCRIPTIONS}/{await api.subscribe('q', HOOK)}"
    [payload] = await confirmations(api)
    await api.delete("/v2/queues/q/share")

    reply = await api.put(
        f"{path}/confirm", payload["SubscribeBody"], headers=signed_headers(payload)
    )

    assert reply.status == 204
    assert (await api.get(path)).json["confirmed"] is True


async def test_a_revoked_share_of_subscriptions_confirms_and_leaves_nothing(
    start_api: StartApi,
) -> None:
    api = await start_api(signed_url_secrets="secret")
    path = f"{SUBSCRIPTIONS}/{await api.subscribe('q', HOOK)}/confirm"
    shared = await api.post("/v2/queues/q/share", {"paths": ["subscriptions"], "methods": ["PUT"]})
    await api.delete("/v2/queues/q/share")
    headers = {
        "URL-Signature": shared.json["signature"],
        "URL-Methods": "PUT",
        "URL-Paths": shared.json["paths"][0],
        "URL-Expires": shared.json["expires"],
    }

    assert (await api.put(path, {"confirmed": False}, headers=headers)).status == 404


async def test_nobody_but_the_subscriber_confirms_where_confirmation_is_required(
    start_api: StartApi,
) -> None:
    api = await start_api(**CONFIRMING)
    path = f"{SUBSCRIPTIONS}/{await api.subscribe('q', HOOK)}"
    shared = (
        await api.post("/v2/queues/q/share", {"paths": ["subscriptions"], "methods": ["PUT"]})
    ).json
    above = {
        "URL-Signature": shared["signature"],
        "URL-Methods": "PUT",
        "URL-Paths": shared["paths"][0],
        "URL-Expires": shared["expires"],
        "X-Project-ID": shared["project"],
    }

    by_the_project = await api.put(f"{path}/confirm", {"confirmed": True})
    by_a_share = await api.put(f"{path}/confirm", {"confirmed": True}, headers=above)

    assert (by_the_project.status, by_a_share.status) == (403, 403)
    assert by_the_project.json["title"] == "Not authorized"
    assert (await api.get(path)).json["confirmed"] is False


async def test_a_link_confirms_nothing_for_another_subscriber(start_api: StartApi) -> None:
    """Otherwise the owner of one receiver could confirm in the name of any other."""
    api = await start_api(**CONFIRMING)
    path = f"{SUBSCRIPTIONS}/{await api.subscribe('q', HOOK)}"
    [payload] = await confirmations(api)
    headers = signed_headers(payload)

    await api.patch(path, {"subscriber": f"{HOOK}/victim"})
    reply = await api.put(f"{path}/confirm", {"confirmed": True}, headers=headers)

    assert reply.status == 403
    assert (await api.get(path)).json["confirmed"] is False
    _, asked = await confirmations(api)
    again = await api.put(f"{path}/confirm", {"confirmed": True}, headers=signed_headers(asked))
    assert again.status == 204


async def test_a_change_that_broke_off_before_it_asked_asks_when_it_is_repeated(
    start_api: StartApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = await start_api(**CONFIRMING)
    path = f"{SUBSCRIPTIONS}/{await api.subscribe('q', HOOK)}"
    change = {"subscriber": f"{HOOK}/2"}

    async def fail(*_: object, **__: object) -> None:
        raise StorageUnavailable("no answer")

    with monkeypatch.context() as away:
        away.setattr(api.service.storage.messages, "post", fail)
        assert (await api.patch(path, change)).status == 503
    assert (await api.patch(path, change)).status == 204

    assert len(await confirmations(api)) == 2


async def test_who_subscribes_again_after_it_was_disabled_gets_what_was_held(api: Api) -> None:
    subscription_id = await api.subscribe("q", HOOK)
    await disable(api, subscription_id)

    await api.subscribe("q", HOOK)

    assert not await is_disabled(api, subscription_id)
    assert await replays(api) == [subscription_id]


@pytest.mark.parametrize(
    ("path", "project", "left"),
    [
        (SUBSCRIPTIONS, PROJECT, 0),
        (SUBSCRIPTIONS, "another", 2),
        ("/v2/queues/another/subscriptions", PROJECT, 2),
    ],
)
async def test_held_and_undelivered_messages_are_deleted_with_their_subscription_by_its_project_only(
    api: Api, path: str, project: str, left: int
) -> None:
    subscription_id = await api.subscribe("q", HOOK)
    missed = [NewMessage(b"{}", 60)]
    now = api.service.clock.now()
    refs = (held_ref(subscription_id), undelivered_ref(subscription_id))
    for ref in refs:
        await api.service.storage.post(ref, InternalPost(missed), now=now)

    reply = await api.delete(f"{path}/{subscription_id}", headers={"X-Project-ID": project})

    assert reply.status == 204
    pages = [
        await api.service.storage.messages.page(ref, marker=None, limit=1, now=now) for ref in refs
    ]
    assert sum(len(page.messages) for page in pages) == left


async def test_a_subscriber_that_unsubscribes_gets_a_link_to_subscribe_again(
    start_api: StartApi,
) -> None:
    api = await start_api(**CONFIRMING)
    subscription_id = await api.subscribe("q", HOOK)

    await api.put(f"{SUBSCRIPTIONS}/{subscription_id}/confirm", {"confirmed": False})

    kinds = [payload["Message_Type"] for payload in await confirmations(api)]
    assert kinds == ["SubscriptionConfirmation", "UnsubscribeConfirmation"]


async def test_repeating_a_subscription_and_changing_its_subscriber_ask_again(
    start_api: StartApi,
) -> None:
    api = await start_api(**CONFIRMING)
    subscription_id = await api.subscribe("q", HOOK)

    await api.subscribe("q", HOOK)
    assert len(await confirmations(api)) == 2
    await api.patch(f"{SUBSCRIPTIONS}/{subscription_id}", {"ttl": 100})
    assert len(await confirmations(api)) == 2
    await api.patch(f"{SUBSCRIPTIONS}/{subscription_id}", {"subscriber": f"{HOOK}/2"})
    assert len(await confirmations(api)) == 3


async def test_changing_or_confirming_a_disabled_subscription_enables_it_and_replays(
    api: Api,
) -> None:
    subscription_id = await api.subscribe("q", HOOK)
    path = f"{SUBSCRIPTIONS}/{subscription_id}"

    await disable(api, subscription_id)
    await api.put(f"{path}/confirm", {"confirmed": False})
    assert await is_disabled(api, subscription_id)
    assert await replays(api) == []
    await api.put(f"{path}/confirm", {"confirmed": True})
    assert not await is_disabled(api, subscription_id)
    assert await replays(api) == [subscription_id]

    await disable(api, subscription_id)
    await api.patch(path, {"ttl": 100})
    assert not await is_disabled(api, subscription_id)
    assert await replays(api) == [subscription_id] * 2


async def test_a_post_leaves_one_job_with_the_body_as_it_was(api: Api) -> None:
    await api.subscribe("q", HOOK)

    await api.post(
        "/v2/queues/q/messages", body=b'{"messages": [{"body": {"n" : 1.0}, "ttl": 60}]}'
    )

    [job] = await works(api, outbox_ref(partition()))
    assert isinstance(job, FanOut)
    assert (job.project, job.queue, job.hops) == (PROJECT, "q", 0)
    assert job.request_id.startswith("req-")
    assert [bytes(message.body) for message in job.messages] == [b'{"n" : 1.0}']
    assert [message.delay for message in job.messages] == [None]


async def test_subscribers_of_a_delayed_queue_see_each_delay(start_api: StartApi) -> None:
    api = await start_api(notify_delayed_at_once=True)
    await api.put("/v2/queues/q", {"_default_message_delay": 5})
    await api.subscribe("q", HOOK)

    await api.post("/v2/queues/q/messages", {"messages": [{"body": 1}, {"body": 2, "delay": 0}]})

    [job] = await works(api, outbox_ref(partition()))
    assert [message.delay for message in job.messages] == [5, 0]


async def test_internal_queues_have_no_name_that_a_request_can_give(api: Api) -> None:
    await api.subscribe("q", HOOK)
    await api.post_bodies("q", 1)

    for project in ("", " "):
        reply = await api.get("/v2/queues/outbox.0/messages", headers={"X-Project-ID": project})
        assert reply.status == 400
    mine = await api.get("/v2/queues/outbox.0/messages?echo=true&include_claimed=true")
    assert mine.json["messages"] == []


async def test_the_signing_secret_can_be_rotated_and_the_former_one_stays_a_while(
    start_api: StartApi, clock: ManualClock
) -> None:
    api = await start_api(webhook_secret="master", webhook_secret_overlap_seconds=100)
    path = f"{SUBSCRIPTIONS}/{await api.subscribe('q', HOOK)}/secret"

    first = (await api.get(path)).json
    rotated = await api.post(path)
    during = (await api.get(path)).json
    clock.advance(seconds=100)
    afterwards = (await api.get(path)).json

    assert first["secret"].startswith("whsec_")
    assert first["former_secrets"] == []
    assert rotated.status == 200
    assert rotated.json == during
    assert during["secret"] != first["secret"]
    assert during["former_secrets"] == [first["secret"]]
    assert afterwards == {"secret": during["secret"], "former_secrets": []}


async def test_a_secret_rotated_twice_signs_until_its_own_overlap_ends(
    start_api: StartApi, clock: ManualClock
) -> None:
    api = await start_api(webhook_secret="master", webhook_secret_overlap_seconds=100)
    path = f"{SUBSCRIPTIONS}/{await api.subscribe('q', HOOK)}/secret"
    first = (await api.get(path)).json["secret"]

    second = (await api.post(path)).json["secret"]
    clock.advance(seconds=99)
    third = (await api.post(path)).json

    assert third["former_secrets"] == [second, first]
    clock.advance(seconds=1)
    assert (await api.get(path)).json["former_secrets"] == [second]
    clock.advance(seconds=99)
    assert (await api.get(path)).json["former_secrets"] == []


async def test_a_rotation_can_have_an_overlap_of_its_own(
    start_api: StartApi, clock: ManualClock
) -> None:
    api = await start_api(webhook_secret="master", webhook_secret_overlap_seconds=100)
    path = f"{SUBSCRIPTIONS}/{await api.subscribe('q', HOOK)}/secret"
    first = (await api.get(path)).json["secret"]

    second = (await api.post(path, {"overlap_seconds": 1000})).json["secret"]
    third = (await api.post(path, {"overlap_seconds": 0})).json

    assert third["former_secrets"] == [first]
    assert second not in third.values()
    clock.advance(seconds=1000)
    assert (await api.get(path)).json["former_secrets"] == []


async def test_a_client_can_give_the_secret_that_its_receiver_has(start_api: StartApi) -> None:
    api = await start_api(webhook_secret="master")
    path = f"{SUBSCRIPTIONS}/{await api.subscribe('q', HOOK)}/secret"
    first = (await api.get(path)).json["secret"]
    given = "whsec_" + "A" * 32

    reply = await api.post(path, {"secret": given, "overlap_seconds": 60})

    assert reply.json == {"secret": given, "former_secrets": [first]}
    assert (await api.get(path)).json == reply.json
    assert (await api.post(path, {"secret": "whsec_short"})).status == 400


@pytest.mark.parametrize("overlap", [-1, 2592001, "1", 1.5, True, [1]])
async def test_an_overlap_is_bounded(start_api: StartApi, overlap: object) -> None:
    api = await start_api(webhook_secret="master")
    path = f"{SUBSCRIPTIONS}/{await api.subscribe('q', HOOK)}/secret"

    reply = await api.post(path, {"overlap_seconds": overlap})

    assert reply.status == 400
    assert (
        "overlap_seconds must be an integer from 0 to 2592000 seconds" in reply.json["description"]
    )


async def test_the_public_key_follows_the_rotations_of_the_secret(start_api: StartApi) -> None:
    api = await start_api(webhook_secret="master")
    subscription = f"{SUBSCRIPTIONS}/{await api.subscribe('q', HOOK)}"
    path = f"{subscription}/public_key"

    first = (await api.get(path)).json
    await api.post(f"{subscription}/secret")
    second = (await api.get(path)).json

    assert first["public_key"].startswith("whpk_")
    assert first["former_public_keys"] == []
    assert second["public_key"] != first["public_key"]
    assert second["former_public_keys"] == [first["public_key"]]


@pytest.mark.parametrize(
    ("settings", "options", "named"),
    [
        ({}, {"_signature": "ed25519"}, "ZAQAR_WEBHOOK_SECRET is not set"),
        ({}, {"_delivery_format": "sns"}, "ZAQAR_WEBHOOK_SECRET is not set"),
        (
            {"webhook_secret": "m", "public_url": "http://mq.example"},
            {"_delivery_format": "sns"},
            "ZAQAR_PUBLIC_URL does not begin with it",
        ),
    ],
)
async def test_a_signature_that_the_service_can_t_make_is_refused(
    start_api: StartApi, settings: dict[str, Any], options: dict[str, Any], named: str
) -> None:
    api = await start_api(**settings)

    reply = await api.post(SUBSCRIPTIONS, {"subscriber": HOOK, "options": options})

    assert reply.status == 400
    assert named in reply.json["description"]


async def test_an_envelope_without_a_signature_of_sns_needs_no_settings(
    start_api: StartApi,
) -> None:
    api = await start_api(webhook_secret="m")
    options = {"_delivery_format": "sns", "_signature": "hmac"}

    assert (await api.post(SUBSCRIPTIONS, {"subscriber": HOOK, "options": options})).status == 201


async def test_anyone_may_read_a_certificate(start_api: StartApi) -> None:
    api = await start_api(webhook_secret="m", auth="token")
    key = await api.service.certificates.signing_key()
    path = f"/v2/certificates/{key.name}"

    reply = await api.call("GET", path, headers={"Client-ID": None, "X-Project-ID": None})

    assert (reply.status, reply.body) == (200, key.certificate)
    assert reply.headers["Content-Type"] == "application/pem-certificate-chain"
    assert (await api.call("GET", f"{path}x")).status == 404


async def test_secrets_that_sign_at_once_are_bounded(start_api: StartApi) -> None:
    api = await start_api(webhook_secret="master")
    path = f"{SUBSCRIPTIONS}/{await api.subscribe('q', HOOK)}/secret"

    statuses = [(await api.post(path)).status for _ in range(11)]

    assert statuses == [200] * 10 + [400]


async def test_without_a_master_key_there_is_no_secret(api: Api) -> None:
    path = f"{SUBSCRIPTIONS}/{await api.subscribe('q', HOOK)}/secret"

    for reply in (await api.get(path), await api.post(path)):
        assert reply.status == 404
        assert "ZAQAR_WEBHOOK_SECRET" in reply.json["description"]


async def test_what_was_given_up_can_be_read_page_by_page(api: Api, clock: ManualClock) -> None:
    subscription_id = await api.subscribe("q", HOOK)
    messages = [{"body": {"n": 1}}, {"body": {"n": 2}, "attributes": {"a": 1}}]
    posted = await api.post("/v2/queues/q/messages", {"messages": messages})
    ids = [href.rpartition("/")[2] for href in posted.json["resources"]]
    [job] = await works(api, outbox_ref(partition()))
    subscription = await api.service.storage.subscriptions.get(
        QueueRef(PROJECT, "q"), subscription_id, now=clock.now()
    )
    assert subscription is not None
    for parcel in outgoing_messages(job):
        outcome = Outcome(Verdict.REFUSED, status=404, detail="HTTP 404")
        ref, record = undelivered_record(
            parcel, subscription, outcome=outcome, attempts=1, now=clock.now()
        )
        await api.service.storage.post(ref, InternalPost([record]), now=clock.now())

    path = f"{SUBSCRIPTIONS}/{subscription_id}/undelivered"
    first = (await api.get(f"{path}?limit=1")).json
    second = (await api.get(first["links"][0]["href"])).json
    third = (await api.get(second["links"][0]["href"])).json

    [one] = first["undelivered"]
    assert {key: value for key, value in one.items() if key != "id"} == {
        "delivery_id": delivery_id(subscription_id, ids[0]),
        "message_id": ids[0],
        "verdict": "refused",
        "status": 404,
        "detail": "HTTP 404",
        "attempts": 1,
        "given_up_at": "2100-01-01T12:00:00Z",
        "payload": {
            "ttl": 3600,
            "body": {"n": 1},
            "Message_Type": "Notification",
            "queue_name": "q",
        },
    }
    [other] = second["undelivered"]
    assert other["message_id"] == ids[1]
    assert other["attributes"] == {"a": {"type": "Number", "value": 1}}
    assert third == {"undelivered": [], "links": []}


async def test_a_post_that_a_webhook_brings_counts_its_hops_on(api: Api) -> None:
    await api.subscribe("q", HOOK)
    document = {"messages": [{"body": 1}]}

    brought = await api.post("/v2/queues/q/messages", document, headers={"Zaqar-Hops": "4"})
    looping = await api.post("/v2/queues/q/messages", document, headers={"Zaqar-Hops": "5"})

    assert brought.status == 201
    assert (looping.status, looping.title) == (400, "Invalid API request")
    assert "loop" in looping.json["description"]
    [job] = await works(api, outbox_ref(partition()))
    assert isinstance(job, FanOut)
    assert job.hops == 4


@pytest.mark.parametrize("hops", ["-1", "x", "1.5", "9999", "\xb2"])
async def test_hops_that_are_no_number_are_refused(api: Api, hops: str) -> None:
    headers = {"Zaqar-Hops": hops}

    reply = await api.post("/v2/queues/q/messages", {"messages": [{"body": 1}]}, headers=headers)

    assert (reply.status, reply.title) == (400, "Invalid header value")


async def test_a_private_key_is_never_shown_and_a_mask_keeps_it(api: Api, tmp_path: Path) -> None:
    pem = made(tmp_path).read_text()
    begin = pem.index("-----BEGIN CERTIFICATE-----")
    own = {"certificate": pem[begin:], "key": pem[:begin]}
    body = {"subscriber": "https://example.org/hook", "options": {"_tls": own, "mine": 1}}
    created = await api.post(SUBSCRIPTIONS, body)
    path = f"{SUBSCRIPTIONS}/{created.json['subscription_id']}"

    shown = (await api.get(path)).json["options"]
    [listed] = (await api.get(SUBSCRIPTIONS)).json["subscriptions"]
    changed = await api.patch(path, {"options": shown | {"mine": 2}})

    assert listed["options"] == shown
    assert shown == {"_tls": own | {"key": MASK}, "mine": 1}
    assert changed.status == 204
    [stored] = await api.service.storage.subscriptions.list(
        QueueRef(PROJECT, "q"), marker=None, limit=1, now=api.service.clock.now()
    )
    assert stored.options == {"_tls": own, "mine": 2}


async def test_a_mask_without_a_secret_behind_it_is_refused(api: Api, tmp_path: Path) -> None:
    pem = made(tmp_path).read_text()
    certificate = pem[pem.index("-----BEGIN CERTIFICATE-----") :]
    options = {"_tls": {"certificate": certificate, "key": MASK}}
    answer = await api.post(SUBSCRIPTIONS, {"subscriber": HOOK, "options": options})

    assert answer.status == 400
    assert "_tls" in answer.json["description"]
