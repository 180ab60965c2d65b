"""Answers of a slow source, remembered for a short time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from zaqar_notify.clock import running_seconds
from zaqar_notify.errors import NotifyError, Overloaded

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Remembered(Generic[Key, Value]):
    """Asks the source for a key at most once at a time, and keeps its answers.

    - A known answer is given for `seconds` without asking. Then the source is asked again. If it fails, or gives no
      answer within `patience_seconds`, the known answer goes on, and the source is asked again a second later.
    - None is the answer for a key that the source does not know. It is kept for `unknown_seconds`, apart from the
      known answers: unknown keys push out no known one.
    - `most` bounds the answers of each sort. The answer that was asked for longest ago goes first.
    - At most `most_asking` new keys are asked for at the same time; others wait. Known keys do not wait for them.
    - At most `most_waiting` callers wait for new keys; None: as many as come. Anybody can make up keys.

    It belongs to one event loop.
    """

    def __init__(
        self,
        ask: Callable[[Key], Awaitable[Value | None]],
        *,
        seconds: float,
        unknown_seconds: float,
        most: int,
        most_asking: int = 32,
        most_waiting: int | None = None,
        patience_seconds: float = 1.0,
        now: Callable[[], float] = running_seconds,
    ) -> None:
        """`ask` raises a `NotifyError` when the source gives no answer."""
        self._ask = ask
        self._seconds = seconds
        self._unknown_seconds = unknown_seconds
        self._most = most
        self._most_waiting = most_waiting
        self._waiting = 0
        self._patience_seconds = patience_seconds
        self._now = now
        self._turns = asyncio.Semaphore(most_asking)
        # With each answer the instant at which the source is asked again.
        self._known: dict[Key, tuple[Value, float]] = {}
        self._unknown: dict[Key, float] = {}
        # With each question the instant until which callers wait for it if they have a known answer.
        self._asking: dict[Key, tuple[asyncio.Task[Value | None], float]] = {}

    def fresh(self, key: Key) -> Value | None:
        """The known answer, if the source need not be asked again yet. It costs hot paths less than `get`."""
        known = self._known.get(key)
        return known[0] if known is not None and self._now() < known[1] else None

    async def get(self, key: Key) -> Value | None:
        """The answer for the key; None: the source does not know it.

        Raises:
            NotifyError: The source gave no answer, and none is known.
            Overloaded: Too many callers wait for new keys.
        """
        known = self._known.get(key)
        if known is not None:
            value, ask_at = known
            return value if self._now() < ask_at else await self._again(key, value)
        ask_at = self._unknown.get(key, 0.0)
        if self._now() < ask_at:
            return None
        return await self._new(key)

    def forget(self, key: Key) -> None:
        """Ask the source the next time, also if it is being asked now."""
        self._known.pop(key, None)
        self._unknown.pop(key, None)
        self._asking.pop(key, None)

    async def _new(self, key: Key) -> Value | None:
        if self._most_waiting is not None and self._waiting >= self._most_waiting:
            raise Overloaded
        self._waiting += 1
        try:
            return await asyncio.shield(self._question(key)[0])
        finally:
            self._waiting -= 1

    async def _again(self, key: Key, value: Value) -> Value | None:
        """The source's answer; `value` as long as it gives none.

        While the value has just become old, only the caller that asks waits. If no one asked for longer, a change may
        be long ago, so all callers wait, until the question is `patience_seconds` old.
        """
        if key in self._asking and self._now() < self._known[key][1] + self._patience_seconds:
            return value
        task, until = self._question(key)
        await asyncio.wait((task,), timeout=max(0.0, until - self._now()))
        if task.done() and not isinstance(task.exception(), NotifyError):
            return task.result()
        if key in self._known:
            self._known[key] = (value, self._now() + 1.0)
        return value

    def _question(self, key: Key) -> tuple[asyncio.Task[Value | None], float]:
        question = self._asking.get(key)
        if question is None:
            task = asyncio.create_task(self._asked(key))
            task.add_done_callback(_retrieve)
            question = self._asking[key] = task, self._now() + self._patience_seconds
        return question

    async def _asked(self, key: Key) -> Value | None:
        task = asyncio.current_task()
        try:
            if key in self._known:
                value = await self._ask(key)
            else:
                async with self._turns:
                    value = await self._ask(key)
            if self._is_wanted(key, task):
                self._keep(key, value)
            return value
        finally:
            if self._is_wanted(key, task):
                del self._asking[key]

    def _is_wanted(self, key: Key, task: object) -> bool:
        """Whether the answer counts: after `forget`, it may be out of date."""
        question = self._asking.get(key)
        return question is not None and question[0] is task

    def _keep(self, key: Key, value: Value | None) -> None:
        self._known.pop(key, None)
        self._unknown.pop(key, None)
        if value is None:
            self._unknown[key] = self._now() + self._unknown_seconds
            _drop_oldest(self._unknown, self._most)
        else:
            self._known[key] = (value, self._now() + self._seconds)
            _drop_oldest(self._known, self._most)


def _drop_oldest(kept: dict[Key, Value], most: int) -> None:
    if len(kept) > most:
        del kept[next(iter(kept))]


def _retrieve(task: asyncio.Task[Value]) -> None:
    """The callers of the task may be gone: its error is theirs alone."""
    if not task.cancelled():
        task.exception()
