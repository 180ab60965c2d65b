"""Addresses that get nothing more from a project."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from tests.clock import START
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import open_storage
from zaqar_notify.storage.suppressions import Suppression

ONE = Suppression("a1", "mailto:@example.org", "orders", "s1", START)


@pytest.fixture
def project(queue: QueueRef) -> str:
    return queue.project


async def test_a_suppression_is_of_its_project_alone(storage: Storage, project: str) -> None:
    suppressions = storage.control.suppressions

    await suppressions.add(project, ONE)

    assert await suppressions.get(project, "a1") == ONE
    assert await suppressions.get(f"{project}2", "a1") is None
    assert await suppressions.get(project, "a") is None
    assert await suppressions.list(f"{project}2", marker=None, limit=10) == []


async def test_the_first_suppression_of_an_address_stays(storage: Storage, project: str) -> None:
    suppressions = storage.control.suppressions
    later = [replace(ONE, queue=f"q{number}") for number in range(10)]
    await suppressions.add(project, ONE)

    await asyncio.gather(*(suppressions.add(project, each) for each in later))

    assert await suppressions.list(project, marker=None, limit=10) == [ONE]


async def test_suppressions_are_listed_by_id(storage: Storage, project: str) -> None:
    suppressions = storage.control.suppressions
    for suppression_id in ("c", "a", "b"):
        await suppressions.add(project, replace(ONE, id=suppression_id))

    first = await suppressions.list(project, marker=None, limit=2)
    rest = await suppressions.list(project, marker="b", limit=2)

    assert [each.id for each in (*first, *rest)] == ["a", "b", "c"]


async def test_a_removed_suppression_is_gone_and_may_come_back(
    storage: Storage, project: str
) -> None:
    suppressions = storage.control.suppressions
    await suppressions.add(project, ONE)

    for _ in range(2):
        await suppressions.remove(project, "a1")
    is_gone = await suppressions.get(project, "a1") is None
    listed = await suppressions.list(project, marker=None, limit=10)
    again = replace(ONE, queue="again")
    await suppressions.add(project, again)

    assert is_gone
    assert listed == []
    assert await suppressions.get(project, "a1") == again


async def test_a_suppression_outlives_the_process(store_uri: str, project: str) -> None:
    storage = await open_storage(store_uri)
    await storage.control.suppressions.add(project, ONE)
    await storage.close()

    storage = await open_storage(store_uri)

    assert await storage.control.suppressions.get(project, "a1") == ONE
    await storage.close()
