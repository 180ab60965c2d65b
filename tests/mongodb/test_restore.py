"""After a restore, new messages are new to all clients, wherever the clocks were."""

from __future__ import annotations

from datetime import timedelta

import pymongo
import pytest

from tests.clock import START
from tests.contract.steps import bodies, everything, page, post, post_one
from tests.mongodb.backup import dump, restore
from tests.mongodb.opened import opened
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.ids import POSITIONS_PER_MS
from zaqar_notify.storage.mongodb.documents import queue_key
from zaqar_notify.storage.planes import Storage


def put_ahead(uri: str, queue: QueueRef, by: timedelta) -> None:
    """As if the primary's clock had been ahead when the queue was posted to the last time."""
    ahead = by // timedelta(milliseconds=1) * POSITIONS_PER_MS
    with pymongo.MongoClient[dict[str, object]](uri) as client:
        queues = client.get_default_database().queues
        queues.update_one({"_id": queue_key(queue)}, {"$inc": {"next": ahead}})


@pytest.mark.parametrize("ahead", [timedelta(), timedelta(hours=23)])
async def test_new_messages_have_new_ids_behind_all_markers(
    uri: str, queue: QueueRef, ahead: timedelta
) -> None:
    storage = await opened(uri)
    await post_one(storage, queue, "before the backup")
    backup = dump(uri)
    put_ahead(uri, queue, ahead)
    lost = (await post(storage, queue, bodies=[f"{number}" for number in range(20)])).ids
    await storage.close()
    restore(uri, backup)

    storage = await opened(uri)
    done = await storage.restored(now=START)
    new = (await post(storage, queue, bodies=[f"{number}" for number in range(20)])).ids

    assert done.ahead == 1
    assert set(new).isdisjoint(lost)
    assert await storage.messages.get(queue, lost, now=START) == []
    behind = await page(storage, queue, marker=lost[-1])
    assert [message.id for message in behind.messages] == new
    await storage.close()


async def test_a_restore_that_never_was_harms_nothing(
    storage: Storage, other_storage: Storage, queue: QueueRef
) -> None:
    marker = await post_one(storage, queue, "a")

    for _ in range(2):
        await storage.restored(now=START)
        await post_one(other_storage, queue, "b")
        await post_one(storage, queue, "c")

    assert bodies(await everything(storage, queue)) == ["a", *["b", "c"] * 2]
    assert bodies(await page(storage, queue, marker=marker)) == ["b", "c"] * 2
