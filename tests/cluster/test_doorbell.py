"""The cluster's doorbell, against a real Redis."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery
from celery.backends.base import DisabledBackend
from kombu.message import Message

import api.doorbell
from api.doorbell import (
    ANSWER_SECONDS,
    GATHER_SECONDS,
    MOST_SKIPS,
    PAUSE_SECONDS,
    WORTH_GATHERING,
    BrokerDoorbell,
    Pace,
)
from tests.cluster.processes import CELERY_VARIABLES
from tests.partitions import partition
from tests.redis_server import RINGS_KEY, RedisServer, require_redis
from zaqar_notify.operations.broker import DRAIN, MAX_WAITING, QUEUE, celery_application
from zaqar_notify.settings import Settings
from zaqar_notify.storage.internal import Partition

PATIENCE_SECONDS = 10
BLOCKED_SECONDS = 0.5
"""A ring that waited for a broker that does not answer took at least this long."""

SELDOM = 5


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    require_redis()
    server = RedisServer()
    server.start()
    yield server
    server.kill()


@pytest.fixture
def app(redis: RedisServer) -> Celery:
    settings = Settings(store_uri="sqlite:///unused", broker_uri=redis.uri)
    return celery_application(lambda: settings)


@pytest.fixture
def doorbell(app: Celery) -> Iterator[BrokerDoorbell]:
    doorbell = BrokerDoorbell(app)
    yield doorbell
    doorbell.close()


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline


def waiting(redis: RedisServer) -> int:
    """Rings that no worker has taken."""
    return int(redis.client.llen(RINGS_KEY))


def next_ring(app: Celery) -> Message:
    """The oldest ring, taken as a worker takes it."""
    with app.connection_for_read() as connection, connection.SimpleQueue(QUEUE) as rings:
        message: Message = rings.get(timeout=PATIENCE_SECONDS)
        message.ack()
        return message


def test_a_ring_names_the_task_and_the_partition(app: Celery, doorbell: BrokerDoorbell) -> None:
    doorbell.ring(partition(3))

    ring = next_ring(app)
    assert (ring.headers["task"], ring.payload[0]) == (DRAIN, [3])


def test_only_a_ring_of_another_pool_names_its_pool(app: Celery, doorbell: BrokerDoorbell) -> None:
    """Workers of the former release, which know one pool, understand the rings that are for them."""
    doorbell.ring(Partition("other", 3))

    assert next_ring(app).payload[0] == [3, "other"]


def test_nothing_is_put_off_by_the_broker_and_nothing_comes_back_through_it(
    app: Celery, doorbell: BrokerDoorbell
) -> None:
    doorbell.ring(partition(3))

    ring = next_ring(app)
    headers: dict[str, Any] = ring.headers
    assert (headers["eta"], headers["expires"], headers["retries"]) == (None, None, 0)
    assert "expiration" not in ring.properties
    assert isinstance(app.backend, DisabledBackend)
    assert app.conf.task_ignore_result


def test_what_celery_finds_in_the_environment_changes_neither_broker_nor_backend(
    redis: RedisServer, app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in CELERY_VARIABLES.items():
        monkeypatch.setenv(name, value)

    doorbell = BrokerDoorbell(app)
    doorbell.ring(partition())
    doorbell.close()

    connections = (app.connection_for_read(), app.connection_for_write(), app.connection())
    assert {connection.port for connection in connections} == {redis.port}
    assert isinstance(app.backend, DisabledBackend)
    assert waiting(redis) == 1


def test_a_ring_that_came_while_its_work_was_being_stored_is_not_repeated(
    redis: RedisServer, doorbell: BrokerDoorbell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.doorbell, "SOON_SECONDS", 3600)
    doorbell.ring_soon(partition(1))
    until(lambda: waiting(redis) == 1)

    doorbell.ring(partition(1))
    doorbell.ring(partition(2))
    until(lambda: waiting(redis) == 2)
    doorbell.ring(partition(1))

    until(lambda: waiting(redis) == 3)


def test_work_that_was_stored_late_is_rung_for_again(
    redis: RedisServer, doorbell: BrokerDoorbell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.doorbell, "SOON_SECONDS", -1)
    doorbell.ring_soon(partition())
    until(lambda: waiting(redis) == 1)

    doorbell.ring(partition())

    until(lambda: waiting(redis) == 2)


def test_a_ring_that_the_broker_did_not_take_is_sent_later_although_it_came_early(
    redis: RedisServer, doorbell: BrokerDoorbell
) -> None:
    redis.kill()
    doorbell.ring_soon(partition())
    until(lambda: not doorbell.is_heard)
    doorbell.ring(partition())

    redis.start()

    until(lambda: waiting(redis) == 1)


def test_rings_for_one_partition_are_gathered(redis: RedisServer, doorbell: BrokerDoorbell) -> None:
    began = time.monotonic()
    for _ in range(5000):
        doorbell.ring(partition())
    took = time.monotonic() - began

    doorbell.close()

    assert 1 <= waiting(redis) <= 2 + took / GATHER_SECONDS


def test_rings_that_are_seldom_wanted_are_sent_at_once(
    redis: RedisServer, app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.doorbell, "GATHER_SECONDS", 3600)
    monkeypatch.setattr(api.doorbell, "OFTEN_PER_SECOND", SELDOM / 3600)
    doorbell = BrokerDoorbell(app)

    for number in range(SELDOM):
        doorbell.ring(partition())
        until(lambda: waiting(redis) == number + 1)  # noqa: B023 - called at once
    for _ in range(100):
        doorbell.ring(partition())
    doorbell.close()

    # The ring that begins the gathering, and the gathered ones.
    assert waiting(redis) <= SELDOM + 2


@pytest.mark.parametrize(
    ("wanted_meanwhile", "least", "most"),
    [(WORTH_GATHERING, 1000, 1000), (1, 1000 // MOST_SKIPS, 10), (0, 1000 // MOST_SKIPS, 10)],
)
def test_rings_are_gathered_only_while_others_are_wanted_meanwhile(
    wanted_meanwhile: int, least: int, most: int
) -> None:
    pace = Pace(often_per_second=0)

    class Moment(threading.Event):
        count = 0

        def wait(self, timeout: float | None = None) -> bool:
            self.count += 1
            pace.wanted += wanted_meanwhile
            return False

    moment = Moment()
    for _ in range(1000):
        pace.wanted += 1
        pace.wait(moment)

    assert least <= moment.count <= most


class Gathering(threading.Event):
    """Tells that it is waited for."""

    has_begun = False

    def wait(self, timeout: float | None = None) -> bool:
        self.has_begun = True
        return super().wait(timeout)


def test_processes_that_share_a_host_ring_no_more_often_than_one(
    redis: RedisServer, app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.doorbell, "GATHER_SECONDS", 3600)
    monkeypatch.setattr(api.doorbell, "OFTEN_PER_SECOND", 2 * SELDOM / 3600)
    doorbell = BrokerDoorbell(app, processes=2)
    gathering = Gathering()
    doorbell._closing = gathering

    for number in range(SELDOM):
        doorbell.ring(partition())
        until(lambda: waiting(redis) == number + 1)  # noqa: B023 - called at once
    doorbell.ring(partition())
    until(lambda: gathering.has_begun)
    doorbell.close()


def test_each_partition_gets_its_ring(redis: RedisServer, doorbell: BrokerDoorbell) -> None:
    for number in range(8):
        doorbell.ring(partition(number))

    until(lambda: waiting(redis) == 8)


def test_rings_that_nobody_takes_do_not_pile_up(
    redis: RedisServer, doorbell: BrokerDoorbell
) -> None:
    for number in range(MAX_WAITING + 20):
        doorbell.ring(partition(number))

    until(lambda: doorbell.counts["spared"] == 20)
    assert waiting(redis) == MAX_WAITING
    assert doorbell.counts["sent"] == MAX_WAITING


def test_a_ring_without_a_broker_is_sent_when_there_is_one(
    redis: RedisServer, doorbell: BrokerDoorbell
) -> None:
    redis.kill()
    doorbell.ring(partition())
    until(lambda: not doorbell.is_heard)

    redis.start()

    until(lambda: waiting(redis) == 1 and doorbell.is_heard)
    assert doorbell.counts["dropped"] >= 1


def test_a_flush_does_not_hurt_the_next_ring(redis: RedisServer, doorbell: BrokerDoorbell) -> None:
    doorbell.ring(partition())
    until(lambda: waiting(redis) == 1)

    redis.client.flushall()
    doorbell.ring(partition())

    until(lambda: waiting(redis) == 1)


def test_ringing_takes_no_time_whatever_the_broker_does(
    redis: RedisServer, doorbell: BrokerDoorbell
) -> None:
    doorbell.ring(partition())
    until(lambda: waiting(redis) == 1)
    redis.pause()

    began = time.monotonic()
    for number in range(1000):
        doorbell.ring(partition(number))
    took = time.monotonic() - began

    assert took < BLOCKED_SECONDS


def test_closing_waits_for_a_broker_that_does_not_answer_only_so_long(
    redis: RedisServer, app: Celery
) -> None:
    doorbell = BrokerDoorbell(app)
    doorbell.ring(partition())
    until(lambda: waiting(redis) == 1)
    redis.pause()
    doorbell.ring(partition())

    began = time.monotonic()
    doorbell.close()

    assert time.monotonic() - began < 2 * ANSWER_SECONDS + PAUSE_SECONDS


def test_what_is_rung_just_before_the_end_is_sent(redis: RedisServer, app: Celery) -> None:
    doorbell = BrokerDoorbell(app)
    doorbell.ring(partition())

    doorbell.close()

    assert waiting(redis) == 1


def test_two_deployments_on_one_redis_do_not_hear_each_other(redis: RedisServer) -> None:
    theirs = Settings(
        store_uri="sqlite:///unused", broker_uri=redis.uri, broker_key_prefix="theirs:"
    )
    doorbell = BrokerDoorbell(celery_application(lambda: theirs))

    doorbell.ring(partition())

    until(lambda: doorbell.counts["sent"] == 1)
    doorbell.close()
    assert waiting(redis) == 0
    keys = [str(key) for key in redis.client.scan_iter()]
    assert keys
    assert [key for key in keys if not key.startswith("theirs:")] == []
