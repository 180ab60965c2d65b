"""Ready means able: a store that can't acknowledge is said not to be ready, and why."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.mongod import ReplicaSet, require_mongod
from tests.mongodb.opened import opened
from zaqar_notify import readiness
from zaqar_notify.errors import StorageLeaderless
from zaqar_notify.readiness import Readiness
from zaqar_notify.storage.mongodb import diagnosis
from zaqar_notify.storage.planes import Storage

# The library leaves connections behind whose making was cut short; they go with the garbage.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def with_arbiter() -> Iterator[ReplicaSet]:
    """Two members with data, and one that only votes: a primary outlives one, a majority does not."""
    require_mongod()
    members = ReplicaSet(3, has_arbiter=True)
    members.start()
    yield members
    members.stop()


@pytest.fixture
async def storage(with_arbiter: ReplicaSet) -> AsyncIterator[Storage]:
    storage = await opened(with_arbiter.uri("ready"))
    yield storage
    await storage.close()


async def test_a_frozen_secondary_beside_an_arbiter_is_not_ready_until_it_is_back(
    with_arbiter: ReplicaSet, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "READY_SECONDS", 0)
    monkeypatch.setattr(diagnosis, "PROOF_MS", 300)
    process = Readiness()
    assert await process.is_able(storage)

    with_arbiter.members[2].pause()
    try:
        with pytest.raises(StorageLeaderless, match=r"No majority .* is a member .* frozen"):
            await process.check(storage)
        await storage.ping()
    finally:
        with_arbiter.members[2].go_on()

    while not await process.is_able(storage):
        continue


async def test_a_set_without_a_primary_is_said_to_have_none(
    with_arbiter: ReplicaSet, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Last, since nothing is left to do with the set."""
    monkeypatch.setattr(readiness, "ANSWER_SECONDS", 60)
    for member in with_arbiter.members[1:]:
        member.kill()
    primary = with_arbiter.members[0]
    with primary.client() as client:
        while client.admin.command("hello")["isWritablePrimary"]:
            continue

    with pytest.raises(StorageLeaderless, match=r"no primary|is not the primary"):
        await Readiness().check(storage)
