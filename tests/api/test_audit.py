"""The audit: a record of each request to change something, with the caller and the outcome."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import PROJECT, Api, StartApi
from tests.api.surfaces import RESOURCES
from zaqar_notify.auth import Caller, Target
from zaqar_notify.auth.tokens import AskedToken, create
from zaqar_notify.settings import VERSIONS

SECRET = "whsec_dGhpcyBpcyBub3QgdG8gYmUgc2VlbiBhbnl3aGVyZQ"
WRITING = ("POST", "PUT", "PATCH", "DELETE")


class ReadOnly:
    def permits(self, caller: Caller, rule: str, target: Target) -> bool:
        return rule.endswith((":get", ":get_all"))


class Records:
    """The records of the audit so far."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    def all(self) -> list[dict[str, Any]]:
        return [vars(one) for one in self._caplog.records if vars(one).get("action") == "audit"]

    def outcomes(self) -> list[tuple[object, ...]]:
        names = ("how", "project", "rule", "queue", "status")
        return [tuple(each.get(name) for name in names) for each in self.all()]


@pytest.fixture
def records(caplog: pytest.LogCaptureFixture) -> Records:
    return Records(caplog)


@pytest.fixture
async def api(start_api: StartApi) -> Api:
    return await start_api(audit=True, admin_mode=True, versions=VERSIONS)


async def test_changes_are_recorded_and_reads_are_not(api: Api, records: Records) -> None:
    made = await api.put("/v2/queues/q")
    await api.post_bodies("q", 1)
    await api.get("/v2/queues/q/messages")
    await api.call("HEAD", "/v2/queues/q")
    await api.call("OPTIONS", "/v2/queues/q")

    assert records.outcomes() == [
        ("none", PROJECT, "queues:create", "q", 201),
        ("none", PROJECT, "messages:create", "q", 201),
    ]
    first = records.all()[0]
    assert first["request_id"] == made.headers["X-OpenStack-Request-Id"]
    assert (first["method"], first["path"]) == ("PUT", "/v2/queues/q")


async def test_refused_attempts_are_recorded(start_api: StartApi, records: Records) -> None:
    api = await start_api(audit=True, policy=ReadOnly())
    await api.put("/v2/queues/q")
    await api.put("/v2/queues/q", headers={"URL-Signature": "forged"})
    await api.put("/v2/queues/q", headers={"Client-ID": None})
    await api.put("/v2/queues/q/messages")

    assert [each["status"] for each in records.all()] == [403, 404, 400, 405]
    assert "project" not in records.all()[1]  # A forged signature proves no project.


async def test_every_changing_operation_of_every_surface_is_recorded(
    api: Api, records: Records
) -> None:
    asked = [
        (method, resource.path.replace("{", "").replace("}", ""), operation.rule)
        for resource in RESOURCES
        for method, operation in resource.operations.items()
        if method in WRITING
    ]
    for method, path, _ in asked:
        await api.call(method, path)

    recorded = [(each["method"], each["path"], each.get("rule")) for each in records.all()]
    assert recorded == asked


async def test_no_body_no_query_and_no_credential_is_recorded(
    api: Api, records: Records, caplog: pytest.LogCaptureFixture
) -> None:
    secrets = {"X-Auth-Token": SECRET, "Authorization": f"Bearer {SECRET}"}
    await api.post(
        f"/v2/queues/q/messages?seen={SECRET}", {"messages": [{"body": SECRET}]}, headers=secrets
    )
    await api.put("/v2/queues/q", {"note": SECRET}, headers={"URL-Signature": SECRET})

    assert len(records.all()) == 2
    assert not any(SECRET in str(vars(record)) for record in caplog.records)


async def test_a_client_can_not_make_a_record_long(api: Api, records: Records) -> None:
    await api.put(f"/v2/queues/{'q' * 60_000}")

    assert len(str(records.all()[0])) < 5_000


async def test_nothing_is_recorded_unless_it_is_set(start_api: StartApi, records: Records) -> None:
    api = await start_api()

    await api.put("/v2/queues/q")

    assert records.all() == []


async def test_a_token_is_recorded_by_its_id_and_a_forged_one_by_nothing(
    start_api: StartApi, records: Records, caplog: pytest.LogCaptureFixture
) -> None:
    api = await start_api(audit=True, auth="token")
    asked = AskedToken(PROJECT, "member", name="backend")
    made = await create(api.service.storage, asked, now=api.service.clock.now())

    await api.put("/v2/queues/q", headers={"X-Auth-Token": made.secret})
    await api.put("/v2/queues/q", headers={"X-Auth-Token": made.secret[:-1]})
    await api.put("/v2/queues/q")

    known, forged, absent = records.all()
    assert (known["how"], known["token_id"], known["status"]) == ("token", made.token.id, 201)
    for refused in (forged, absent):
        assert (refused["status"], refused["queue"]) == (401, "q")
        assert not {"how", "project", "token_id"} & refused.keys()
    assert not any(made.secret in str(vars(record)) for record in caplog.records)
