"""When a job in hand is finished, kept for another try, or left to be given back."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime

import pytest

from tests.clock import START
from workers.taken import Taken, working_on
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import Message
from zaqar_notify.storage.internal import DEFAULT_POOL


class Leases:
    """Notes the end of the job."""

    pool = DEFAULT_POOL

    def __init__(self) -> None:
        self.ends: list[str] = []

    def full(self) -> frozenset[str]:
        return frozenset()

    def holds(self, claim_id: str, now: datetime) -> bool:
        return True

    def finish(self, taken: Taken) -> None:
        self.ends.append("finished")

    def let_go(self, taken: Taken) -> None:
        self.ends.append("let go")


@pytest.fixture
def leases() -> Leases:
    return Leases()


@pytest.fixture
def taken(leases: Leases) -> Taken:
    message = Message(id="1", body=b"{}", ttl=60, posted_at=START, expires_at=START)
    return Taken(leases, "claim", message, None)


def fail(error: Exception) -> None:
    raise error


def test_a_job_is_finished_with_its_last_part(leases: Leases, taken: Taken) -> None:
    taken.add_part()

    with taken:
        pass
    assert leases.ends == []

    with taken:
        pass
    assert leases.ends == ["finished"]


def test_a_job_of_which_a_part_failed_is_not_finished(leases: Leases, taken: Taken) -> None:
    taken.add_part()

    with pytest.raises(ValueError, match="a defect"), taken:
        raise ValueError("a defect")
    with taken:
        pass

    assert leases.ends == ["let go"]


def test_a_job_that_is_broken_off_stays_in_hand_to_be_given_back(
    leases: Leases, taken: Taken
) -> None:
    with pytest.raises(asyncio.CancelledError), working_on([taken]):
        raise asyncio.CancelledError

    assert leases.ends == []


def test_a_defect_is_logged_once_and_fails_each_job_at_hand(
    leases: Leases, taken: Taken, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR), working_on([taken, taken]):
        taken.add_part()
        fail(ValueError("a defect"))

    assert leases.ends == ["let go"]
    assert [record.__dict__["action"] for record in caplog.records] == ["job_failed"]


def test_a_store_that_is_away_at_the_stop_is_no_defect(
    leases: Leases, taken: Taken, caplog: pytest.LogCaptureFixture
) -> None:
    with working_on([taken]):
        fail(StorageUnavailable("away"))

    assert leases.ends == ["let go"]
    assert caplog.records == []
