"""Every script touches the keys of one hash tag, and a partition's queues share theirs with its outbox."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack

import redis
from redis.asyncio import Redis

from tests.clock import START
from tests.contract.steps import (
    OUTBOX,
    bodies,
    claim,
    everything,
    hold,
    idempotency_key,
    page,
    post,
    subscribe,
)
from tests.redis_server import cluster_nodes
from zaqar_notify.delivery.partitions import partition_of
from zaqar_notify.models import DeadLetter, QueueRef
from zaqar_notify.storage.base.transfer import arriving
from zaqar_notify.storage.internal import Partition, internal_ref, outbox_ref, retry_ref
from zaqar_notify.storage.planes import Storage
from zaqar_notify.storage.redis.keys import Keys

OF_OURS = re.compile(r"test-\w+\{\d+\}")


def queues(count: int) -> list[QueueRef]:
    return [QueueRef("project", f"queue-{number}") for number in range(count)]


def test_a_queue_shares_its_tag_with_the_outbox_and_the_retry_queue_of_its_partition() -> None:
    for tags, partitions in ((1, 1), (1, 7), (4, 4), (4, 16), (16, 16)):
        keys = Keys("prefix", tags)
        for queue in queues(200):
            partition = partition_of(queue, partitions)
            assert keys.tag_of(queue) == keys.tag_of(outbox_ref(partition))
            assert keys.tag_of(queue) == keys.tag_of(retry_ref(partition))


def test_a_queue_that_arrives_from_another_store_has_its_tag_before_it_is_activated() -> None:
    keys = Keys("prefix", 16)
    strange = [QueueRef("a.b.3.", "c.d"), QueueRef("", "held.1"), QueueRef("7.x", "y")]

    for queue in [*queues(50), *strange]:
        assert keys.tag_of(internal_ref(arriving("move", queue))) == keys.tag_of(queue)


def test_outboxes_are_spread_over_all_tags() -> None:
    keys = Keys("prefix", 4)

    assert {keys.tag_of(outbox_ref(Partition("default", n))) for n in range(16)} == {0, 1, 2, 3}


async def test_all_keys_of_a_script_are_in_one_slot(storage: Storage) -> None:
    """Those that the nodes say they were asked for, by scripts and by commands."""
    seen = await _commands_during(_use_everything(storage))
    slots: dict[str, set[int]] = defaultdict(set)
    with redis.Redis.from_url(cluster_nodes()[0]) as node:
        for caller, words in seen:
            keys = {word for word in words if OF_OURS.match(word)}
            of_these = {int(node.cluster("KEYSLOT", key)) for key in keys}
            assert len(of_these) <= 1, words
            slots[caller] |= of_these

    assert len(slots["lua"]) == 4


async def _use_everything(storage: Storage) -> None:
    for queue in queues(8):
        await subscribe(storage, queue)
        await post(storage, queue, bodies=["a", "b", "c"], key=idempotency_key())
        await post(storage, queue, bodies=["later"], delay=60)
        rule = DeadLetter(QueueRef(queue.project, "dead"), 1, None)
        held = await hold(storage, queue, ttl=0, limit=1, dead_letter=rule)
        assert bodies(held) == ["a"]
        await claim(storage, queue, dead_letter=rule)
        await storage.messages.pop(queue, limit=1, now=START)
        await page(storage, queue)
        await everything(storage, OUTBOX)
        await storage.messages.stats(queue, now=START)
        await storage.messages.purge(queue, now=START)
        await storage.queues.delete(queue, now=START)
    await storage.sweep(now=START, limit=100)


async def _commands_during(use: Coroutine[object, object, None]) -> list[tuple[str, list[str]]]:
    """The words of each command that a node is sent meanwhile, and the kind of its sender."""
    found: list[tuple[str, list[str]]] = []
    nodes = [Redis.from_url(uri) for uri in cluster_nodes()]
    async with AsyncExitStack() as ends:
        monitors = [await ends.enter_async_context(node.monitor()) for node in nodes]
        using = asyncio.create_task(_then(use, nodes))
        for monitor in monitors:
            while "the-end" not in (one := await monitor.next_command())["command"]:
                found.append((one["client_type"], one["command"].split(" ")))
        await using
    for node in nodes:
        await node.aclose()
    return found


async def _then(use: Coroutine[object, object, None], nodes: Sequence[Redis]) -> None:
    try:
        await use
    finally:
        for node in nodes:
            await node.echo("the-end")
