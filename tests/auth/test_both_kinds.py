"""Tenant tokens and Keystone's tokens at one service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api.conftest import Api, CountingDoorbell, make_token, running
from tests.cloud import Cloud
from tests.kinds import KINDS
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
