"""Batches: requests that arrive while a command is under way share the next command."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.storage.batch_delay import BatchDelay

RequestT = TypeVar("RequestT")
ResultT = TypeVar("ResultT")
KeyT = TypeVar("KeyT", bound=Hashable)


class BatchItem(Generic[RequestT, ResultT]):
    """A caller's request, and the future that the caller waits for."""

    __slots__ = ("_future", "request")

    def __init__(self, request: RequestT, future: asyncio.Future[ResultT]) -> None:
        self.request = request
        self._future = future

    @property
    def is_done(self) -> bool:
        """Resolved, failed, or given up by its caller."""
        return self._future.done()

    def resolve(self, result: ResultT) -> None:
        if not self._future.done():
            self._future.set_result(result)

    def fail(self, error: BaseException) -> None:
        if not self._future.done():
            self._future.set_exception(error)


class Batcher(Generic[RequestT, ResultT]):
    """Runs requests in batches, one batch at a time, in the order of their arrival.

    `run` resolves each item of the batch or raises, which fails the items that it has not resolved. It
    runs in a task of its own: a caller that is cancelled withdraws its request only while the request
    is not part of a batch yet.
    """

    def __init__(
        self,
        run: Callable[[Sequence[BatchItem[RequestT, ResultT]]], Awaitable[None]],
        *,
        most: int,
        batch_delay: BatchDelay | None = None,
    ) -> None:
        """`batch_delay`: batches wait for the callers that it expects; None: they begin at once."""
        self._run = run
        self._most = most
        self._batch_delay = batch_delay
        self._waiting: deque[BatchItem[RequestT, ResultT]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def is_idle(self) -> bool:
        return self._task is None

    async def call(self, request: RequestT) -> ResultT:
        if self._closed:
            raise StorageUnavailable("The store is closed")
        future: asyncio.Future[ResultT] = asyncio.get_running_loop().create_future()
        self.put(BatchItem(request, future))
        return await future

    def put(self, item: BatchItem[RequestT, ResultT]) -> None:
        """Make the item part of the next batch."""
        self._waiting.append(item)
        if self._batch_delay is not None:
            self._batch_delay.arrived()
        if self._task is None:
            # The task starts in the next turn of the loop: requests read in this one share it.
            self._task = asyncio.get_running_loop().create_task(self._run_batches())

    async def close(self) -> None:
        """Refuse further requests, and finish the present ones."""
        self._closed = True
        if self._task is not None:
            await asyncio.wait((self._task,))

    async def _run_batches(self) -> None:
        try:
            while self._waiting:
                if self._batch_delay is not None:
                    await _begun(self._batch_delay)
                batch = self._next_batch()
                await self._run_batch(batch)
                if self._batch_delay is not None:
                    self._batch_delay.answered(len(batch), waiting=len(self._waiting))
        finally:
            self._task = None

    def _next_batch(self) -> list[BatchItem[RequestT, ResultT]]:
        batch: list[BatchItem[RequestT, ResultT]] = []
        while self._waiting and len(batch) < self._most:
            item = self._waiting.popleft()
            if not item.is_done:
                batch.append(item)
        return batch

    async def _run_batch(self, batch: list[BatchItem[RequestT, ResultT]]) -> None:
        if not batch:
            return
        try:
            await self._run(batch)
        except Exception as error:  # Every caller of the batch gets the error.
            for item in batch:
                item.fail(error)


async def all_of(coroutines: Sequence[Coroutine[Any, Any, ResultT]]) -> list[ResultT]:
    """Run the coroutines beside each other; their results in order. A single one needs no task."""
    if len(coroutines) == 1:
        return [await coroutines[0]]
    return await asyncio.gather(*coroutines)


async def _begun(batch_delay: BatchDelay) -> None:
    may_begin = asyncio.Event()
    batch_delay.start(may_begin.set)
    await may_begin.wait()


class KeyedBatcher(Generic[KeyT, RequestT, ResultT]):
    """A batcher for each key. Batches of different keys run at the same time."""

    def __init__(
        self,
        run: Callable[[KeyT, Sequence[BatchItem[RequestT, ResultT]]], Awaitable[None]],
        *,
        most: int,
        batch_delay: BatchDelay | None = None,
    ) -> None:
        self._run = run
        self._most = most
        self._batch_delay = batch_delay
        self._batchers: dict[KeyT, Batcher[RequestT, ResultT]] = {}

    async def call(self, key: KeyT, request: RequestT) -> ResultT:
        batcher = self._batchers.get(key)
        if batcher is None:
            batcher = self._batchers[key] = Batcher(
                partial(self._run, key), most=self._most, batch_delay=self._batch_delay
            )
        try:
            return await batcher.call(request)
        finally:
            if batcher.is_idle and self._batchers.get(key) is batcher:
                del self._batchers[key]

    async def close(self) -> None:
        """Finish the present requests. Later ones fail, since the connection is closed."""
        await asyncio.gather(*(batcher.close() for batcher in self._batchers.values()))
