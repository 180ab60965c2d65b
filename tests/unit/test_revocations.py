"""Revocations of pre-signed URLs, as one process knows those that another made."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.clock import START
from zaqar_notify.auth import Revocations
from zaqar_notify.errors import SignatureRefused, StorageUnavailable
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import open_storage
from zaqar_notify.storage.sqlite.shares import SQLiteShares

REF = QueueRef("p1", "q")


class Process:
    """The revocations of one process; it counts the questions to the store."""

    def __init__(self, storage: Storage) -> None:
        self.seconds = 0.0
        self.asked = 0
        self._generation = storage.control.shares.generation
        shares = storage.control.shares
        shares.generation = self._ask  # type: ignore[method-assign]
        self._revocations = Revocations(shares, now=lambda: self.seconds)

    async def admits(self, generation: int) -> bool:
        try:
            await self._revocations.check(REF, generation)
        except SignatureRefused:
            return False
        return True

    async def _ask(self, ref: QueueRef) -> int:
        self.asked += 1
        return await self._generation(ref)


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[Storage]:
    storage = await open_storage(f"sqlite://{tmp_path}/zaqar.db")
    yield storage
    await storage.close()


async def revoke(storage: Storage) -> int:
    """Revoke as another process; the generation that begins."""
    await storage.control.shares.revoke(REF, now=START)
    return await SQLiteShares.generation(storage.control.shares, REF)  # type: ignore[arg-type]


async def test_a_revocation_is_known_within_three_seconds(storage: Storage) -> None:
    process = Process(storage)
    assert await process.admits(0)
    await revoke(storage)

    process.seconds = 2.999
    assert await process.admits(0)
    assert process.asked == 1

    process.seconds = 3
    assert not await process.admits(0)


async def test_a_later_generation_than_is_known_counts_at_once(storage: Storage) -> None:
    process = Process(storage)
    await process.admits(0)

    generation = await revoke(storage)

    assert await process.admits(generation)
    assert not await process.admits(0)


async def test_revoked_urls_ask_the_store_no_more_often_than_others(storage: Storage) -> None:
    process = Process(storage)
    generation = await revoke(storage)

    for each in (0, generation, generation - 1, 0):
        await process.admits(each)

    assert process.asked == 1


async def test_with_the_store_away_what_is_known_goes_on_and_the_rest_is_no_refusal(
    storage: Storage,
) -> None:
    known, new = Process(storage), Process(storage)
    assert await known.admits(0)
    await storage.close()

    known.seconds = 60
    assert await known.admits(0)
    with pytest.raises(StorageUnavailable):
        await new.admits(0)
