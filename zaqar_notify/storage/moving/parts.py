"""The parts of a move: the client's queue, and those of its subscriptions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

from zaqar_notify.models import QueueRef
from zaqar_notify.storage.base.transfer import ChangesLost, StoredHead
from zaqar_notify.storage.internal import queues_of_subscription
from zaqar_notify.storage.moving import copying
from zaqar_notify.storage.moving.copying import Stores, Tell
from zaqar_notify.storage.moving.records import Copied, GivenUp, Move, Progress, State
from zaqar_notify.storage.planes import Storage

SUBSCRIPTIONS_AT_ONCE = 100
AT_ONCE = 16
"""Parts that are brought at the same time."""


class Parts:
    """Brings the parts of one move, and notes in its progress how far each is."""

    def __init__(
        self,
        storage: Storage,
        move: Move,
        progress: Progress,
        *,
        now: Callable[[], datetime],
        check_ours: Callable[[], None],
    ) -> None:
        """`check_ours` raises StorageUnavailable if another process may have begun with the move."""
        self._control = storage.control
        self._pools = storage.pools
        self._move = move
        self._ref = move.ref
        self._progress = progress
        self._now = now
        self._check_ours = check_ours
        self._at_once = asyncio.Semaphore(AT_ONCE)

    @property
    def stores(self) -> Stores:
        source = self._pools[self._progress.source].transfer
        target = self._pools[self._move.target].transfer
        if source is None or target is None:
            which = self._progress.source if source is None else self._move.target
            raise GivenUp(State.FAILED, f"Queues can't move to or from the store of pool {which}")
        return Stores(source, target)

    async def begin(self) -> None:
        """Begin with those that are not begun yet."""
        for ref in await self._refs():
            if ref not in self._known:
                begun = await copying.begin(self.stores, self._name, ref)
                if begun is not None:
                    self._progress.parts.append(begun)

    async def copy(self, tell: Tell) -> None:
        for part in self._progress.parts:
            await copying.copy(self.stores, self._name, part, tell)

    async def catch_up(self) -> int:
        """Copy what has changed in all parts; the number of things.

        Raises:
            ChangesLost: The queue must be copied anew.
        """
        return sum(await asyncio.gather(*map(self._catch_up_part, self._progress.parts.copy())))

    async def _catch_up_part(self, part: Copied) -> int:
        try:
            async with self._at_once:
                return await copying.catch_up(self.stores, self._name, part)
        except ChangesLost:
            await self._lose(part)
            return 0

    async def _lose(self, part: Copied) -> None:
        """The subscription is gone, or its queue is another one.

        Raises:
            ChangesLost: It is the client's queue.
        """
        if part.ref == self._ref:
            raise ChangesLost
        await self.stores.target.discard(self._name, part.ref)
        self._progress.parts.remove(part)

    async def copy_rest(self) -> Sequence[tuple[QueueRef, StoredHead]]:
        """Copy the rest of all parts, which stand still, those that came by now too; their heads.

        Raises:
            ChangesLost: The queue must be copied anew.
        """
        rests = await asyncio.gather(*map(self._copy_rest, self._progress.parts.copy()))
        refs = [ref for ref in await self._refs() if ref not in self._known]
        wholes = await asyncio.gather(*map(self._copy_whole, refs))
        return [one for one in (*rests, *wholes) if one is not None]

    async def _copy_rest(self, part: Copied) -> tuple[QueueRef, StoredHead] | None:
        try:
            async with self._at_once:
                return part.ref, await copying.copy_rest(self.stores, self._name, part)
        except ChangesLost:
            await self._lose(part)
            return None

    async def _copy_whole(self, ref: QueueRef) -> tuple[QueueRef, StoredHead] | None:
        async with self._at_once:
            whole = await copying.copy_whole(self.stores, self._name, ref)
        if whole is not None:
            self._progress.parts.append(whole[0])
            return ref, whole[1]
        head = await self.stores.source.head(ref) if ref == self._ref else None
        if head is None:
            return None
        # The queue has no messages, and perhaps never had: at which revision its head was dropped.
        await self.stores.target.prepare(self._name, ref, head.salt)
        return ref, head

    async def activate(self, heads: Sequence[tuple[QueueRef, StoredHead]]) -> None:
        """Let the parts be at the target."""
        target = self.stores.target
        await asyncio.gather(*(target.activate(self._name, *one) for one in heads))

    async def withdraw(self) -> bool:
        """Of an attempt that let the queue be at the target and could not switch: remove it there. Whether there was one.

        This process makes sure that the move is its own after it has learnt which stay that is. So if it sleeps
        before the removal, another process's stay at the target is another one.
        """
        target, is_any = self.stores.target, False
        for ref in await self._refs():
            head = await target.head(ref)
            self._check_ours()
            if head is not None and head.rules is not None:
                await target.drop(ref, head.life)
                is_any = True
        return is_any

    async def take_back(self) -> None:
        """The queue stays at the source: remove what was written to the target."""
        stores, name = self.stores, self._name
        for part in self._progress.parts:
            await stores.source.end(part.ref)
            self._check_ours()
            await stores.target.discard(name, part.ref)

    async def remove(self) -> None:
        """The queue is on the target: remove it from the source."""
        source = self.stores.source
        for part in self._progress.parts:
            await source.end(part.ref)
            await source.drop(part.ref, part.life)

    @property
    def _name(self) -> str:
        return self._progress.name(self._move)

    @property
    def _known(self) -> set[QueueRef]:
        return {part.ref for part in self._progress.parts}

    async def _refs(self) -> Sequence[QueueRef]:
        """The queue, and those of its subscriptions."""
        refs = [self._ref]
        marker: str | None = None
        while True:
            found = await self._control.subscriptions.list(
                self._ref, marker=marker, limit=SUBSCRIPTIONS_AT_ONCE, now=self._now()
            )
            for subscription in found:
                refs += queues_of_subscription(subscription.id)
            if len(found) < SUBSCRIPTIONS_AT_ONCE:
                return refs
            marker = found[-1].id
