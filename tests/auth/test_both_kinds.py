"""Tenant tokens and Keystone's tokens at one service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.api.conftest import PROJECT, Api, CountingDoorbell, make_token, running
from tests.cloud import Cloud
from tests.kinds import KINDS
from tests.push.conftest import Client
from zaqar_notify.clock import SystemClock
from zaqar_notify.service import Service
from zaqar_notify.settings import Settings
from zaqar_notify.storage.registry import open_storage


@pytest.fixture
async def api(cloud: Cloud, tmp_path: Path) -> AsyncIterator[Api]:
    settings = Settings(**cloud.settings, auth="token,keystone")
    storage = await open_storage(f"sqlite://{tmp_path}/store.db")
    service = Service(storage, settings, SystemClock(), CountingDoorbell(), KINDS)
    try:
        async with running(service, keystone=cloud.validator()) as api:
            yield api
    finally:
        await storage.close()


async def test_the_prefix_decides_which_kind_a_token_is(api: Api, cloud: Cloud) -> None:
    user = cloud.keystone.user("member")
    of_keystone = {"X-Auth-Token": cloud.keystone.token(user), "X-Project-ID": None}
    of_tenant = {"Authorization": f"Bearer {await make_token(api)}", "X-Project-ID": None}

    for headers, queue in ((of_keystone, "k"), (of_tenant, "t")):
        assert (await api.put(f"/v2/queues/{queue}", headers=headers)).status == 201
        listed = (await api.get("/v2/queues", headers=headers)).json["queues"]
        assert [each["name"] for each in listed] == [queue]


async def test_beside_a_token_of_keystone_the_header_of_the_project_is_ignored(
    api: Api, cloud: Cloud
) -> None:
    token = cloud.keystone.token(cloud.keystone.user("member"))
    await api.put("/v2/queues/q", headers={"Authorization": f"Bearer {token}"})

    for project in (None, "another", ""):
        reply = await api.get(
            "/v2/queues", headers={"X-Auth-Token": token, "X-Project-ID": project}
        )
        assert [each["name"] for each in reply.json["queues"]] == ["q"]


@pytest.mark.parametrize("token", ["", "zqn_", "unknown"])
async def test_a_refusal_names_both_kinds(api: Api, cloud: Cloud, token: str) -> None:
    reply = await api.get("/v2/queues", headers={"X-Auth-Token": token})

    assert reply.status == 401
    assert reply.headers.getall("WWW-Authenticate") == [  # type: ignore[attr-defined]
        'Bearer realm="zaqar-notify"',
        f'Keystone uri="{cloud.keystone.url.removesuffix("/v3")}"',
    ]


async def test_with_keystone_stuck_known_tokens_and_those_of_tenants_go_on(
    api: Api, cloud: Cloud
) -> None:
    known = cloud.keystone.token(cloud.keystone.user("member"))
    tenant = await make_token(api)
    assert (await api.get("/v2/queues", headers={"X-Auth-Token": known})).status == 200

    cloud.keystone.pause()
    try:
        seen = {"X-Auth-Token": known}, {"X-Auth-Token": tenant}
        assert [(await api.get("/v2/queues", headers=each)).status for each in seen] == [200, 200]
    finally:
        cloud.keystone.go_on()


async def test_a_websocket_believes_tokens_of_both_kinds_and_no_project_of_a_frame(
    api: Api, cloud: Cloud
) -> None:
    user = cloud.keystone.user("member")
    of_keystone, of_tenant = cloud.keystone.token(user), await make_token(api)

    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"ws://127.0.0.1:{api.port}/") as socket,
    ):
        client = Client(socket)
        for token, project in ((of_keystone, user.project), (of_tenant, PROJECT)):
            proof = {"X-Auth-Token": token, "X-Project-ID": project}
            known = await client.ask("authenticate", headers=proof)
            own = await client.ask("queue_get", queue_name="q", headers={"X-Project-ID": project})
            other = await client.ask("queue_get", queue_name="q", headers={"X-Project-ID": "other"})

            assert [known.status, own.status, other.status] == [200, 200, 403]
        forged = await client.ask("authenticate", headers={"X-Auth-Token": "unknown"})

    assert (forged.status, forged.body) == (401, {"error": "Authentication failed."})
