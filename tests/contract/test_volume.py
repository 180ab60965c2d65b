"""How many messages a store has, of all clients."""

from __future__ import annotations

from tests.contract.steps import OUTBOX, after, hold, post, subscribe
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.planes import Storage


async def test_messages_of_all_clients_are_counted_and_jobs_are_not(
    storage: Storage, queue: QueueRef, other_queue: QueueRef
) -> None:
    foreign = QueueRef(f"{queue.project}-other", queue.name)
    before = await storage.store.volume(now=after(0))
    await subscribe(storage, queue)
    await post(storage, queue, bodies=["a", "b", "c"])
    await post(storage, other_queue, bodies=["d"], delay=60)
    await post(storage, foreign, bodies=["e", "f"])
    await hold(storage, queue, limit=2, ttl=60)

    counted = await storage.store.volume(now=after(1))
    lapsed = await storage.store.volume(now=after(60))
    deleted = await _without(storage, queue)

    assert len((await hold(storage, OUTBOX)).messages) == 1
    assert (counted.claimed - before.claimed, counted.total - before.total) == (2, 6)
    assert (lapsed.claimed - before.claimed, lapsed.total - before.total) == (0, 6)
    assert deleted == counted.total - 3


async def _without(storage: Storage, queue: QueueRef) -> int:
    await storage.queues.delete(queue, now=after(1))
    return (await storage.store.volume(now=after(1))).total
