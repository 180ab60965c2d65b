"""Calls that arrive while one is under way are made together in the next."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.storage.gathering import Gathering

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")
Key = TypeVar("Key", bound=Hashable)


class Call(Generic[Ask, Answer]):
    """One caller's question, and the future that its caller waits for."""

    __slots__ = ("_future", "ask")

    def __init__(self, ask: Ask, future: asyncio.Future[Answer]) -> None:
        self.ask = ask
        self._future = future

    @property
    def is_settled(self) -> bool:
        """Answered, failed, or its caller has gone."""
        return self._future.done()

    def answer(self, answer: Answer) -> None:
        if not self._future.done():
            self._future.set_result(answer)

    def fail(self, error: BaseException) -> None:
        if not self._future.done():
            self._future.set_exception(error)


class Together(Generic[Ask, Answer]):
    """Groups of calls, one group at a time, in the order of their arrival.

    `run` answers each call of the group or raises, which fails those it has not answered. It runs in
    a task of its own: a caller that is cancelled takes nothing with it, except a call that no group
    has taken up yet.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Call[Ask, Answer]]], Awaitable[None]],
        *,
        most: int,
        gathering: Gathering | None = None,
    ) -> None:
        """`gathering`: groups wait for callers that it expects; None: they begin at once."""
        self._run = run
        self._most = most
        self._gathering = gathering
        self._waiting: deque[Call[Ask, Answer]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def is_idle(self) -> bool:
        return self._task is None

    async def call(self, ask: Ask) -> Answer:
        if self._closed:
            raise StorageUnavailable("The store is closed")
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.put(Call(ask, future))
        return await future

    def put(self, call: Call[Ask, Answer]) -> None:
        """Let the call be part of the next group."""
        self._waiting.append(call)
        if self._gathering is not None:
            self._gathering.came()
        if self._task is None:
            # The task starts in the next turn of the loop: requests read in this one share it.
            self._task = asyncio.get_running_loop().create_task(self._run_groups())

    async def close(self) -> None:
        """Take no more calls, and finish those there are."""
        self._closed = True
        if self._task is not None:
            await asyncio.wait((self._task,))

    async def _run_groups(self) -> None:
        try:
            while self._waiting:
                if self._gathering is not None:
                    await _gathered(self._gathering)
                group = self._next_group()
                await self._run_group(group)
                if self._gathering is not None:
                    self._gathering.answered(len(group), waiting=len(self._waiting))
        finally:
            self._task = None

    def _next_group(self) -> list[Call[Ask, Answer]]:
        group: list[Call[Ask, Answer]] = []
        while self._waiting and len(group) < self._most:
            call = self._waiting.popleft()
            if not call.is_settled:
                group.append(call)
        return group

    async def _run_group(self, group: list[Call[Ask, Answer]]) -> None:
        if not group:
            return
        try:
            await self._run(group)
        except Exception as error:  # Whatever it is, it is for those who wait, one by one.
            for call in group:
                call.fail(error)


async def all_of(coroutines: Sequence[Coroutine[Any, Any, Answer]]) -> list[Answer]:
    """Run the coroutines beside each other; their results in order. A single one needs no task."""
    if len(coroutines) == 1:
        return [await coroutines[0]]
    return await asyncio.gather(*coroutines)


async def _gathered(gathering: Gathering) -> None:
    may_begin = asyncio.Event()
    gathering.begin(may_begin.set)
    await may_begin.wait()


class TogetherByKey(Generic[Key, Ask, Answer]):
    """Groups of calls of one key each. Those of different keys go on beside each other."""

    def __init__(
        self,
        run: Callable[[Key, Sequence[Call[Ask, Answer]]], Awaitable[None]],
        *,
        most: int,
        gathering: Gathering | None = None,
    ) -> None:
        self._run = run
        self._most = most
        self._gathering = gathering
        self._groups: dict[Key, Together[Ask, Answer]] = {}

    async def call(self, key: Key, ask: Ask) -> Answer:
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Together(
                partial(self._run, key), most=self._most, gathering=self._gathering
            )
        try:
            return await group.call(ask)
        finally:
            if group.is_idle and self._groups.get(key) is group:
                del self._groups[key]

    async def close(self) -> None:
        """Finish the calls there are. Those that still come fail with the connection's closing."""
        await asyncio.gather(*(group.close() for group in self._groups.values()))
