"""The pages behind the links of mails, and the addresses that have unsubscribed by them."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest

from tests.api.conftest import PROJECT, Api, StartApi, bearer, make_token
from tests.api.test_subscriptions import confirmations, signed_headers
from tests.clock import ManualClock
from zaqar_notify.delivery.links import Purpose, link_to
from zaqar_notify.models import JsonObject, QueueRef

URL = "https://mq.example.org"
MAILING: dict[str, Any] = {
    "require_confirmation": True,
    "signed_url_secrets": "first,second",
    "public_url": URL,
    "webhook_secret": "master",
    "smtp_host": "relay.example.org",
    "smtp_sender": "ops@example.org",
}
YOU = "mailto:you+news@example.org"
SUBSCRIPTIONS = "/v2/queues/q/subscriptions"


@pytest.fixture
async def mailing(start_api: StartApi) -> Api:
    return await start_api(**MAILING)


async def confirmed(api: Api, subscription_id: str) -> bool:
    return bool((await api.get(f"{SUBSCRIPTIONS}/{subscription_id}")).json["confirmed"])


async def link_to_confirm(api: Api) -> str:
    """The path of the link in the last request to confirm."""
    *_, payload = await confirmations(api)
    return str(payload["SubscribeURL"]).removeprefix(URL)


async def link_to_unsubscribe(
    api: Api, subscription_id: str, project: str = PROJECT, queue: str = "q"
) -> str:
    """The path of the link that the mails of a subscription have."""
    found = await api.service.storage.subscriptions.get(
        QueueRef(project, queue), subscription_id, now=api.service.clock.now()
    )
    assert found is not None
    return link_to(Purpose.UNSUBSCRIBE, found, api.service.settings).removeprefix(URL)


NOBODY: dict[str, str | None] = {"Client-ID": None, "X-Project-ID": None}
"""The headers of a person's browser: it has no account."""


async def visit(api: Api, path: str) -> Any:
    return await api.get(path, headers=NOBODY)


async def press(api: Api, path: str) -> Any:
    """Press the button of the page."""
    return await api.post(path, headers=NOBODY)


