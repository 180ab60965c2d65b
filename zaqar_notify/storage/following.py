"""Watches that follow a queue when it moves."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Protocol

from zaqar_notify.errors import StorageUnavailable
from zaqar_notify.models import QueueRef
from zaqar_notify.storage.base import Watch
from zaqar_notify.storage.place import Place

LOOK_SECONDS = 1.0
"""How often a caller that waits for a queue looks whether another process has made it."""


class Finder(Protocol):
    """The part of `Places` that a watch uses."""

    is_stopped: bool

    async def find(self, ref: QueueRef) -> Place: ...

    def known(self, ref: QueueRef) -> Place | None: ...

    def forget(self, ref: QueueRef, watch: FollowingWatch) -> None: ...


class FollowingWatch(Watch):
    """A watch of a queue on the store that has it; of a queue that there is not yet, it looks for it."""

    def __init__(
        self,
        places: Finder,
        ref: QueueRef,
        place: Place | None,
        watched: QueueRef,
        *,
        exclusive: bool,
    ) -> None:
        """`watched` is the queue itself, or one of its subscriptions'."""
        self._places = places
        self._ref = ref
        self._watched = watched
        self._exclusive = exclusive
        self._place: Place | None = None
        self._present: Watch | None = None
        self._is_made = asyncio.Event()
        if place is not None:
            self._follow(place)

    async def changed(self, *, timeout_seconds: float) -> bool:
        if self._present is not None:
            return await self._present.changed(timeout_seconds=timeout_seconds)
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._appeared()
        except TimeoutError:
            return False

    async def _appeared(self) -> bool:
        while not self._places.is_stopped:
            self._is_made.clear()
            place = await self._places.find(self._ref)
            if place is self._places.known(self._ref):
                self._follow(place)
                self._places.forget(self._ref, self)
                return True  # A message may have come before this looked.
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._is_made.wait()
        return False

    def wake(self) -> None:
        self._is_made.set()
        if self._present is not None:
            self._present.wake()

    def reopen(self) -> None:
        """Go on where the queue is now, after a wake: a message may have come before this looked."""
        if self._place is None or self._present is None:
            return
        former = self._present
        # A store that is away refuses the next look.
        with suppress(StorageUnavailable):
            self._present = self._open(self._place)
            self._present.wake()
        former.wake()
        former.close()

    def close(self) -> None:
        self._places.forget(self._ref, self)
        if self._place is not None:
            self._place.watches.discard(self)
        if self._present is not None:
            self._present.close()

    def _follow(self, place: Place) -> None:
        self._present = self._open(place)
        self._place = place
        place.watches.add(self)

    def _open(self, place: Place) -> Watch:
        return place.store.messages.watch(self._watched, exclusive=self._exclusive)
