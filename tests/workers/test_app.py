"""What Celery's worker says beside what the engine says."""

from __future__ import annotations

import logging

import pytest
from celery.worker import request
from kombu.message import Message

from workers import app


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
