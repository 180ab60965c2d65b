"""A worker's handling of a ring, beside telling its engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from billiard.einfo import ExceptionInfo
from billiard.exceptions import WorkerLostError
from celery import Celery
from celery.worker import state
from kombu.message import Message

from tests.redis_server import RedisServer, require_redis
from workers import app
from zaqar_notify.operations.broker import DRAIN, QUEUE, celery_application
from zaqar_notify.settings import Settings

PATIENCE_SECONDS = 10


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    require_redis()
    server = RedisServer()
    server.start()
    yield server
    server.kill()


@pytest.fixture
def celery(redis: RedisServer) -> Celery:
    settings = Settings(store_uri="sqlite:///unused", broker_uri=redis.uri)
    return celery_application(lambda: settings)


def take_ring(celery: Celery) -> Message:
    """A ring that was sent, as the worker's consumer gets it."""
    celery.send_task(DRAIN, args=(1,))
    rings: list[Message] = []
    with celery.connection_for_read() as connection:
        queue = celery.amqp.queues[QUEUE].bind(connection.default_channel)
        take = connection.Consumer(queue, on_message=rings.append)
        take.consume()
        connection.drain_events(timeout=PATIENCE_SECONDS)
    [ring] = rings
    return ring


def test_the_broker_forgets_a_ring_that_it_gives_away(redis: RedisServer, celery: Celery) -> None:
    take_ring(celery)

    keys = [str(key) for key in redis.client.scan_iter()]

    assert [key for key in keys if "bind" not in key] == []


@pytest.mark.parametrize("error", [WorkerLostError("signal 9"), SystemExit(1)])
def test_a_ring_that_is_lost_with_its_process_is_no_failure(
    celery: Celery, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    ring = ring_of(celery)
    state.reserved_requests.add(ring)

    ring.on_failure(raised(error))

    assert ring not in state.reserved_requests
    assert caplog.records == []


def test_a_ring_that_fails_is_one(celery: Celery, caplog: pytest.LogCaptureFixture) -> None:
    ring = ring_of(celery)

    ring.on_failure(raised(ValueError("a defect")))

    assert "a defect" in caplog.text


def raised(error: BaseException) -> ExceptionInfo:
    try:
        raise error
    except BaseException:
        return ExceptionInfo()


def ring_of(celery: Celery) -> app.Ring:
    @celery.task(name=DRAIN)
    def drain(_partition: int) -> None:
        """Nothing: it is not run."""

    return app.Ring(take_ring(celery), app=celery, task=drain)


def test_a_ring_needs_no_broker_any_more(redis: RedisServer, celery: Celery) -> None:
    message = take_ring(celery)
    redis.kill()

    def tell_broker(*_: object) -> None:
        message.ack()

    @celery.task(name=DRAIN)
    def drain(_partition: int) -> None:
        """Nothing: it is not run."""

    ring = app.Ring(message, on_ack=tell_broker, app=celery, task=drain)
    ring.acknowledge()

    assert ring.acknowledged
