"""Message filters see what `queue:` subscriptions post, too."""

from __future__ import annotations

from pathlib import Path

import pytest

from sinks.queue import OURS_PAUSE_SECONDS
from tests.clock import ManualClock
from tests.filters import First, adding, install_filters, raising, routing
from tests.kinds import KINDS
from tests.workers.office import QUEUE, Office
from tests.workers.test_queue_loops import relaying
from workers.doorbell import LocalDoorbell
from zaqar_notify import messages
from zaqar_notify.errors import PostNotPermitted, PostRefused
from zaqar_notify.models import NewMessage, QueueRef
from zaqar_notify.service import Service
from zaqar_notify.settings import Settings

COPIES = QueueRef(QUEUE.project, "copies")
OTHER = QueueRef(QUEUE.project, "other")


@pytest.fixture
def office(office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Office:
    install_filters(tmp_path / "site", monkeypatch)
    office.settings = Settings(filters="first")
    return office


async def bodies(office: Office, ref: QueueRef) -> list[bytes]:
    return [message.body for message in await office.all_in(ref)]


async def relayed(office: Office, clock: ManualClock) -> None:
    """Post to a queue whose messages another one gets, and let the engine work it off."""
    async with relaying(office, clock):
        await office.post(b"1")
        await office.settled()


async def test_a_copy_for_a_queue_is_seen_and_changed(office: Office, clock: ManualClock) -> None:
    await office.subscribe(f"queue:{COPIES.name}")
    First.act = adding(b"2")

    await relayed(office, clock)

    [posting] = First.seen
    assert (posting.queue, posting.is_relayed) == (COPIES.name, True)
    assert await bodies(office, COPIES) == [b"[1,2]"]


async def test_a_copy_may_be_routed(office: Office, clock: ManualClock) -> None:
    await office.subscribe(f"queue:{COPIES.name}")
    First.act = routing(OTHER.name)

    await relayed(office, clock)

    assert (await bodies(office, COPIES), await bodies(office, OTHER)) == ([], [b"1"])


@pytest.mark.parametrize("error", [PostRefused, PostNotPermitted])
async def test_a_refused_copy_is_recorded_as_undelivered_with_the_filter_s_sentence(
    office: Office, clock: ManualClock, error: type[Exception]
) -> None:
    subscription = await office.subscribe(f"queue:{COPIES.name}")
    First.act = raising(error("No copies"))

    await relayed(office, clock)

    assert [record.detail for record in await office.undelivered(subscription)] == ["No copies"]


async def test_a_copy_waits_while_its_filter_fails(office: Office, clock: ManualClock) -> None:
    subscription = await office.subscribe(f"queue:{COPIES.name}")
    First.act = raising(ZeroDivisionError("a defect"))
    await relayed(office, clock)
    waiting = await office.owed_deliveries()

    First.act = None
    clock.advance(seconds=OURS_PAUSE_SECONDS)
    async with relaying(office, clock):
        await office.settled()

    assert [each.attempt for each in waiting] == [1]
    assert await bodies(office, COPIES) == [b"1"]
    assert await office.undelivered(subscription) == []


async def test_a_copy_that_is_delivered_again_is_stored_once_whatever_its_filter_does(
    office: Office, clock: ManualClock
) -> None:
    service = Service(office.storage, office.settings, clock, LocalDoorbell(), KINDS)
    for added in (b"2", b"3"):
        First.act = adding(added)
        await messages.relay(service, COPIES, NewMessage(b"1", 60), origin="a message", hops=1)

    assert await bodies(office, COPIES) == [b"[1,2]"]
