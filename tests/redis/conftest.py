"""Stores on a Redis Cluster of two nodes, with several hash tags."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.contract.conftest import other_queue, queue
from tests.redis_server import cluster_uri
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import open_storage

__all__ = ["other_queue", "queue"]


@pytest.fixture
def store_uri() -> str:
    return cluster_uri()


@pytest.fixture
async def storage(store_uri: str) -> AsyncIterator[Storage]:
    storage = await open_storage(store_uri)
    yield storage
    await storage.close()
