"""Documents that deleted and purged queues leave, and their removal."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.clock import START, ManualClock
from tests.contract.steps import after, bodies, claim, everything, idempotency_key, post, subscribe
from tests.mongodb.commands import Commands
from tests.mongodb.opened import store_of
from tests.partitions import partition
from tests.workers.office import until
from workers.outages import Stop
from workers.periodic import SWEEP, sweep, sweep_regularly
from zaqar_notify.cli import app
from zaqar_notify.delivery import OWED_TTL_SECONDS, InternalPost
from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import NewMessage, QueueRef
from zaqar_notify.settings import Settings
from zaqar_notify.storage.internal import POISON_REF, outbox_ref, queues_of_subscription
from zaqar_notify.storage.mongodb import leasing
from zaqar_notify.storage.mongodb.documents import queue_key
from zaqar_notify.storage.planes import Storage

PURGES = 3


async def purge_several(storage: Storage, queue: QueueRef) -> None:
    for number in range(PURGES):
        await post(storage, queue, bodies=[f"{number}"])
        await storage.messages.purge(queue, now=START)


async def document_of(storage: Storage, queue: QueueRef) -> dict[str, Any]:
    stored = await store_of(storage).collections.queues.find_one({"_id": queue_key(queue)})
    assert stored is not None
    return stored


async def test_one_sweep_takes_away_all_that_purges_left_behind(
    storage: Storage, queue: QueueRef
) -> None:
    await purge_several(storage, queue)
    former = (await document_of(storage, queue))["dropped"]
    assert len(former) == PURGES

    await sweep(storage, clock=ManualClock(), stop=Stop())

    assert "dropped" not in await document_of(storage, queue)
    left = {"queue": {"$in": former}, "due": {"$exists": True}}
    assert await store_of(storage).collections.messages.count_documents(left) == 0


async def test_no_process_ever_meets_an_empty_list_of_former_queues(
    storage: Storage, other_storage: Storage, queue: QueueRef
) -> None:
    lists: list[object] = []
    stages = [{"$match": {"documentKey._id": queue_key(queue), "operationType": "update"}}]
    async with await store_of(storage).collections.durable_queues.watch(stages) as changes:
        await purge_several(storage, queue)
        for _ in range(PURGES):
            await asyncio.gather(
                sweep(storage, clock=ManualClock(), stop=Stop()),
                sweep(other_storage, clock=ManualClock(), stop=Stop()),
            )
        # The last of the changes, by which one knows that there are no more.
        await store_of(storage).collections.queues.update_one(
            {"_id": queue_key(queue)}, {"$set": {"end": True}}
        )
        async for change in changes:
            updated = change["updateDescription"]["updatedFields"]
            if "end" in updated:
                break
            if "dropped" in updated:
                lists.append(updated["dropped"])

    assert lists
    assert [] not in lists


async def test_a_queue_that_comes_back_just_as_it_is_forgotten_keeps_its_messages(
    storage: Storage,
    other_storage: Storage,
    queue: QueueRef,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was deleted two days ago; the sweep comes between the look at its head and the new one."""
    now = datetime.now(UTC)
    await post(storage, queue, bodies=["old"], now=now)
    await storage.queues.delete(queue, now=START)
    await sweep(storage, clock=ManualClock(now), stop=Stop())
    await store_of(storage).collections.queues.update_one(
        {"_id": queue_key(queue)}, {"$set": {"unused_since": now - timedelta(days=2)}}
    )
    put = storage.heads.put

    async def sweep_first(*args: Any, **kwargs: Any) -> bool:
        await sweep(other_storage, clock=ManualClock(now), stop=Stop())
        return await put(*args, **kwargs)

    monkeypatch.setattr(storage.heads, "put", sweep_first)
    await post(storage, queue, bodies=["new"], now=now)

    assert bodies(await everything(other_storage, queue, now=now)) == ["new"]


async def test_many_that_expired_together_cost_a_small_claim_few_commands(
    commands: Commands, storage: Storage, queue: QueueRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leasing, "REMOVED_AT_ONCE", 100)
    await post(storage, queue, bodies=[f"{number}" for number in range(250)], ttl=60)
    await post(storage, queue, bodies=["a"], now=after(61))
    commands.sent.clear()

    claimed = await claim(storage, queue, limit=1, now=after(61))

    assert claimed is not None
    assert bodies(claimed) == ["a"]
    # The record; the first look; three looks and removals; one more look, and the claim.
    assert len(commands.sent) == 1 + 1 + 3 * 2 + 1 + 1


