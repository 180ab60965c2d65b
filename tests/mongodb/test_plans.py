"""The server reads an index in order for each hot query, and does little else.

The queries are the driver's own, caught on their way and explained.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.clock import START
from tests.contract.steps import (
    after,
    bodies,
    claim,
    hold,
    idempotency_key,
    ids,
    page,
    post,
    subscribe,
    subscription,
)
from tests.keys import K1, K2, reopening
from tests.mongodb.commands import Command, Commands
from tests.mongodb.opened import store_of
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.planes import Storage
from zaqar_notify.subscriptions import renewal

WAITING = 3000
HELD = 500
EXPLAINED = {
    "find": ("queues", "messages", "subscriptions", "catalogue"),
    "update": ("messages",),
    "delete": ("messages",),
}
"""By command the collections of interest; a reservation is by `_id` alone."""


@pytest.fixture(autouse=True)
def _all_is_heard(commands: Commands) -> None:
    """From before the store is opened."""


@pytest.fixture
async def full_queue(storage: Storage, queue: QueueRef) -> QueueRef:
    """A queue with held, lapsed, expired and delayed messages before and among the waiting ones."""
    await post(storage, queue, bodies=[f"held {number}" for number in range(HELD)])
    await hold(storage, queue, limit=HELD, ttl=600)
    await post(storage, queue, bodies=[f"delayed {number}" for number in range(HELD)], delay=600)
    await post(storage, queue, bodies=[f"{number}" for number in range(WAITING)])
    return queue


@asynccontextmanager
async def explained(storage: Storage, commands: Commands) -> AsyncIterator[list[Command]]:
    """The plans of the commands that are sent inside, as executed once more after it."""
    commands.sent.clear()
    plans: list[Command] = []
    yield plans
    database = store_of(storage).collections.messages.database
    for sent in list(commands.sent):
        name = next(iter(sent))
        if sent[name] in EXPLAINED.get(name, ()):
            plans.extend([await explain(database, one) for one in statements(name, sent)])


def statements(name: str, sent: Command) -> list[Command]:
    """One command for each statement, without the fields of its sending."""
    if name == "find":
        return [{key: value for key, value in sent.items() if key in FIND_KEYS}]
    part = f"{name}s"
    return [{name: sent[name], part: [statement]} for statement in sent[part]]


FIND_KEYS = ("find", "filter", "sort", "limit", "projection", "hint", "batchSize")


async def explain(database: Any, command: Command) -> Command:
    plan: Command = await database.command("explain", command, verbosity="executionStats")
    return plan


def sent_to(commands: Commands) -> list[str]:
    """Each command's name and collection."""
    return [" ".join(map(str, next(iter(sent.items())))) for sent in commands.sent]


def stages(plan: Command) -> list[str]:
    """The names of all stages of the winning plan, outermost first."""
    names: list[str] = []
    stage: Command | None = plan["queryPlanner"]["winningPlan"]
    while stage is not None:
        names.append(stage["stage"])
        stage = stage.get("inputStage")
    return names


def assert_cheap(plans: list[Command], *, examined: int) -> None:
    assert plans
    for plan in plans:
        assert "COLLSCAN" not in stages(plan)
        assert "SORT" not in stages(plan)
        assert "IXSCAN" in stages(plan) or "IDHACK" in stages(plan)
        assert plan["executionStats"]["totalDocsExamined"] <= examined
        assert plan["executionStats"]["totalKeysExamined"] <= examined + 2


async def test_a_claim_reads_as_many_as_it_takes(
    storage: Storage, commands: Commands, full_queue: QueueRef
) -> None:
    async with explained(storage, commands) as plans:
        held = await hold(storage, full_queue, limit=10)

    assert bodies(held) == [f"{number}" for number in range(10)]
    assert_cheap(plans, examined=10)


async def test_a_claim_without_a_rival_is_two_reads_and_one_write(
    storage: Storage, commands: Commands, full_queue: QueueRef
) -> None:
    commands.sent.clear()

    await hold(storage, full_queue, limit=10)

    assert sent_to(commands) == ["find queues", "find messages", "update messages"]


async def test_deletions_under_claims_are_one_write(
    storage: Storage, commands: Commands, full_queue: QueueRef
) -> None:
    claims = [await hold(storage, full_queue, limit=10) for _ in range(2)]
    commands.sent.clear()

    await asyncio.gather(
        *(
            storage.messages.delete(full_queue, message.id, claim_id=held.id, now=START)
            for held in claims
            for message in held.messages
        )
    )

    assert sent_to(commands) == ["delete messages"]


async def test_a_page_reads_as_many_as_it_shows(
    storage: Storage, commands: Commands, full_queue: QueueRef
) -> None:
    first = await page(storage, full_queue, limit=1000)
    async with explained(storage, commands) as plans:
        await page(storage, full_queue, limit=10)
        await page(storage, full_queue, limit=10, marker=first.marker)

    assert_cheap(plans, examined=10)


