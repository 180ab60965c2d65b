"""Claims of a process that is gone: the lock on the file shows that they have no holder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.steps import after, bodies, claim, everything, hold, post
from tests.partitions import partition
from zaqar_notify.delivery.poison import POISON_SECONDS, poison_rule
from zaqar_notify.models import QueueRef
from zaqar_notify.settings import Settings
from zaqar_notify.storage.base import FREED_AT_START_CLAIMS
from zaqar_notify.storage.internal import POISON_REF, outbox_ref, retry_ref
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.registry import open_storage


async def reopened(storage: Storage, directory: Path) -> Storage:
    """The store as the next process opens it; nothing was given back before."""
    await storage.close()
    return await open_storage(f"sqlite:///{directory}/store.db")


async def test_the_engines_claims_are_free_at_once_and_consumers_are_kept(tmp_path: Path) -> None:
    storage = await open_storage(f"sqlite:///{tmp_path}/store.db")
    theirs = QueueRef("project", "orders")
    internal = (outbox_ref(partition()), retry_ref(partition(3)))
    for ref in (*internal, theirs):
        await post(storage, ref, bodies=["a", "b", "done"])
        held = await hold(storage, ref, ttl=3600)
        await storage.messages.delete(
            ref, held.messages[2].id, claim_id=held.id, now=held.messages[2].posted_at
        )

    storage = await reopened(storage, tmp_path)

    assert await claim(storage, theirs) is None
    for ref in internal:
        again = await hold(storage, ref)
        assert bodies(again) == ["a", "b"]
        assert [message.claim_count for message in again.messages] == [2, 2]
    await storage.close()


async def test_a_job_that_ended_its_process_time_and_again_waits_for_its_lease(
    tmp_path: Path,
) -> None:
    storage = await open_storage(f"sqlite:///{tmp_path}/store.db")
    await post(storage, outbox_ref(partition()), bodies=["deadly"])
    for _ in range(FREED_AT_START_CLAIMS):
        await hold(storage, outbox_ref(partition()), ttl=3600)
        storage = await reopened(storage, tmp_path)
    await hold(storage, outbox_ref(partition()), ttl=3600)

    storage = await reopened(storage, tmp_path)

    assert await claim(storage, outbox_ref(partition())) is None
    await storage.close()


async def test_only_a_job_that_was_in_hand_at_kills_for_ten_minutes_is_put_aside(
    tmp_path: Path,
) -> None:
    storage = await open_storage(f"sqlite:///{tmp_path}/store.db")
    lease_seconds = Settings().delivery_lease_seconds
    rule = poison_rule(lease_seconds)
    await post(storage, outbox_ref(partition()), bodies=["unlucky"])

    seconds = 0
    while await everything(storage, POISON_REF, now=after(seconds)) == []:
        await claim(
            storage,
            outbox_ref(partition()),
            ttl=lease_seconds,
            dead_letter=rule,
            now=after(seconds),
        )
        storage = await reopened(storage, tmp_path)
        seconds += lease_seconds // 2

    assert seconds == pytest.approx(POISON_SECONDS, rel=0.1)
    await storage.close()
