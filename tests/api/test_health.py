"""Whether the process lives, is ready, and how its store is doing."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from tests.api.conftest import Api, StartApi
from tests.pools import keep
from zaqar_notify import health as health_module
from zaqar_notify import readiness
from zaqar_notify.errors import StorageLeaderless, StorageUnavailable
from zaqar_notify.models import INTERNAL_PROJECT

NOBODY = {"Client-ID": None, "X-Project-ID": None}
OPERATIONS = [
    "create_queue",
    "post_messages",
    "claim_messages",
    "list_messages",
    "delete_claim",
    "delete_messages",
    "bulk_delete_messages",
    "delete_queue",
]


class Counted:
    """Counts the posts to a store, and fails them when told to."""

    def __init__(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        self.again = asyncio.Event()
        self.fails = False
        messages = api.service.storage.messages
        post = messages.post

        async def counted(*args: object, **kwargs: object) -> object:
            self.calls += 1
            if self.calls > 1:
                self.again.set()
            if self.fails:
                raise StorageUnavailable("The disk that holds the database is full")
            return await post(*args, **kwargs)  # type: ignore[arg-type]

        monkeypatch.setattr(messages, "post", counted)


async def test_a_process_is_alive_and_ready_without_any_header(api: Api) -> None:
    alive = await api.get("/healthz", headers=NOBODY)
    ready = await api.get("/readyz", headers=NOBODY)

    assert (alive.status, alive.body) == (204, b"")
    assert (ready.status, ready.json) == (200, {"ready": True})


async def test_a_process_whose_store_is_away_is_alive_and_not_ready(api: Api) -> None:
    await api.service.storage.close()

    alive = await api.get("/healthz", headers=NOBODY)
    ready = await api.get("/readyz", headers=NOBODY)

    assert alive.status == 204
    assert ready.status == 503
    assert ready.json["description"].startswith("The store gave no answer.")


async def test_why_the_store_fails_is_in_the_log_and_not_in_the_answer(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    posts = Counted(api, monkeypatch)
    posts.fails = True
    monkeypatch.setattr(health_module, "LOG_PAUSE_SECONDS", 3600)

    replies = [
        await api.post("/v2/queues/q/messages", {"messages": [{"body": n}]}) for n in range(5)
    ]

    assert [reply.status for reply in replies] == [503] * 5
    assert b"disk" not in replies[0].body
    [record] = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert vars(record)["action"] == "storage_unavailable"
    assert vars(record)["error"] == "The disk that holds the database is full"

    posts.fails = False
    for _ in range(2):
        await api.post("/v2/queues/q/messages", {"messages": [{"body": 1}]})
    assert [vars(each).get("action") for each in caplog.records][1:] == ["storage_available"]


async def test_a_store_that_is_silent_is_not_waited_for(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = asyncio.Event()
    monkeypatch.setattr(api.service.storage, "prove", never.wait)
    monkeypatch.setattr(readiness, "ANSWER_SECONDS", 0.01)

    assert (await api.get("/readyz", headers=NOBODY)).status == 503


class Proofs:
    """Counts the proofs that a store takes writes; fails them with `failure`, while there is one."""

    def __init__(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.failure: StorageUnavailable | None = None
        prove = api.service.storage.prove

        async def counted() -> None:
            self.count += 1
            if self.failure is not None:
                raise self.failure
            await prove()

        monkeypatch.setattr(api.service.storage, "prove", counted)


async def test_all_who_ask_share_one_small_write(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    proofs = Proofs(api, monkeypatch)

    together = await asyncio.gather(*(api.get("/readyz", headers=NOBODY) for _ in range(20)))
    shown = await api.get("/metrics", headers=NOBODY)

    assert {reply.status for reply in together} == {200}
    assert b"zaqar_notify_store_up 1.0" in shown.body
    assert proofs.count == 1


async def test_a_store_that_reads_and_does_not_write_is_not_ready_until_it_does(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "READY_SECONDS", 0)
    proofs = Proofs(api, monkeypatch)
    proofs.failure = StorageLeaderless("No majority has acknowledged a write: host3:27017")

    refused = await api.get("/readyz", headers=NOBODY)
    shown = await api.get("/metrics", headers=NOBODY)
    proofs.failure = None
    healed = await api.get("/readyz", headers=NOBODY)

    assert refused.status == 503
    assert "no primary or no majority" in refused.json["description"]
    assert "host3" not in refused.json["description"]
    assert b"zaqar_notify_store_up 0.0" in shown.body
    assert healed.status == 200


async def test_a_process_that_is_about_to_stop_is_not_ready(api: Api) -> None:
    api.service.health.is_draining = True

    ready = await api.get("/readyz", headers=NOBODY)

    assert ready.status == 503
    assert "is stopping" in ready.json["description"]


async def test_health_is_not_there_unless_the_operator_says_so(api: Api) -> None:
    assert (await api.get("/v2/health")).status == 404
    assert (await api.get("/v2/health", headers=NOBODY)).status == 404
    assert "/v2/health" not in (await api.get("/openapi.json")).json["paths"]


async def test_health_has_the_contract_s_form_and_asks_for_identity(start_api: StartApi) -> None:
    api = await start_api(admin_mode=True)

    shown = (await api.get("/v2/health")).json

    assert shown["storage_reachable"] is True
    assert list(shown["operation_status"]) == OPERATIONS
    for operation in shown["operation_status"].values():
        assert operation["succeeded"] is True
        assert operation["ref"] is None
        assert 0 <= operation["seconds"] < 10
    assert (await api.get("/v2/health", headers=NOBODY)).status == 400


async def test_the_store_is_tried_out_once_however_often_somebody_asks(
    start_api: StartApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = await start_api(admin_mode=True)
    posts = Counted(api, monkeypatch)

    shown = [(await api.get("/v2/health")).json["operation_status"] for _ in range(5)]

    assert posts.calls == 1
    assert all(status == shown[0] for status in shown)


async def test_the_store_is_tried_out_again_when_the_last_time_is_long_ago(
    start_api: StartApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = await start_api(admin_mode=True)
    posts = Counted(api, monkeypatch)
    monkeypatch.setattr(health_module, "PROBE_SECONDS", 0.0)

    await api.get("/v2/health")
    await api.get("/v2/health")

    async with asyncio.timeout(10):
        await posts.again.wait()


async def test_trying_out_the_store_leaves_nothing_behind(start_api: StartApi) -> None:
    api = await start_api(admin_mode=True)

    await api.get("/v2/health")

    assert await api.service.storage.queues.count(INTERNAL_PROJECT) == 0


async def test_a_failed_operation_is_named_and_found_in_the_log(
    start_api: StartApi, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    api = await start_api(admin_mode=True)
    Counted(api, monkeypatch).fails = True

    status = (await api.get("/v2/health")).json["operation_status"]

    assert list(status) == ["create_queue", "post_messages"]
    assert status["post_messages"]["succeeded"] is False
    [record] = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert vars(record)["ref"] == status["post_messages"]["ref"]
    assert vars(record)["operation"] == "post_messages"


async def test_a_store_that_is_away_is_said_to_be(start_api: StartApi) -> None:
    api = await start_api(admin_mode=True)
    await api.service.storage.close()

    shown = await api.get("/v2/health")

    assert shown.status == 200
    assert shown.json["storage_reachable"] is False
    assert shown.json["operation_status"]["create_queue"]["succeeded"] is False


async def test_health_counts_the_messages_of_all_queues(start_api: StartApi) -> None:
    """As Zaqar's own test of it."""
    api = await start_api(admin_mode=True)
    await api.post_bodies("q", 239, {"key": "value"})
    await api.post("/v2/queues/q/claims", {"ttl": 100, "grace": 300})
    await api.post_bodies("other", 1)

    shown = (await api.get("/v2/health")).json

    assert shown["message_volume"] == {"free": 1, "claimed": 2, "total": 3}


