"""The partitions in use are those of the settings and those that others have owed something in."""

from __future__ import annotations

from collections.abc import Sequence

from tests.clock import START
from tests.partitions import partition
from zaqar_notify.delivery import InternalPost
from zaqar_notify.delivery.partitions import LISTED_AT_ONCE, partitions_in_use
from zaqar_notify.models import NewMessage, QueueRef
from zaqar_notify.settings import Settings
from zaqar_notify.storage.internal import held_ref, outbox_ref, retry_ref, undelivered_ref
from zaqar_notify.storage.planes import Storage


async def owe(storage: Storage, refs: Sequence[QueueRef]) -> None:
    for ref in refs:
        await storage.post(ref, InternalPost([NewMessage(b"{}", ttl=60)]), now=START)


async def test_a_new_store_has_those_of_the_settings(storage: Storage) -> None:
    assert await partitions_in_use(storage, Settings(delivery_partitions=2)) == [
        partition(0),
        partition(1),
    ]


async def test_others_are_found_by_their_outbox_and_by_their_retries(storage: Storage) -> None:
    await owe(
        storage, [outbox_ref(partition()), outbox_ref(partition(10)), retry_ref(partition(3))]
    )

    assert await partitions_in_use(storage, Settings()) == [
        partition(0),
        partition(3),
        partition(10),
    ]


async def test_other_internal_queues_are_no_partitions(storage: Storage) -> None:
    await owe(storage, [held_ref("7"), undelivered_ref("8"), QueueRef("", "poison")])
    await owe(storage, [QueueRef("project", "outbox.9")])

    assert await partitions_in_use(storage, Settings()) == [partition(0)]


async def test_many_are_all_found(storage: Storage) -> None:
    numbers = range(LISTED_AT_ONCE + 1)
    await owe(storage, [outbox_ref(partition(number)) for number in numbers])

    assert await partitions_in_use(storage, Settings()) == [partition(number) for number in numbers]