async def test_a_page_of_all_states_reads_as_many_as_it_shows(
    storage: Storage, commands: Commands, full_queue: QueueRef
) -> None:
    async with explained(storage, commands) as plans:
        await page(storage, full_queue, limit=10, include_claimed=True, include_delayed=True)

    # The seals of blocks lie between messages, one a batch.
    assert_cheap(plans, examined=12)


async def test_what_fell_due_is_freed_at_the_cost_of_its_number(
    storage: Storage, commands: Commands, full_queue: QueueRef
) -> None:
    async with explained(storage, commands) as plans:
        held = await hold(storage, full_queue, limit=10, now=after(600))

    assert bodies(held) == [f"held {number}" for number in range(10)]
    assert_cheap(plans, examined=500)


async def test_deletes_and_renewals_read_what_they_change(
    storage: Storage, commands: Commands, full_queue: QueueRef
) -> None:
    held = await hold(storage, full_queue, limit=10)
    async with explained(storage, commands) as plans:
        await storage.claims.renew(full_queue, held.id, ttl=60, grace=60, now=after(1))
        await storage.claims.get(full_queue, held.id, now=after(1))
        for message in held.messages:
            await storage.messages.delete(full_queue, message.id, claim_id=held.id, now=after(1))

    assert_cheap(plans, examined=10)


async def test_an_empty_claim_reads_next_to_nothing_however_much_is_held(
    storage: Storage, commands: Commands, queue: QueueRef
) -> None:
    await post(storage, queue, bodies=[f"{number}" for number in range(HELD)])
    await hold(storage, queue, limit=HELD, ttl=600)
    async with explained(storage, commands) as plans:
        assert await claim(storage, queue) is None
        assert bodies(await page(storage, queue)) == []

    # The queue's own document.
    assert_cheap(plans, examined=1)


async def test_pops_and_deletions_of_several_read_what_they_take(
    storage: Storage, commands: Commands, full_queue: QueueRef
) -> None:
    shown = await page(storage, full_queue, limit=20)
    async with explained(storage, commands) as plans:
        popped = await storage.messages.pop(full_queue, limit=10, now=START)
        await storage.messages.delete_many(full_queue, ids(shown)[10:], claim_ids=None, now=START)

    assert [message.id for message in popped] == ids(shown)[:10]
    assert_cheap(plans, examined=10)


async def test_a_repeated_key_reads_itself_and_the_seal(
    storage: Storage, commands: Commands, full_queue: QueueRef
) -> None:
    posted = await post(storage, full_queue, bodies=["a"], key=idempotency_key())
    async with explained(storage, commands) as plans:
        again = await post(storage, full_queue, bodies=["a"], key=idempotency_key())

    assert again.ids == posted.ids
    assert_cheap(plans, examined=1)


async def test_the_subscriptions_of_a_queue_are_read_without_those_of_others(
    storage: Storage, commands: Commands, queue: QueueRef
) -> None:
    for name in ("orders", "orders2", "aorders"):
        for number in range(5):
            await subscribe(storage, QueueRef(queue.project, name), f"http://{number}.example.com")
    async with explained(storage, commands) as plans:
        listed = await storage.subscriptions.list(queue, marker=None, limit=100, now=START)

    assert len(listed) == 5
    assert_cheap(plans, examined=5)


async def test_a_missing_key_of_a_queue_s_subscriptions_is_looked_for_in_one_step(
    uri: str, commands: Commands, queue: QueueRef
) -> None:
    async with reopening(uri) as reopen:
        storage = await reopen(K1)
        for number in range(20):
            await subscribe(storage, QueueRef(queue.project, "orders2"), f"http://{number}")
        for keys in (K1, K2):
            storage = await reopen(keys)
            one = subscription(queue)
            async with explained(storage, commands) as plans:
                await storage.control.subscriptions.create(one, renew=renewal(one), now=START)
            assert len(plans) == 2
            assert_cheap(plans, examined=1)
            await storage.subscriptions.delete(queue, one.id)


async def test_what_falls_due_next_is_found_in_one_step(
    storage: Storage, commands: Commands, full_queue: QueueRef
) -> None:
    async with explained(storage, commands) as plans:
        assert await store_of(storage)._next_due(full_queue) is not None

    assert_cheap(plans, examined=1)


async def test_the_catalogue_is_read_by_its_indexes(
    storage: Storage, commands: Commands, queue: QueueRef
) -> None:
    catalogue = storage.control.catalogue
    for number in range(20):
        await catalogue.place(QueueRef(queue.project, f"{number}"), f"p{number % 4}", now=START)
    [*_, last] = await catalogue.doubted(before=after(1), limit=20)
    await catalogue.doubt(last.ref, now=after(-9))
    async with explained(storage, commands) as plans:
        assert await catalogue.get(last.ref)
        assert len(await catalogue.of_pool("p1", after=None, limit=10)) == 5
        assert await catalogue.doubted(before=START, limit=10)

    assert len(plans) == 3
    assert_cheap(plans, examined=5)
