"""Stopping a writer between its reservation and its insert, in the insert, or right after it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pymongo.errors import AutoReconnect

from tests.clock import START
from tests.contract.steps import post
from tests.mongodb.opened import store_of
from zaqar_notify.models import Posted, QueueRef
from zaqar_notify.storage.base import IdempotencyKey
from zaqar_notify.storage.mongodb import reserving
from zaqar_notify.storage.planes import Storage

Command = Callable[..., Awaitable[object]]


class Stopped:
    """A writer that stands still: `begun` once it got there, until `go_on` is set."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()


def before_taking_back(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, do: Callable[[], Awaitable[object]]
) -> None:
    """Do something when the store's writer is about to remove the messages of a refused post."""
    messages = store_of(storage).collections.messages
    delete: Command = messages.delete_many

    async def do_and_delete(*arguments: Any, **options: Any) -> object:
        await do()
        return await delete(*arguments, **options)

    monkeypatch.setattr(messages, "delete_many", do_and_delete)


@asynccontextmanager
async def stopped_at_insert(storage: Storage, *, after: bool = False) -> AsyncIterator[Stopped]:
    """The store's next insert of a batch waits before (or after) it is made."""
    messages = store_of(storage).collections.messages
    insert: Command = messages.insert_many
    stopped = Stopped()

    async def insert_many(*arguments: Any, **options: Any) -> object:
        messages.insert_many = insert  # type: ignore[method-assign,assignment]
        if not after:
            stopped.begun.set()
            await stopped.go_on.wait()
        result = await insert(*arguments, **options)
        if after:
            stopped.begun.set()
            await stopped.go_on.wait()
        return result

    messages.insert_many = insert_many  # type: ignore[method-assign,assignment]
    try:
        yield stopped
    finally:
        stopped.go_on.set()


@asynccontextmanager
async def stopped_post(
    storage: Storage,
    queue: QueueRef,
    *,
    bodies: Sequence[str],
    key: IdempotencyKey | None = None,
    after: bool = False,
) -> AsyncIterator[tuple[Stopped, asyncio.Task[Posted]]]:
    """A post that waits before its insert (or after it) is made."""
    # The first post to a queue makes its head, and begins again.
    await storage.queues.create(queue, metadata={}, now=START)
    async with stopped_at_insert(storage, after=after) as stopped:
        posting = asyncio.create_task(post(storage, queue, bodies=bodies, key=key))
        await stopped.begun.wait()
        yield stopped, posting


async def kill_in_insert(
    storage: Storage, call: Coroutine[Any, Any, object], *, behind: int
) -> None:
    """Let the process of a post (or a move) die when so many documents of its insert are made."""
    messages: Any = store_of(storage).collections.messages
    insert: Command = messages.insert_many
    half_done = asyncio.Event()
    writer: asyncio.Task[Any] | None = None

    async def insert_some(documents: list[dict[str, object]]) -> None:
        nonlocal writer
        writer = asyncio.current_task()
        if behind:
            await insert(documents[:behind])
        half_done.set()
        await asyncio.Event().wait()

    messages.insert_many = insert_some
    caller = asyncio.create_task(call)
    waiting = asyncio.create_task(half_done.wait())
    await asyncio.wait((caller, waiting), return_when=asyncio.FIRST_COMPLETED)
    assert not caller.done(), caller
    messages.insert_many = insert
    assert writer is not None
    for task in (caller, writer):
        task.cancel()
    await asyncio.wait((caller, writer))


def set_deadline(monkeypatch: pytest.MonkeyPatch, ms: int) -> None:
    """So long others wait for a block's seal."""
    monkeypatch.setattr(reserving, "DEADLINE_MS", ms)


def refuse_claimed(delete_many: object) -> object:
    """A deletion that fails for what a claim, or a move, holds."""

    async def fail(wanted: dict[str, object], **options: object) -> object:
        if "claim" in wanted:
            raise AutoReconnect("the connection went")
        return await delete_many(wanted, **options)  # type: ignore[operator]

    return fail
