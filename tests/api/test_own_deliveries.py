"""Deliveries that come back to the API, by any way, speak for no project."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network

import pytest

from sinks.guard import AddressGuard
from sinks.webhook import WebhookSink
from tests.api.conftest import Api, StartApi, make_token
from tests.sinks.builders import delivery_to
from zaqar_notify.delivery.installation import installation_mark
from zaqar_notify.models import MessageType, Outcome
from zaqar_notify.settings import Settings

ALLOW = (ip_network("127.0.0.0/8"),)


async def delivered(
    api: Api,
    path: str,
    post_headers: Mapping[str, str],
    *,
    kind: MessageType = MessageType.NOTIFICATION,
) -> Outcome:
    """The delivery of a subscription to our own API that was stored before such headers were refused.

    The API was reached by an address that the worker's guard knows nothing of.
    """
    sink = WebhookSink(api.service.settings, AddressGuard(allow=ALLOW))
    options = {"post_headers": dict(post_headers)}
    try:
        return await sink.deliver(delivery_to(api.url + path, options=options, kind=kind))
    finally:
        await sink.close()


@pytest.mark.parametrize(
    "path",
    [
        "/v2/queues/q/messages",
        "/v2/queues/q/purge",
        "/v2/queues/q/claims",
        "/healthz",
        "/metrics",
        "/docs",
        "/openapi.json",
        "/nowhere",
    ],
)
@pytest.mark.parametrize("kind", list(MessageType))
async def test_a_delivery_to_our_own_api_is_refused(
    start_api: StartApi, path: str, kind: MessageType
) -> None:
    api = await start_api(webhook_secret="master")

    outcome = await delivered(api, path, {"zaqar_installation": "none"}, kind=kind)

    assert outcome.status == 403


@pytest.mark.parametrize("name", ["X-Project-ID", "x_project_id", "X-TENANT-ID"])
async def test_no_delivery_reads_or_forges_for_another_project(
    start_api: StartApi, name: str
) -> None:
    api = await start_api(webhook_secret="master")
    secret = {"messages": [{"body": "secret"}]}
    await api.post("/v2/queues/q/messages", secret, headers={"X-Project-ID": "victim"})

    for headers in ({}, {"X-Auth-Token": "t"}):
        asked = {name: "victim", "Client-ID": "1" * 32, **headers}
        outcome = await delivered(api, "/v2/queues/q/claims", asked)
        assert outcome.status in (400, 403)
        assert "secret" not in outcome.detail


async def test_the_mark_is_of_no_use_to_others(start_api: StartApi) -> None:
    api = await start_api(webhook_secret="master")
    mark = installation_mark(Settings(webhook_secret="other"))

    theirs = await api.get("/v2/queues", headers={"Zaqar-Installation": mark})
    ours = await api.get(
        "/v2/queues", headers={"Zaqar-Installation": installation_mark(api.service.settings)}
    )

    assert theirs.status == 200
    assert (ours.status, ours.title) == (403, "Not authorized")
    assert "queue:NAME" in ours.json["description"]


@pytest.mark.parametrize(("auth", "status"), [("token", 200), ("none", 403)])
async def test_a_marked_request_needs_a_token_that_was_verified(
    start_api: StartApi, auth: str, status: int
) -> None:
    api = await start_api(webhook_secret="master", auth=auth)
    mark = installation_mark(api.service.settings)
    token = await make_token(api)

    reply = await api.get("/v2/queues", headers={"Zaqar-Installation": mark, "X-Auth-Token": token})

    assert reply.status == status
