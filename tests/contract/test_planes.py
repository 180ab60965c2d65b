"""Changes that cross from the control store to the message store, and processes that end in between."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import msgspec
import pytest

from tests.clock import START
from tests.contract.conftest import DRIVERS
from tests.contract.steps import (
    OUTBOX,
    GivenPost,
    after,
    bodies,
    claim,
    everything,
    first,
    hold,
    new_message,
    page,
    post,
    subscribe,
    subscription,
)
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import DeadLetter, JsonObject, QueueRef
from zaqar_notify.storage.internal import queues_of_subscription
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import open_storage
from zaqar_notify.subscriptions import renewal

STRICT = {"_max_claim_count": 1}
LAX = {"_max_claim_count": 9}


@pytest.fixture(params=DRIVERS)
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Storage]:
    """A message store of each driver, whose control store is another database."""
    storage = await open_storage(
        DRIVERS[request.param](tmp_path), control_uri=f"sqlite://{tmp_path}/control.db"
    )
    yield storage
    await storage.close()


class Ends(Exception):
    """The process ends here."""


@contextmanager
def ending_before(store: object, method: str) -> Iterator[None]:
    """Run the process until it would call this method of a store, where it ends."""

    async def ends(*arguments: object, **options: object) -> None:
        raise Ends

    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(store, method, ends)
        with pytest.raises(Ends):
            yield


async def applied_rules(storage: Storage, queue: QueueRef) -> JsonObject:
    """The rules that a post meets."""
    given = GivenPost([new_message("a")])
    await storage.post(queue, given, now=START)
    return given.applied_rules[-1]


async def names(storage: Storage, project: str) -> list[str]:
    listed = await storage.queues.list(project, marker=None, limit=10)
    return [queue.ref.name for queue in listed]


async def sweep_all(storage: Storage, *, now: datetime) -> None:
    while await storage.sweep(now=now, limit=100):
        pass


async def test_two_databases_serve_as_one(
    storage: Storage, queue: QueueRef, other_queue: QueueRef
) -> None:
    await storage.queues.create(queue, metadata={"colour": "red", **STRICT}, now=START)
    await subscribe(storage, queue)
    await post(storage, queue, bodies=["a"])
    await hold(storage, queue, ttl=1)

    dead_letter = DeadLetter(other_queue, max_claim_count=1, ttl=None)
    assert await claim(storage, queue, now=after(1), dead_letter=dead_letter) is None

    assert bodies(await page(storage, other_queue, now=after(1))) == ["a"]
    assert await names(storage, queue.project) == [other_queue.name, queue.name]
    assert len(await everything(storage, OUTBOX)) == 1


async def test_a_change_that_broke_off_is_applied_by_the_sweep(
    storage: Storage, queue: QueueRef
) -> None:
    await storage.queues.create(queue, metadata=LAX, now=START)
    with ending_before(storage.heads, "put"):
        await storage.queues.update(queue, lambda _: STRICT)
    assert await applied_rules(storage, queue) == LAX

    await storage.sweep(now=START, limit=10)

    assert await applied_rules(storage, queue) == STRICT
    assert await storage.control.records.unapplied(limit=10) == []


async def test_a_change_that_was_applied_and_not_noted_is_applied_once_more(
    storage: Storage, queue: QueueRef
) -> None:
    await storage.queues.create(queue, metadata=LAX, now=START)
    with ending_before(storage.control.records, "applied"):
        await storage.queues.update(queue, lambda _: STRICT)

    await storage.sweep(now=START, limit=10)

    assert await applied_rules(storage, queue) == STRICT
    assert await storage.control.records.unapplied(limit=10) == []


async def test_of_two_changes_the_later_one_stays(
    storage: Storage, queue: QueueRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow process comes to the head with its change when another one's is there."""
    await storage.queues.create(queue, metadata={}, now=START)
    first(
        monkeypatch,
        storage.heads,
        "put",
        lambda: storage.queues.update(queue, lambda _: STRICT),
    )

    await storage.queues.update(queue, lambda _: LAX)

    assert await applied_rules(storage, queue) == STRICT
    found = await storage.queues.get(queue)
    assert found is not None
    assert found.metadata == STRICT


async def test_a_first_post_that_broke_off_leaves_a_queue_that_takes_posts(
    storage: Storage, queue: QueueRef
) -> None:
    with ending_before(storage.heads, "put"):
        await post(storage, queue, bodies=["lost"])

    await post(storage, queue, bodies=["a"])

    assert bodies(await everything(storage, queue)) == ["a"]
    assert await names(storage, queue.project) == [queue.name]


