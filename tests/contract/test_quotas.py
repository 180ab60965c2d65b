"""Quotas that projects have of their own."""

from __future__ import annotations

import asyncio

import pytest

from zaqar_notify.errors import ValidationFailed
from zaqar_notify.models import QueueRef
from zaqar_notify.quotas import change
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import open_storage


async def test_a_project_has_no_quotas_of_its_own_at_first(
    storage: Storage, queue: QueueRef
) -> None:
    assert await storage.control.quotas.get(queue.project) == {}
    assert queue.project not in await storage.control.quotas.all()


async def test_values_are_kept_until_they_are_changed_or_removed(
    storage: Storage, queue: QueueRef
) -> None:
    quotas = storage.control.quotas
    await quotas.change(queue.project, {"queues": 3, "stored_bytes": 10**15})

    changed = await quotas.change(queue.project, {"queues": None, "long_polls": 0})

    assert changed == {"stored_bytes": 10**15, "long_polls": 0}
    assert await quotas.get(queue.project) == changed


async def test_those_of_all_projects_are_read_together(storage: Storage, queue: QueueRef) -> None:
    quotas, other = storage.control.quotas, f"{queue.project}.$with/oddities"
    await quotas.change(queue.project, {"queues": 3})
    await quotas.change(other, {"queues": 4})

    every = await quotas.all()

    assert {queue.project: {"queues": 3}, other: {"queues": 4}}.items() <= every.items()


async def test_every_change_raises_the_revision(storage: Storage, queue: QueueRef) -> None:
    quotas = storage.control.quotas
    before = await quotas.revision()

    for value in (1, 1, None):
        await quotas.change(queue.project, {"queues": value})

    assert await quotas.revision() == before + 3


async def test_changes_beside_each_other_are_all_made(storage: Storage, queue: QueueRef) -> None:
    quotas = storage.control.quotas
    names = [f"quota_{number}" for number in range(10)]

    await asyncio.gather(*(quotas.change(queue.project, {name: 1}) for name in names))

    assert await quotas.get(queue.project) == dict.fromkeys(names, 1)


async def test_quotas_are_there_after_a_restart(store_uri: str, queue: QueueRef) -> None:
    storage = await open_storage(store_uri)
    await storage.control.quotas.change(queue.project, {"queues": 3})
    await storage.close()

    storage = await open_storage(store_uri)

    assert await storage.control.quotas.get(queue.project) == {"queues": 3}
    await storage.close()


@pytest.mark.parametrize("project", ["", "p" * 257])
async def test_a_project_that_can_have_no_queues_has_no_quotas(
    storage: Storage, project: str
) -> None:
    before = await storage.control.quotas.revision()

    with pytest.raises(ValidationFailed):
        await change(storage, project, {"queues": 1})

    assert await storage.control.quotas.revision() == before