async def one_click(api: Api, path: str) -> Any:
    """As a provider of mailboxes does it for its user (RFC 8058)."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    return await api.post(path, body=b"List-Unsubscribe=One-Click", headers=NOBODY | form)


async def test_a_link_confirms_by_the_button_and_not_by_being_opened(mailing: Api) -> None:
    subscription_id = await mailing.subscribe("q", YOU)
    link = await link_to_confirm(mailing)

    opened = [await visit(mailing, link) for _ in range(2)]
    head = await mailing.call("HEAD", link, headers=NOBODY)
    before = await confirmed(mailing, subscription_id)
    pressed = await press(mailing, link)

    assert [page.status for page in (*opened, head)] == [200] * 3
    assert before is False
    assert pressed.status == 200
    assert await confirmed(mailing, subscription_id) is True


@pytest.mark.parametrize(
    ("options", "method", "confirms"),
    [
        ({}, "GET", False),
        ({}, "POST", True),
        ({"_delivery_format": "sns"}, "HEAD", False),
        ({"_delivery_format": "sns"}, "GET", True),
    ],
)
async def test_a_webhook_confirms_by_a_post_and_one_with_sns_s_envelopes_by_a_get(
    mailing: Api, options: JsonObject, method: str, confirms: bool
) -> None:
    subscription_id = await mailing.subscribe("q", "https://example.org/hook", options=options)

    reply = await mailing.call(method, await link_to_confirm(mailing), headers=NOBODY)

    assert reply.status == 200
    assert await confirmed(mailing, subscription_id) is confirms


async def test_a_webhook_that_unsubscribes_by_its_link_is_disabled_and_keeps_what_it_is_owed(
    mailing: Api,
) -> None:
    subscription_id = await mailing.subscribe("q", "http://example.org/hook")
    link = await link_to_unsubscribe(mailing, subscription_id)
    path = f"{SUBSCRIPTIONS}/{subscription_id}"

    opened = await visit(mailing, link)
    before = (await mailing.get(path)).json
    pressed = await press(mailing, link)
    after = (await mailing.get(path)).json

    assert (opened.status, pressed.status) == (200, 200)
    assert "disabled" not in before
    assert after["disabled"]["reason"] == "gone"
    assert after["disabled"]["detail"] == "unsubscribed by its link"
    suppressed = (await mailing.get("/v2/suppressions")).json["suppressions"]
    assert suppressed == []


async def test_a_page_says_what_it_is_about_in_words(mailing: Api) -> None:
    await mailing.subscribe("q", YOU)

    page = (await visit(mailing, await link_to_confirm(mailing))).body.decode()

    assert "Messages of the queue q of the project p1 will then be sent to y…@example.org." in page
    assert '<html lang="en">' in page
    assert re.findall(r"<h1>(.*)</h1>", page) == re.findall(r"<title>(.*)</title>", page)
    assert re.findall(r"<button>(.*)</button>", page) == ["Confirm"]


async def test_a_page_loads_nothing_runs_nothing_and_tells_nobody_its_address(
    mailing: Api,
) -> None:
    await mailing.subscribe("q", YOU)

    reply = await visit(mailing, await link_to_confirm(mailing))

    policy = reply.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert reply.headers["Referrer-Policy"] == "no-referrer"
    assert reply.headers["Cache-Control"] == "no-store"
    assert b"<script" not in reply.body
    assert b"http" not in reply.body


async def test_the_names_of_a_tenant_are_no_markup_and_no_message(mailing: Api) -> None:
    project = '<img src=x onerror="alert(1)">You won'
    reply = await mailing.post(
        SUBSCRIPTIONS, {"subscriber": YOU}, headers={"X-Project-ID": project}
    )
    link = await link_to_unsubscribe(mailing, reply.json["subscription_id"], project)

    pages = [await visit(mailing, link), await press(mailing, link)]

    assert [page.status for page in pages] == [200, 200]
    assert not [page for page in pages if b"<img" in page.body or b"You won" in page.body]


async def test_a_link_that_does_not_count_changes_nothing_and_says_so(
    mailing: Api, clock: ManualClock
) -> None:
    subscription_id = await mailing.subscribe("q", YOU, ttl=60)
    link = await link_to_confirm(mailing)
    token = link.partition("token=")[2]
    unsubscribe = (await link_to_unsubscribe(mailing, subscription_id)).partition("token=")[2]

    useless = [
        "/v2/confirm",
        "/v2/confirm?token=",
        f"/v2/confirm?token={token[:-3]}AAA",
        f"/v2/confirm?token={unsubscribe}",
        f"/v2/unsubscribe?token={token}",
    ]
    replies = [await visit(mailing, path) for path in useless]
    replies += [await press(mailing, path) for path in useless]

    assert {reply.status for reply in replies} == {404}
    assert all(b"does not work any more" in reply.body for reply in replies)
    assert await confirmed(mailing, subscription_id) is False
    assert (await mailing.get("/v2/suppressions")).json["suppressions"] == []


async def test_a_link_ends_with_the_subscription_and_with_a_change_of_its_subscriber(
    mailing: Api, clock: ManualClock
) -> None:
    changed = await mailing.subscribe("q", YOU, ttl=60)
    of_changed = await link_to_confirm(mailing)
    ended = await mailing.subscribe("q", "mailto:other@example.org", ttl=60)
    of_ended = await link_to_unsubscribe(mailing, ended)
    await mailing.patch(f"{SUBSCRIPTIONS}/{changed}", {"subscriber": "mailto:victim@example.org"})
    at_first = await visit(mailing, of_ended)
    clock.advance(seconds=60)

    replies = [await press(mailing, link) for link in (of_changed, of_ended)]

    assert at_first.status == 200
    assert [reply.status for reply in replies] == [404, 404]
    assert (await mailing.get("/v2/suppressions")).json["suppressions"] == []


async def test_one_click_unsubscribes_from_the_project_and_from_no_other(mailing: Api) -> None:
    subscription_id = await mailing.subscribe("q", YOU)
    await press(mailing, await link_to_confirm(mailing))
    link = await link_to_unsubscribe(mailing, subscription_id)

    opened = await visit(mailing, link)
    before = await confirmed(mailing, subscription_id)
    reply = await one_click(mailing, link)

    assert opened.status == 200
    assert before is True
    assert reply.status == 200
    assert await confirmed(mailing, subscription_id) is False
    [shown] = (await mailing.get("/v2/suppressions")).json["suppressions"]
    assert shown["subscriber"] == "mailto:@example.org"
    assert (shown["source"], shown["subscription_id"]) == ("q", subscription_id)
    others = await mailing.get("/v2/suppressions", headers={"X-Project-ID": "p2"})
    assert others.json["suppressions"] == []


async def test_whoever_unsubscribed_by_mistake_comes_back_by_the_next_button(
    mailing: Api,
) -> None:
    subscription_id = await mailing.subscribe("q", YOU)
    page = await press(mailing, await link_to_unsubscribe(mailing, subscription_id))
    [target] = re.findall('action="([^"]+)"', page.body.decode())

    back = await press(mailing, f"/v2/{unescape(target)}")

    assert back.status == 200
    assert await confirmed(mailing, subscription_id) is True
    assert (await mailing.get("/v2/suppressions")).json["suppressions"] == []


async def test_zaqars_signed_confirmation_brings_an_addressee_back(mailing: Api) -> None:
    path = f"{SUBSCRIPTIONS}/{await mailing.subscribe('q', YOU)}"
    *_, payload = await confirmations(mailing)
    await press(mailing, await link_to_unsubscribe(mailing, path.rpartition("/")[2]))

    reply = await mailing.put(
        f"{path}/confirm", payload["SubscribeBody"], headers=signed_headers(payload)
    )

    assert reply.status == 204
    assert (await mailing.get("/v2/suppressions")).json["suppressions"] == []


async def test_a_tenant_s_own_confirmation_brings_nobody_back(start_api: StartApi) -> None:
    api = await start_api(**MAILING | {"require_confirmation": False})
    path = f"{SUBSCRIPTIONS}/{await api.subscribe('q', YOU)}"
    await press(api, await link_to_unsubscribe(api, path.rpartition("/")[2]))

    reply = await api.put(f"{path}/confirm", {"confirmed": True})

    assert reply.status == 204
    assert len((await api.get("/v2/suppressions")).json["suppressions"]) == 1


async def test_a_tenant_learns_that_the_address_it_subscribes_has_unsubscribed(
    mailing: Api,
) -> None:
    subscription_id = await mailing.subscribe("q", YOU)
    await press(mailing, await link_to_unsubscribe(mailing, subscription_id))

    again = await mailing.post(
        "/v2/queues/r/subscriptions", {"subscriber": "mailto:You@Example.org"}
    )
    other = await mailing.post(
        "/v2/queues/r/subscriptions", {"subscriber": "mailto:me@example.org"}
    )

    assert again.status == 201
    assert "has unsubscribed" in again.headers["Warning"]
    assert "Warning" not in other.headers


async def test_a_suppression_is_found_by_its_address_and_removed_by_its_id(mailing: Api) -> None:
    for name in ("a", "b", "c"):
        subscription_id = await mailing.subscribe("q", f"mailto:{name}@example.org")
        await press(mailing, await link_to_unsubscribe(mailing, subscription_id))
    first = (await mailing.get("/v2/suppressions?limit=2")).json
    second = (await mailing.get(first["links"][0]["href"])).json
    listed = [*first["suppressions"], *second["suppressions"]]
    found = (await mailing.get("/v2/suppressions?subscriber=mailto:B@example.org")).json
    [one] = found["suppressions"]
    behind = (await mailing.get(found["links"][0]["href"])).json

    foreign = await mailing.delete(f"/v2/suppressions/{one['id']}", headers={"X-Project-ID": "p2"})
    still = len((await mailing.get("/v2/suppressions")).json["suppressions"])
    removed = [await mailing.delete(f"/v2/suppressions/{one['id']}") for _ in range(2)]

    assert len(listed) == 3
    assert one in listed
    assert behind == {"suppressions": [], "links": []}
    assert (foreign.status, still) == (204, 3)
    assert [reply.status for reply in removed] == [204, 204]
    assert one not in (await mailing.get("/v2/suppressions")).json["suppressions"]


@pytest.mark.parametrize("subscriber", ["https://example.org", "x"])
async def test_only_persons_unsubscribe(mailing: Api, subscriber: str) -> None:
    reply = await mailing.get(f"/v2/suppressions?subscriber={subscriber}")

    assert (reply.status, reply.title) == (400, "Invalid API request")


async def test_a_token_of_some_queues_reaches_no_suppressions(start_api: StartApi) -> None:
    api = await start_api(**MAILING, auth="token")
    headers = bearer(await make_token(api, queue="q", scope="admin"))
    reader = bearer(await make_token(api, scope="reader"))

    replies = [
        await api.get("/v2/suppressions", headers=headers),
        await api.delete("/v2/suppressions/1", headers=headers),
        await api.delete("/v2/suppressions/1", headers=reader),
    ]

    assert [reply.status for reply in replies] == [403] * 3
    assert (await api.get("/v2/suppressions", headers=reader)).status == 200
