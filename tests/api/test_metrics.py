"""Metrics count events, and name no project, no queue and no subscriber."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping

import aiohttp
import pytest

from tests.api.conftest import PROJECT, Api, StartApi
from tests.clock import ManualClock
from tests.partitions import partition
from tests.samples import Samples
from tests.service import free_port
from zaqar_notify import readiness
from zaqar_notify.confirmations import DELAYS_SECONDS
from zaqar_notify.delivery import OWED_TTL_SECONDS, InternalPost
from zaqar_notify.delivery import backlog as backlog_module
from zaqar_notify.delivery.backlog import Backlog
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.metrics import METHODS, DeliveryCounts
from zaqar_notify.models import NewMessage, QueueRef
from zaqar_notify.operations.metrics_port import serving_metrics
from zaqar_notify.storage.internal import POISON_REF, held_ref, outbox_ref, parked_ref, retry_ref

NOBODY = {"Client-ID": None, "X-Project-ID": None}
MESSAGES = "/v2/queues/{queue_name}/messages"


async def scrape(api: Api) -> Samples:
    reply = await api.get("/metrics", headers=NOBODY)
    assert reply.status == 200
    assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return Samples(reply.body.decode())


class Engine:
    """The status that a delivery engine reports."""

    troubles: Mapping[str, int] = {"mailto": 1, "http": 0}
    in_flight = 3
    in_hand = 4


def count_deliveries(counts: DeliveryCounts) -> None:
    counts.tries.update({("http", "delivered"): 7, ("http", "try_later"): 2, ("ftp", "refused"): 1})
    counts.written["retry"] += 2
    counts.dropped["gone"] += 1


class Bell:
    def __init__(self) -> None:
        self.is_heard = False
        self.counts = Counter({"sent": 5, "dropped": 1})


async def store(api: Api, ref: QueueRef, *, delay: int = 0) -> None:
    record = NewMessage(b"{}", ttl=OWED_TTL_SECONDS + delay, delay=delay)
    storage, clock = api.service.storage, api.service.clock
    await storage.post(ref, InternalPost([record]), now=clock.now())


async def test_requests_are_counted_by_route_method_and_status(api: Api) -> None:
    await api.post_bodies("q", 1)
    await api.post_bodies("other", 1)
    await api.post("/v2/queues/q/messages", {"messages": []})

    samples = await scrape(api)

    assert samples("requests_total", route=MESSAGES, method="POST", status="201") == 2
    assert samples("requests_total", route=MESSAGES, method="POST", status="400") == 1
    assert samples("request_seconds_count", route=MESSAGES, method="POST") == 3
    assert samples("request_seconds_bucket", route=MESSAGES, method="POST", le="+Inf") == 3
    took = samples("request_seconds_sum", route=MESSAGES, method="POST")
    assert took is not None
    assert 0 < took < 3


async def test_deliveries_that_waited_for_a_removed_subscription_are_counted_and_logged(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    path = "/v2/queues/q/subscriptions"
    subscriber = {"subscriber": "http://receiver.example.org/", "ttl": 600}
    subscription_id = (await api.post(path, subscriber)).json["subscription_id"]
    await store(api, held_ref(subscription_id))
    await store(api, parked_ref(subscription_id))

    await api.delete(f"{path}/{subscription_id}")

    samples = await scrape(api)
    assert samples("deliveries_dropped_total", reason="gone") == 2
    [record] = [one for one in caplog.records if one.__dict__.get("action") == "deliveries_dropped"]
    assert record.__dict__["count"] == 2
    assert record.__dict__["subscription_id"] == subscription_id


async def test_no_names_of_tenants_are_shown_and_labels_are_bounded(api: Api) -> None:
    await api.post_bodies("a-private-queue", 1)
    await api.get("/a-private-path")
    await api.call("BREW", "/v2/queues/q/messages")
    await api.call("BREW", "/a-private-path")

    reply = await api.get("/metrics", headers=NOBODY)
    samples = Samples(reply.body.decode())

    assert b"private" not in reply.body
    assert PROJECT not in samples.labels("route")
    assert samples.labels("method") <= METHODS | {"other"}
    assert samples("requests_total", route="other", method="GET", status="404") == 1


async def test_a_long_poll_is_counted_and_not_timed(api: Api) -> None:
    await api.put("/v2/queues/q")

    await api.get("/v2/queues/q/messages?wait=1")

    samples = await scrape(api)
    assert samples("requests_total", route=MESSAGES, method="GET", status="200") == 1
    assert samples("request_seconds_count", route=MESSAGES, method="GET") == 0


async def test_posts_and_claims_are_counted_with_their_messages(api: Api) -> None:
    await api.post_bodies("q", 1, 2, 3)
    await api.post_bodies("q", 4)
    await api.post("/v2/queues/q/claims", {"limit": 3})
    await api.post("/v2/queues/nothing-here/claims")

    samples = await scrape(api)

    assert samples("posts_total") == 2
    assert samples("messages_posted_total") == 4
    assert samples("claims_total") == 1
    assert samples("messages_claimed_total") == 3


async def test_confirmation_mails_that_are_withheld_are_counted(start_api: StartApi) -> None:
    api = await start_api(
        smtp_host="mail.example.org",
        smtp_sender="ops@example.org",
        require_confirmation=True,
        signed_url_secrets="secret",
    )
    before = await scrape(api)
    for _ in range(len(DELAYS_SECONDS) + 2):
        await api.post(
            "/v2/queues/q/subscriptions", {"subscriber": "mailto:a@example.org", "ttl": 86400}
        )

    samples = await scrape(api)

    assert before("confirmations_withheld_total") == 0
    assert samples("confirmations_withheld_total") == 2


async def test_an_engine_s_tries_are_shown_by_scheme_and_verdict(api: Api) -> None:
    without = await scrape(api)
    api.service.metrics.engine = Engine()
    count_deliveries(api.service.metrics.deliveries)

    samples = await scrape(api)

    assert without("tries_in_flight") is None
    assert samples("tries_total", scheme="http", verdict="delivered") == 7
    assert samples("tries_total", scheme="http", verdict="try_later") == 2
    assert samples("tries_total", scheme="other", verdict="refused") == 1
    assert samples("deliveries_written_total", queue="retry") == 2
    assert samples("deliveries_dropped_total", reason="gone") == 1
    assert (samples("troubles", scheme="mailto"), samples("troubles", scheme="http")) == (1, 0)
    assert (samples("tries_in_flight"), samples("jobs_in_hand")) == (3, 4)


async def test_a_broker_s_state_is_shown_where_there_is_one(api: Api) -> None:
    without = await scrape(api)
    api.service.metrics.broker = Bell()

    samples = await scrape(api)

    assert without("broker_up") is None
    assert samples("broker_up") == 0
    assert samples("rings_total", result="dropped") == 1


async def test_what_is_owed_is_shown_with_how_long_it_has_been_due(
    start_api: StartApi, clock: ManualClock
) -> None:
    api = await start_api(delivery_partitions=2)
    await store(api, outbox_ref(partition(1)))
    await store(api, retry_ref(partition()), delay=30)
    await store(api, POISON_REF)
    for subscription_id in ("one", "another"):
        await store(api, parked_ref(subscription_id))
    await store(api, held_ref("one"))
    clock.advance(seconds=100)

    samples = await scrape(api)

    assert samples("owed", queue="outbox", partition="0") == 0
    assert samples("owed", queue="outbox", partition="1") == 1
    assert samples("owed_overdue_seconds", queue="outbox", partition="1") == 100
    assert samples("owed_overdue_seconds", queue="retry", partition="0") == 70
    assert samples("waiting", queue="parked") == 2
    assert samples("waiting", queue="held") == 1
    assert samples("poison") == 1
    assert samples("store_up") == 1


async def test_what_is_not_due_yet_is_owed_and_not_overdue(api: Api) -> None:
    await store(api, retry_ref(partition()), delay=30)

    samples = await scrape(api)

    assert samples("owed", queue="retry", partition="0") == 1
    assert samples("owed_overdue_seconds", queue="retry", partition="0") == 0


async def test_scrapes_share_a_look_at_what_is_owed(api: Api) -> None:
    before = await scrape(api)
    await store(api, outbox_ref(partition()))

    samples = await scrape(api)

    assert before("owed", queue="outbox", partition="0") == 0
    assert samples("owed", queue="outbox", partition="0") == 0


async def test_a_store_that_is_away_leaves_the_other_metrics(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = asyncio.Event()
    monkeypatch.setattr(readiness, "ANSWER_SECONDS", 0.01)
    monkeypatch.setattr(api.service.storage, "prove", never.wait)

    samples = await scrape(api)

    assert samples("store_up") == 0
    assert samples("owed", queue="outbox", partition="0") is None
    assert samples("posts_total") == 0


async def test_a_store_that_is_back_is_up_at_the_next_look(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse() -> None:
        raise StorageUnavailable("no answer")

    monkeypatch.setattr(readiness, "READY_SECONDS", 0)
    with monkeypatch.context() as away:
        away.setattr(api.service.storage, "prove", refuse)
        assert (await scrape(api))("store_up") == 0

    samples = await scrape(api)

    assert samples("store_up") == 1
    assert samples("owed", queue="outbox", partition="0") == 0


async def test_a_count_that_takes_too_long_is_not_shown_and_makes_no_alarm(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = asyncio.Event()
    monkeypatch.setattr(backlog_module, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(api.service.storage.messages, "stats", lambda *_, **__: never.wait())

    samples = await scrape(api)

    assert samples("store_up") == 1
    assert samples("owed", queue="outbox", partition="0") is None


async def test_a_count_that_failed_is_made_again_soon_and_one_that_took_long_is_not(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    view, service = api.service.metrics.backlog, api.service

    async def look() -> Backlog | None:
        return await view.look(service.storage, service.settings, service.clock)

    async def refuse(*_: object, **__: object) -> None:
        raise StorageUnavailable("no answer")

    monkeypatch.setattr(backlog_module, "KEEP_SECONDS", 0)
    with monkeypatch.context() as away:
        away.setattr(service.storage.messages, "stats", refuse)
        assert await look() is None
    assert await look() is not None

    never = asyncio.Event()
    view = backlog_module.BacklogView()
    with monkeypatch.context() as slow:
        slow.setattr(backlog_module, "LOOK_SECONDS", 0.05)
        slow.setattr(backlog_module, "KEEP_FACTOR", 1000)
        slow.setattr(service.storage.messages, "stats", lambda *_, **__: never.wait())
        assert await look() is None
    assert await look() is None


async def test_metrics_can_be_switched_off(start_api: StartApi) -> None:
    api = await start_api(metrics="off")

    assert (await api.get("/metrics", headers=NOBODY)).status == 404
    assert "/metrics" not in (await api.get("/openapi.json")).json["paths"]


async def test_processes_of_a_host_share_out_the_metrics_ports(start_api: StartApi) -> None:
    first = free_port()
    api = await start_api(metrics_port=str(first))

    async with (
        serving_metrics(api.service) as one,
        serving_metrics(api.service) as two,
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{two}/metrics") as shown,
        session.get(f"http://127.0.0.1:{two}/healthz") as alive,
        session.get(f"http://127.0.0.1:{two}/readyz") as ready,
    ):
        samples = Samples(await shown.text())

    assert one is not None
    assert two is not None
    assert first <= one < two < first + 16
    assert samples("posts_total") == 0
    assert (alive.status, ready.status) == (204, 200)


async def test_a_metrics_port_that_nobody_can_have_stops_nothing(
    start_api: StartApi, caplog: pytest.LogCaptureFixture
) -> None:
    api = await start_api(metrics_port=free_port(), metrics_host="192.0.2.1")

    async with serving_metrics(api.service) as port:
        assert port is None

    assert [vars(record)["action"] for record in caplog.records] == ["metrics_not_served"]


async def test_every_request_is_logged_when_debugging_with_its_caller_s_id(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    own_id = "req-2f1a7e0c-3b1e-4c57-9a55-0123456789ab"
    with caplog.at_level(logging.DEBUG, logger="api.exchange"):
        reply = await api.get("/v2/ping", headers={"X-OpenStack-Request-Id": own_id})
        await api.get("/v2/ping", headers={"X-OpenStack-Request-Id": "req-forged line"})

    known, unknown = (vars(record) for record in caplog.records if record.message == "request")
    assert known["request_id"] == reply.headers["X-OpenStack-Request-Id"] != own_id
    assert known["global_request_id"] == own_id
    assert (known["route"], known["method"], known["status"]) == ("/v2/ping", "GET", 204)
    assert "global_request_id" not in unknown


async def test_requests_are_not_logged_otherwise(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        await api.get("/v2/ping")

    assert not [record for record in caplog.records if record.name == "api.exchange"]


async def test_the_job_that_notifies_of_a_post_has_its_request_id(api: Api) -> None:
    await api.subscribe("q", "http://example.org/")
    reply = await api.post("/v2/queues/q/messages", {"messages": [{"body": 1}]})

    page = await api.service.storage.messages.page(
        outbox_ref(partition()), marker=None, limit=2, now=api.service.clock.now()
    )

    [job] = page.messages
    assert reply.headers["X-OpenStack-Request-Id"].encode() in job.body


async def test_what_alarms_look_at_is_shown_from_the_start(api: Api) -> None:
    """A count that begins with its first event has no increase that Prometheus could see."""
    api.service.metrics.engine = Engine()

    samples = await scrape(api)

    assert samples("requests_total", route=MESSAGES, method="POST", status="500") == 0
    assert samples("requests_total", route="other", method="GET", status="503") == 0
    assert samples("request_seconds_count", route=MESSAGES, method="POST") is None
    assert samples("tries_total", scheme="mailto", verdict="delivered") == 0
    assert samples("delivery_seconds_count", scheme="https") == 0
    assert samples("tries_total", scheme="http", verdict="gone") == 0
