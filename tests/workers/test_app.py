"""What Celery's worker says beside what the engine says."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from celery.worker import request
from kombu.message import Message

from tests.redis_server import RedisServer, require_redis
from workers import app
from zaqar_notify.broker import DRAIN, QUEUE, celery_application
from zaqar_notify.settings import Settings

PATIENCE_SECONDS = 10


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    require_redis()
    server = RedisServer()
    server.start()
    yield server
    server.kill()


class LostConnection:
    """A broker's channel after the broker is gone."""

    no_ack_consumers = None

    def basic_ack(self, *_: object, **__: object) -> None:
        raise ConnectionError("the broker went away")


def test_a_ring_whose_receipt_is_lost_is_no_event(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger(request.__name__)
    monkeypatch.setattr(logger, "filters", [app._is_of_interest])

    Message(channel=LostConnection()).ack_log_error(logger, (ConnectionError,))
    logger.error("something else")

    assert logger.name == app.RECEIPTS
    assert [record.message for record in caplog.records] == ["something else"]


def test_a_broker_that_goes_away_with_a_ring_in_hand_is_no_event(redis: RedisServer) -> None:
    settings = Settings(store_uri="sqlite:///unused", broker_uri=redis.uri)
    celery = celery_application(lambda: settings)
    celery.send_task(DRAIN, args=(1,))
    with celery.connection_for_read() as connection:
        channel = connection.default_channel
        queue = celery.amqp.queues[QUEUE].bind(channel)
        connection.Consumer(queue, channel=channel, callbacks=[lambda *_: None]).consume()
        connection.drain_events(timeout=PATIENCE_SECONDS)
        redis.kill()
        # As kombu leaves it when it has noticed the loss before Celery.
        connection.transport.client = None

        connection.maybe_close_channel(channel)