async def test_the_server_removes_nothing_by_itself_but_seals_and_fences(
    storage: Storage, queue: QueueRef
) -> None:
    await subscribe(storage, queue)
    await post(storage, queue, bodies=["a"], ttl=60, key=idempotency_key())
    ttl_indexes: dict[str, dict[str, Any]] = {}
    for collection in (
        store_of(storage).collections.queues,
        store_of(storage).collections.messages,
        store_of(storage).collections.subscriptions,
    ):
        for name, index in (await collection.index_information()).items():
            if "expireAfterSeconds" in index:
                ttl_indexes[f"{collection.name}.{name}"] = index

    [(name, index)] = ttl_indexes.items()
    assert name == "messages.reclaim_at"
    assert index["key"] == [("reclaim_at", 1)]
    assert index["expireAfterSeconds"] == 0
    reclaimed = (
        await store_of(storage)
        .collections.messages.find({"reclaim_at": {"$exists": True}})
        .to_list()
    )
    assert {"due" in stored or "fingerprint" in stored for stored in reclaimed} == {False}


async def test_the_sweep_falls_to_one_worker_at_a_time(
    storage: Storage, other_storage: Storage
) -> None:
    for instant in (START, after(1), after(2)):
        turns = await asyncio.gather(
            *(
                one.take_turn(SWEEP, seconds=1, now=instant)
                for one in (storage, other_storage, storage)
            )
        )

        assert sorted(turns) == [False, False, True]
    assert not await storage.take_turn(SWEEP, seconds=1, now=after(2.9))


async def test_a_worker_leaves_the_sweep_to_the_one_whose_turn_it_is(
    storage: Storage, commands: Commands, other_storage: Storage
) -> None:
    await storage.take_turn(SWEEP, seconds=3600, now=START)
    commands.sent.clear()
    stop = Stop()
    sweeping = asyncio.create_task(
        sweep_regularly(
            other_storage, clock=ManualClock(), settings=Settings(sweep_seconds=0.01), stop=stop
        )
    )

    await until(lambda: len(commands.sent) >= 3)
    stop.set()
    await sweeping

    assert {command.get("update") for command in commands.sent} == {"duties"}


async def test_the_command_gives_back_what_was_put_aside(
    uri: str, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = {"job": "fan_out", "version": 99, "project": "p", "queue": "orders"}
    message = NewMessage(body=json.dumps(later).encode(), ttl=OWED_TTL_SECONDS)
    await storage.post(POISON_REF, InternalPost([message]), now=datetime.now(UTC))
    monkeypatch.setenv("ZAQAR_STORE_URI", uri)

    shown = await asyncio.to_thread(CliRunner().invoke, app, ["poison", "list"])
    given_back = await asyncio.to_thread(CliRunner().invoke, app, ["poison", "retry", "--json"])
    nothing = await asyncio.to_thread(CliRunner().invoke, app, ["poison", "list"])

    heading, line = shown.stdout.splitlines()
    assert heading.split()[:4] == ["ID", "JOB", "PROJECT", "QUEUE"]
    assert line.split()[1:5] == ["fan_out", "p", "orders", "-"]
    assert given_back.exit_code == 0
    assert json.loads(given_back.stdout)[0]["queue"] == "orders"
    assert nothing.stdout == ""
    [job] = await everything(storage, outbox_ref(partition()), now=datetime.now(UTC))
    assert json.loads(job.body) == later


async def test_a_deletion_that_broke_off_is_finished_by_the_sweep(
    storage: Storage, queue: QueueRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscription = await subscribe(storage, queue)
    for own in queues_of_subscription(subscription.id):
        await post(storage, own, bodies=["owed"])

    async def dies(refs: object) -> None:
        raise StorageUnavailable("The process ends here")

    with monkeypatch.context() as patches:
        patches.setattr(storage.heads, "drop_internal", dies)
        with pytest.raises(StorageUnavailable):
            await storage.subscriptions.delete(queue, subscription.id)
    assert await storage.subscriptions.get(queue, subscription.id, now=START) is None

    assert await storage.subscriptions.remove_expired(now=START, limit=10) == []

    for own in queues_of_subscription(subscription.id):
        assert await storage.heads.get(own) is None
    assert (await post(storage, queue, bodies=["a"])).owes_deliveries is False