async def test_a_deletion_that_broke_off_leaves_a_queue_that_is_empty(
    storage: Storage, queue: QueueRef
) -> None:
    await storage.queues.create(queue, metadata=STRICT, now=START)
    await post(storage, queue, bodies=["a"])
    with ending_before(storage.control.records, "remove"):
        await storage.queues.delete(queue, now=START)

    assert await everything(storage, queue) == []
    assert await applied_rules(storage, queue) == STRICT

    await storage.queues.delete(queue, now=START)
    assert await names(storage, queue.project) == []


async def test_a_post_beside_a_deletion_has_a_queue_afterwards(
    storage: Storage, queue: QueueRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The post looks for the record before the deletion, and makes the head after it."""
    await post(storage, queue, bodies=["old"])
    await storage.queues.delete(queue, now=START)
    await storage.control.records.create(queue, metadata={}, now=START)
    first(monkeypatch, storage.heads, "put", lambda: storage.queues.delete(queue, now=START))

    await post(storage, queue, bodies=["new"])

    assert bodies(await everything(storage, queue)) == ["new"]
    assert await names(storage, queue.project) == [queue.name]


async def test_a_change_beside_a_deletion_brings_no_queue_back(
    storage: Storage, queue: QueueRef
) -> None:
    await storage.queues.create(queue, metadata=LAX, now=START)
    changed = await storage.control.records.update(queue, lambda _: STRICT)
    await storage.queues.delete(queue, now=START)

    made = await storage.heads.put(queue, STRICT, revision=changed.revision, subscribed_until=None)

    assert made is False
    assert await storage.heads.get(queue) is None
    assert await applied_rules(storage, queue) == {}


async def test_a_late_deletion_lets_no_change_of_before_another_one_back(
    storage: Storage, queue: QueueRef
) -> None:
    """Two processes delete the queue. The slower one read an earlier revision."""
    await storage.heads.put(queue, LAX, revision=1, subscribed_until=None)
    await storage.heads.drop(queue, revision=4, now=START)
    await storage.heads.drop(queue, revision=2, now=START)

    assert await storage.heads.put(queue, STRICT, revision=3, subscribed_until=None) is False
    assert await storage.heads.revision(queue) == 4


async def test_a_deletion_beside_a_change_deletes_what_was_changed(
    storage: Storage, queue: QueueRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    await storage.queues.create(queue, metadata=LAX, now=START)
    first(
        monkeypatch,
        storage.control.records,
        "remove",
        lambda: storage.queues.update(queue, lambda _: STRICT),
    )

    await storage.queues.delete(queue, now=START)

    assert await names(storage, queue.project) == []
    assert await applied_rules(storage, queue) == {}


async def test_a_control_store_of_an_earlier_state_catches_up(
    storage: Storage, queue: QueueRef
) -> None:
    """It was put back from a backup: its records are of revisions that the heads are past."""
    await storage.queues.create(queue, metadata={}, now=START)
    for _ in range(5):
        await storage.queues.update(queue, lambda _: LAX)
    record = await storage.control.records.get(queue)
    assert record is not None
    await storage.control.records.remove(queue, revision=record.revision)
    await storage.queues.create(queue, metadata={}, now=START)

    await storage.queues.update(queue, lambda _: STRICT)

    assert await applied_rules(storage, queue) == STRICT


@pytest.mark.parametrize("is_there", [True, False])
async def test_what_is_written_at_a_revision_that_the_control_store_lost_is_in_force(
    storage: Storage, queue: QueueRef, is_there: bool
) -> None:
    """It was put back from a backup, without the record, or without a change. The head has it."""
    if is_there:
        await storage.queues.create(queue, metadata={}, now=START)
    await storage.heads.put(queue, LAX, revision=2 if is_there else 1, subscribed_until=None)

    if is_there:
        await storage.queues.update(queue, lambda _: STRICT)
    else:
        await storage.queues.create(queue, metadata=STRICT, now=START)

    assert await applied_rules(storage, queue) == STRICT
    assert await storage.control.records.unapplied(limit=10) == []


async def test_a_subscription_that_broke_off_before_it_was_stored_costs_jobs_alone(
    storage: Storage, queue: QueueRef
) -> None:
    with ending_before(storage.control.subscriptions, "create"):
        await subscribe(storage, queue, ttl=60)

    assert (await post(storage, queue, bodies=["a"])).owes_deliveries is True
    assert (await post(storage, queue, bodies=["b"], now=after(60))).owes_deliveries is False


async def test_a_subscription_that_broke_off_when_it_was_stored_is_notified(
    storage: Storage, queue: QueueRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = subscription(queue)
    await storage.queues.create(queue, metadata={}, now=START)

    async def store_and_end() -> None:
        await storage.control.subscriptions.create(wanted, renew=renewal(wanted), now=START)
        raise Ends

    first(monkeypatch, storage.control.subscriptions, "create", store_and_end)
    with pytest.raises(Ends):
        await storage.subscriptions.create(wanted, renew=renewal(wanted), now=START)

    assert (await post(storage, queue, bodies=["a"])).owes_deliveries is True


async def test_a_subscription_made_beside_the_end_of_another_is_notified(
    storage: Storage, queue: QueueRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ended after a look for live subscriptions that came before the new one."""
    ending = await subscribe(storage, queue, "http://one")
    first(
        monkeypatch,
        storage.heads,
        "lower_subscribed",
        lambda: subscribe(storage, queue, "http://other"),
    )

    await storage.subscriptions.delete(queue, ending.id)

    assert (await post(storage, queue, bodies=["a"])).owes_deliveries is True


async def test_a_subscription_that_is_stored_after_the_end_of_another_is_notified(
    storage: Storage, queue: QueueRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that ends lowers `subscribed_until` without having seen the new subscription."""
    ending = await subscribe(storage, queue, "http://one")
    first(
        monkeypatch,
        storage.control.subscriptions,
        "create",
        lambda: storage.subscriptions.delete(queue, ending.id),
    )

    await subscribe(storage, queue, "http://other")

    assert (await post(storage, queue, bodies=["a"])).owes_deliveries is True


async def test_a_subscription_made_while_its_queue_comes_back_is_notified(
    storage: Storage, queue: QueueRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It finds no head to raise, and the maker of the head looked for subscriptions before it was there."""
    long_after = after(2 * 86_400)
    kept = await subscribe(storage, queue, "http://one", ttl=3 * 86_400)
    await storage.queues.delete(queue, now=START)
    await sweep_all(storage, now=long_after)
    assert await storage.heads.revision(queue) == 0
    first(
        monkeypatch,
        storage.heads,
        "put",
        lambda: storage.subscriptions.update(
            queue,
            kept.id,
            lambda present: msgspec.structs.replace(present, expires_at=after(9 * 86_400)),
            now=long_after,
        ),
    )

    await post(storage, queue, bodies=["a"], now=long_after)

    later = await post(storage, queue, bodies=["b"], now=after(8 * 86_400))
    assert later.owes_deliveries is True


async def test_owed_deliveries_are_removed_when_the_end_of_a_subscription_broke_off(
    storage: Storage, queue: QueueRef
) -> None:
    ended = await subscribe(storage, queue)
    for own in queues_of_subscription(ended.id):
        await post(storage, own, bodies=["owed"])
    with ending_before(storage.heads, "drop_internal"):
        await storage.subscriptions.delete(queue, ended.id)
    assert await storage.subscriptions.list(queue, marker=None, limit=10, now=START) == []

    assert await storage.subscriptions.remove_expired(now=START, limit=10) == []

    for own in queues_of_subscription(ended.id):
        assert await storage.heads.get(own) is None


async def test_with_the_control_store_away_known_queues_go_on(
    storage: Storage, queue: QueueRef, other_queue: QueueRef
) -> None:
    await subscribe(storage, queue)
    await storage.control.close()

    posted = await post(storage, queue, bodies=["a", "b"])
    held = await hold(storage, queue, limit=1)
    await storage.messages.delete(queue, posted.ids[0], claim_id=held.id, now=START)

    assert posted.owes_deliveries is True
    assert bodies(await page(storage, queue)) == ["b"]
    assert bodies(await page(storage, other_queue)) == []
    with pytest.raises(StorageUnavailable):
        await post(storage, other_queue, bodies=["a"])
    with pytest.raises(StorageUnavailable):
        await storage.queues.list(queue.project, marker=None, limit=10)


async def test_a_dropped_head_is_forgotten_after_a_day(storage: Storage, queue: QueueRef) -> None:
    await post(storage, queue, bodies=["a"])
    await storage.queues.delete(queue, now=START)
    assert await storage.heads.revision(queue) > 0

    await sweep_all(storage, now=after(86_401))

    assert await storage.heads.revision(queue) == 0
