"""Heads of queues that two processes make and drop at the same time."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clock import START
from tests.contract.steps import everything, post
from tests.mongodb.opened import store_of
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.planes import Storage


async def test_a_queue_that_gets_its_head_during_its_deletion_is_deleted_whole(
    storage: Storage, other_storage: Storage, queue: QueueRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deletion has seen no head when another process's first post makes it, beside the record."""
    await storage.control.records.create(queue, metadata={}, now=START)
    queues = store_of(storage).collections.queues
    update = queues.update_one

    async def post_first(*arguments: Any, **options: Any) -> object:
        monkeypatch.setattr(queues, "update_one", update)
        await post(other_storage, queue, bodies=["a"])
        return await update(*arguments, **options)

    monkeypatch.setattr(queues, "update_one", post_first)

    await storage.queues.delete(queue, now=START)

    assert await storage.queues.get(queue) is None
    assert await storage.heads.get(queue) is None
    assert await everything(storage, queue) == []