async def test_messages_are_counted_again_after_many_times_as_long_as_a_count_takes(
    start_api: StartApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_module, "PROBE_SECONDS", 0.0)
    monkeypatch.setattr(health_module, "STALE_SECONDS", 0.0)
    monkeypatch.setattr(health_module, "PAUSE_PER_COUNT", 0.0)
    api = await start_api(admin_mode=True)

    before = (await api.get("/v2/health")).json["message_volume"]["total"]
    await api.post_bodies("q", 1)
    monkeypatch.setattr(health_module, "PAUSE_PER_COUNT", 1e9)
    counted = (await api.get("/v2/health")).json["message_volume"]["total"]
    await api.post_bodies("q", 2)
    kept = (await api.get("/v2/health")).json["message_volume"]["total"]

    assert (before, counted, kept) == (0, 1, 1)


async def test_health_shows_each_pool_and_which_is_away(
    start_api: StartApi, tmp_path: Path
) -> None:
    api = await start_api(admin_mode=True)
    uri = f"sqlite://{tmp_path}/p1.db"
    await api.put("/v2/pools/p1", {"uri": uri, "weight": 1})
    await keep(api.service.storage, "p2", "mysql://host/db", weight=0)
    await api.post_bodies("q", 1)
    await api.service.storage.open_pools.look()

    shown = (await api.get("/v2/health")).json

    assert set(shown) == {"catalog_reachable", "default", "p1", "p2"}
    assert shown["catalog_reachable"] is True
    assert {name: shown[name]["storage_reachable"] for name in ("default", "p1", "p2")} == {
        "default": True,
        "p1": True,
        "p2": False,
    }
    assert list(shown["p1"]["operation_status"]) == OPERATIONS
    assert all(one["succeeded"] for one in shown["p1"]["operation_status"].values())
    assert shown["p1"]["message_volume"] == {"free": 1, "claimed": 0, "total": 1}
    assert shown["default"]["message_volume"]["total"] == 0
    assert shown["p2"]["operation_status"] == {}


async def test_a_catalog_that_is_away_is_said_to_be(start_api: StartApi, tmp_path: Path) -> None:
    api = await start_api(admin_mode=True)
    await api.put("/v2/pools/p1", {"uri": f"sqlite://{tmp_path}/p1.db", "weight": 1})
    await api.service.storage.control.close()

    shown = await api.get("/v2/health")

    assert shown.status == 200
    assert shown.json["catalog_reachable"] is False
    assert shown.json["p1"]["storage_reachable"] is True
