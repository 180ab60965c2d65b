"""Workers of a cluster deliver messages posted through an API process, whichever process ends when."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator

import aiohttp
import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.processes import (
    CELERY_VARIABLES,
    PATIENCE_SECONDS,
    REACHED_BROKER,
    WORKERS,
    Api,
    Hook,
    post,
    subscribe,
)
from tests.partitions import partition
from zaqar_notify.storage.clock import store_clock
from zaqar_notify.storage.internal import outbox_ref, retry_ref
from zaqar_notify.storage.registry import open_storage

SOON_SECONDS = 2


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Api:
    return cluster.api()


@pytest.fixture(autouse=True)
def _workers_end_with_their_test(cluster: Cluster) -> Iterator[None]:
    yield
    cluster.end_workers()


@pytest.mark.parametrize("kind", WORKERS)
async def test_a_worker_delivers_what_an_api_process_took_and_stops_cleanly(
    cluster: Cluster, api: Api, session: aiohttp.ClientSession, hook: Hook, kind: str
) -> None:
    worker = await asyncio.to_thread(cluster.worker, kind)
    await subscribe(session, api, hook)

    await post(session, api, hook.queue, "hello")

    assert await hook.received("hello") < SOON_SECONDS
    assert await asyncio.to_thread(worker.stop) == 0


@pytest.mark.parametrize("kind", ["threads", "celery"])
def test_a_worker_hears_the_broker_of_our_settings_whatever_celery_is_told(
    cluster: Cluster, kind: str
) -> None:
    worker = cluster.worker(kind, environ=CELERY_VARIABLES)

    worker.wait_until(lambda: REACHED_BROKER in worker.printed())


@pytest.mark.parametrize("kind", ["threads", "prefork", "celery"])
async def test_a_worker_told_to_stop_finishes_the_delivery_in_hand(
    cluster: Cluster, api: Api, session: aiohttp.ClientSession, hook: Hook, kind: str
) -> None:
    worker = await asyncio.to_thread(cluster.worker, kind)
    await subscribe(session, api, hook)
    hook.may_answer.clear()
    await post(session, api, hook.queue, "first")
    await hook.received("first")

    worker.send(signal.SIGTERM)
    await asyncio.sleep(0)
    hook.may_answer.set()

    assert await asyncio.to_thread(worker.exit_code) == 0
    await asyncio.to_thread(worker.start)
    await post(session, api, hook.queue, "second")
    await hook.received("second")
    assert hook.bodies == ["first", "second"]


@pytest.mark.parametrize("kind", ["threads", "prefork", "celery"])
async def test_a_worker_that_can_not_finish_in_time_gives_back_what_it_has(
    cluster: Cluster, api: Api, session: aiohttp.ClientSession, hook: Hook, kind: str
) -> None:
    environ = {"ZAQAR_SHUTDOWN_SECONDS": "0.5", "ZAQAR_DELIVERY_LEASE_SECONDS": "300"}
    worker = await asyncio.to_thread(cluster.worker, kind, environ=environ)
    await subscribe(session, api, hook)
    hook.may_answer.clear()
    await post(session, api, hook.queue, "first")
    await hook.received("first")

    assert await asyncio.to_thread(worker.stop) == 0
    hook.may_answer.set()
    await asyncio.to_thread(worker.start)

    await hook.received("first", times=2)
    assert len(set(hook.delivery_ids)) == 1


@pytest.mark.parametrize("kind", ["threads", "prefork"])
async def test_jobs_of_a_killed_worker_go_to_another_when_their_lease_ends(
    cluster: Cluster, api: Api, session: aiohttp.ClientSession, hook: Hook, kind: str
) -> None:
    worker = await asyncio.to_thread(cluster.worker, kind)
    await subscribe(session, api, hook)
    hook.may_answer.clear()
    await post(session, api, hook.queue, "hello")
    await hook.received("hello")

    worker.kill()
    hook.may_answer.set()
    await asyncio.to_thread(cluster.worker)

    await hook.received("hello", times=2)
    assert len(set(hook.delivery_ids)) == 1


async def test_a_paused_worker_records_nothing_of_jobs_that_it_lost_meanwhile(
    cluster: Cluster, api: Api, session: aiohttp.ClientSession, hook: Hook
) -> None:
    paused = await asyncio.to_thread(cluster.worker)
    await subscribe(session, api, hook)
    hook.may_answer.clear()
    hook.statuses = [503]
    await post(session, api, hook.queue, "hello")
    await hook.received("hello")

    paused.send(signal.SIGSTOP)
    await asyncio.to_thread(cluster.worker)
    await hook.received("hello", times=2)
    hook.may_answer.set()  # The paused worker's try fails, the other one's succeeds.
    await nothing_is_owed(cluster)
    paused.send(signal.SIGCONT)

    await asyncio.to_thread(paused.wait_until, lambda: "lease_lost" in paused.printed())
    assert await asyncio.to_thread(paused.stop) == 0
    await nothing_is_owed(cluster)
    assert hook.bodies == ["hello", "hello"]


async def nothing_is_owed(cluster: Cluster) -> None:
    storage = await open_storage(cluster.store_uri)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS), store_clock(storage) as clock:
            for ref in (outbox_ref(partition()), retry_ref(partition())):
                while (await storage.queues.stats(ref, now=clock.now())).total:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
    finally:
        await storage.close()
