"""The same cluster on RabbitMQ, where one runs: `ZAQAR_TEST_AMQP_URI`, as in amqp://localhost/%2Ftest.

No package that tests can install brings one, so nobody is failed for not having it. The broker's
virtual host is to be the tests' own.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import pytest
from celery import Celery

from api.doorbell import BrokerDoorbell
from tests.cluster.cluster import Cluster
from tests.cluster.processes import PATIENCE_SECONDS, WORKERS, Api, Hook, post, subscribe
from tests.kinds import KINDS
from tests.mongod import mongo_uri
from tests.partitions import partition
from tests.redis_server import RedisServer
from workers.engine import LOOK_SECONDS
from zaqar_notify.findings import Level
from zaqar_notify.operations.broker import MAX_WAITING, QUEUE, celery_application
from zaqar_notify.operations.doctor import examine
from zaqar_notify.settings import Settings

URI_VARIABLE = "ZAQAR_TEST_AMQP_URI"
SOON_SECONDS = LOOK_SECONDS / 2
"""A worker without a ring takes longer, or has luck."""

IDLE_SECONDS, STOP_SECONDS = 2.0, 6.0
"""A loop that waits for its longest, 10 seconds, goes on with that for longer than a stop may take."""


@pytest.fixture(scope="module")
def amqp_uri() -> str:
    uri = os.environ.get(URI_VARIABLE)
    if uri is None:
        pytest.skip(f"NOT RUN: no RabbitMQ. Set {URI_VARIABLE}")
    return uri


@pytest.fixture(scope="module")
def cluster(amqp_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(
        tmp_path_factory.mktemp("cluster"),
        RedisServer(),  # Not started.
        mongo_uri(),
        environ={"ZAQAR_BROKER_URI": amqp_uri},
    )
    yield cluster
    cluster.end_processes()


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Api:
    return cluster.api()


@pytest.fixture
def app(amqp_uri: str) -> Celery:
    app = celery_application(lambda: Settings(broker_uri=amqp_uri))
    with app.connection_for_write() as connection:
        queue = app.amqp.queues[QUEUE].bind(connection.default_channel)
        queue.declare()
        queue.purge()
    return app


def waiting(app: Celery) -> int:
    """How many rings the broker holds."""
    with app.connection_for_write() as connection:
        queue = app.amqp.queues[QUEUE].bind(connection.default_channel)
        declared: Any = queue.queue_declare(passive=True)
        return int(declared.message_count)


@pytest.fixture
def doorbell(app: Celery) -> Iterator[BrokerDoorbell]:
    doorbell = BrokerDoorbell(app)
    with closing(doorbell):
        yield doorbell


def test_a_ring_waits_for_a_worker(app: Celery, doorbell: BrokerDoorbell) -> None:
    doorbell.ring(partition())
    doorbell.close()

    assert waiting(app) == 1
    assert doorbell.counts == {"sent": 1}


def test_rings_that_nobody_takes_do_not_pile_up(app: Celery, doorbell: BrokerDoorbell) -> None:
    for number in range(MAX_WAITING + 20):
        doorbell.ring(partition(number))

    deadline = time.monotonic() + PATIENCE_SECONDS
    while doorbell.counts.total() < MAX_WAITING + 20:
        assert time.monotonic() < deadline, doorbell.counts
    assert waiting(app) <= MAX_WAITING


@pytest.mark.parametrize("kind", WORKERS)
async def test_a_worker_is_rung_and_stops_cleanly(
    cluster: Cluster,
    api: Api,
    session: aiohttp.ClientSession,
    hook: Hook,
    kind: str,
) -> None:
    worker = await asyncio.to_thread(cluster.worker, kind)
    await subscribe(session, api, hook)

    for number in range(5):
        await post(session, api, hook.queue, number)
        assert await hook.received(number) < SOON_SECONDS

    assert await asyncio.to_thread(worker.stop) == 0


@pytest.mark.parametrize("kind", WORKERS)
async def test_an_idle_worker_stops_within_seconds(cluster: Cluster, kind: str) -> None:
    worker = await asyncio.to_thread(cluster.worker, kind)
    await asyncio.sleep(IDLE_SECONDS)
    began = time.monotonic()

    assert await asyncio.to_thread(worker.stop) == 0

    assert time.monotonic() - began < STOP_SECONDS


async def test_a_worker_takes_rings_from_the_broker(
    cluster: Cluster, app: Celery, doorbell: BrokerDoorbell
) -> None:
    doorbell.ring(partition())
    doorbell.close()
    assert await asyncio.to_thread(waiting, app) == 1

    worker = await asyncio.to_thread(cluster.worker)

    async with asyncio.timeout(PATIENCE_SECONDS):
        while await asyncio.to_thread(waiting, app):
            pass
    assert await asyncio.to_thread(worker.stop) == 0


async def test_the_doctor_hears_it(amqp_uri: str) -> None:
    findings = await examine(Settings(broker_uri=amqp_uri), None, KINDS)

    [broker] = [finding for finding in findings if finding.check == "broker"]
    assert broker.level is Level.OK


@pytest.mark.parametrize("part", ["password", "virtual host"])
async def test_the_doctor_says_that_it_refuses_us(amqp_uri: str, part: str) -> None:
    parts = urlsplit(amqp_uri)
    if part == "password":
        refused = parts._replace(netloc=f"nobody:wrong@{parts.hostname}:{parts.port or 5672}")
    else:
        refused = parts._replace(path="/no-such-host")

    findings = await examine(Settings(broker_uri=urlunsplit(refused)), None, KINDS)

    [broker] = [finding for finding in findings if finding.check == "broker"]
    assert broker.level is Level.PROBLEM
    assert "wrong" not in broker.sentence
